"""What the pictures of a map prove about an image: inliers, and a metric pose where the map can give one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

from d2vpr_ros.describe.features import FeatureExtractor
from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import Array, Pose
from d2vpr_ros.images.decode import decode_compressed
from d2vpr_ros.mapping import PlaceMap
from d2vpr_ros.mapping.picture import shrink
from d2vpr_ros.multiview.focal import (
    Focal,
    Pair,
    find_pair,
    focal_from_landmarks,
    focal_from_poses,
    joined,
    with_lens_error,
)
from d2vpr_ros.multiview.landmarks import Landmarks, find_landmarks
from d2vpr_ros.multiview.lens import Lens, camera_lens
from d2vpr_ros.multiview.neighbourhood import Neighbourhood
from d2vpr_ros.multiview.params import DEFAULT_PARAMS, GeometryParams
from d2vpr_ros.multiview.resection import Ground, Matched, Resection, match_landmarks, resect
from d2vpr_ros.multiview.stored_landmarks import StoredLandmarks, open_stored
from d2vpr_ros.multiview.two_view import two_view_inliers
from d2vpr_ros.multiview.view import Picture, Points, View, levelled, view_of

_PLACES_FOR_FOCAL, _PAIRS_A_PLACE = 30, 2
_MOST_FOCAL_SIGMA = 0.1  # of the logarithm; an estimate that scatters more is none
_FOCALS_HELD = 15  # estimates of the robot's focal length; then it is known to a percent
_INLIERS_FOR_FOCAL = 40


@dataclass(frozen=True, eq=False)
class Sighting:
    """What an image and one candidate place share.

    Attributes:
        row: of the place in the map.
        rows: of the places whose landmarks were held against the image, the candidate first; empty without landmarks
            or where the image's lens is not known.
        inliers: points that fit one pose, or, without landmarks, one motion between the two pictures.
        share, spread, residual_px: of `Resection`; 0 without a pose.
        pose: T_map_cameraOptical of the image, or None.
        covariance: (6, 6) of the pose in the map frame, the map's own noise included; None without a pose.
        map_noise: (6, 6) of that the map's own, which all poses from these places have in common.
        query_pixels, place_pixels: (N, 2) inliers in the image and, without landmarks, in the place's picture; both at
            the stored size.
        landmarks: (N, 3) of the inliers, map frame; empty without a pose.
    """

    row: int
    rows: tuple[int, ...] = ()
    inliers: int = 0
    share: float = 0.0
    spread: float = 0.0
    residual_px: float = 0.0
    pose: Pose | None = None
    covariance: Array | None = None
    map_noise: Array | None = None
    query_pixels: Points | None = None
    place_pixels: Points | None = None
    landmarks: Array | None = None


class PlaceGeometry:
    """Keeps features and landmarks of the places that came into question last; pictures come from the map's file."""

    def __init__(
        self,
        place_map: PlaceMap,
        extractor: FeatureExtractor,
        params: GeometryParams = DEFAULT_PARAMS,
        way: Array | None = None,
    ) -> None:
        """
        Args:
            way: of `Neighbourhood`, for poses of odometry. Landmarks that the map holds are not used then.
        """
        self.map = place_map
        self.extractor = extractor
        self.params = params
        self._around = Neighbourhood(place_map, params, way)
        self._views: OrderedDict[int, View | None] = OrderedDict()
        self._landmarks: OrderedDict[int, Landmarks | None] = OrderedDict()
        self._map_focals: dict[int, Focal | None] = {}
        self._focals: dict[int, list[Focal]] = {}
        self._pictures: OrderedDict[int, Picture | None] = OrderedDict()

    def grow(self, place_map: PlaceMap, way: Array, candidates: int) -> None:
        """Take a map of the same places in the same rows, and more behind them.

        Args:
            way: of `Neighbourhood`.
            candidates: so many first rows may come into question: their neighbours have to be known.
        """
        self.map = place_map
        if len(self._around.map) < candidates:
            self._around = Neighbourhood(place_map, self.params, way)

    def view(self, rgb: Picture, lens: Lens | None = None) -> View:
        """Look at an image of the robot's, (H, W, 3) uint8 RGB; see `view_of`."""
        return view_of(rgb, self.extractor, lens, self.params)

    def sightings(
        self, view: View, candidates: Sequence[int], mount: Pose | None = None, camera: int = 0
    ) -> tuple[Sighting, ...]:
        """What an image shares with each group of candidates.

        Args:
            candidates: rows of the map, best first. Those near one another are one group: their landmarks are used
                together, and the first stands for all.
            mount: T_base_cameraOptical of the robot's camera, for a robot on the ground; None takes the map's.
            camera: its number; a camera without intrinsics has its focal length estimated and held.
        """
        return tuple(self._sighting(view, group, mount, camera) for group in self._groups(candidates))

    def intrinsics(self, lens: Lens | None, camera: int = 0) -> str:
        """Where the intrinsics of a camera of the robot's are from, in words, for diagnostics."""
        if lens is not None:
            return "camera_info"
        held = self._focals.get(camera)
        return f"estimated ({joined(held).ratio:.3f} of the longer side)" if held else "not known"

    def place_view(self, row: int) -> View | None:
        """A place's picture; None where the map has none that can be read."""
        if row not in self._views:
            self._views[row] = self._look(row)
            if len(self._views) > self.params.kept_views:
                self._views.popitem(last=False)
        self._views.move_to_end(row)
        return self._views[row]

    def landmarks(self, row: int) -> Landmarks | None:
        """A place's landmarks, from the map or made when they are first asked for; None where there are none."""
        if row not in self._landmarks:
            stored = self._stored.read(row) if self._around.way is None else None
            self._landmarks[row] = self.triangulated(row) if stored is None else stored if len(stored) else None
            if len(self._landmarks) > self.params.kept_landmarks:
                self._landmarks.popitem(last=False)
        self._landmarks.move_to_end(row)
        return self._landmarks[row]

    def place_picture(self, row: int) -> Picture | None:
        """A place's levelled picture, which takes no features; None where the map has none that can be read."""
        if row in self._views:
            view = self._views[row]
            return None if view is None else view.levelled
        if row not in self._pictures:
            rgb = self._decoded(row)
            self._pictures[row] = None if rgb is None else levelled(shrink(rgb), self.params.contrast_window)
            if len(self._pictures) > self.params.kept_landmarks:
                self._pictures.popitem(last=False)
        self._pictures.move_to_end(row)
        return self._pictures[row]

    def neighbours(self, row: int) -> npt.NDArray[np.int64]:
        """Rows of the places that help to triangulate a place's landmarks, nearest first."""
        return self._around.neighbours(row)

    def _sighting(self, view: View, group: tuple[int, ...], mount: Pose | None, camera: int) -> Sighting:
        row = group[0]
        rows: tuple[int, ...] = group if self.map.header.metric else ()
        known = [(one, self.landmarks(one), self.place_picture(one)) for one in rows]
        used = [(one, marks, picture) for one, marks, picture in known if marks is not None and picture is not None]
        if used:
            rows = tuple(one for one, _, _ in used)
            matched = match_landmarks(view, [(marks, picture) for _, marks, picture in used], self.params)
            ground = self._around.ground(rows[0], mount)
            found = self._resected(matched, view, ground, camera)
            tilted = found is not None and ground is not None and ground.tilt(found.pose) > self._most_tilt
            if found is not None and not tilted:
                noise = self._around.noise(rows[0])
                covariance = found.covariance + noise
                measures = found.inliers, found.share, found.spread, found.residual_px
                return Sighting(row, rows, *measures, found.pose, covariance, noise, found.pixels, None, found.seen)
        knows_lens = view.lens is not None or bool(self._focals.get(camera))
        rows, place = rows if used and knows_lens else (), self.place_view(row)
        if place is None:
            return Sighting(row, rows)
        seen, stored = two_view_inliers(view, place, self.params)
        return Sighting(row, rows, inliers=len(seen), query_pixels=seen, place_pixels=stored)

    def _resected(self, matched: Matched, view: View, ground: Ground | None, camera: int) -> Resection | None:
        """The pose, by the view's lens or by the focal length that images before this one told."""
        if view.lens is not None:
            return resect(matched, view, ground, self.params)
        held = self._focals.setdefault(camera, [])
        near = joined(held) if held else None
        if len(held) < _FOCALS_HELD:
            found = focal_from_landmarks(matched, view, ground, near, self.params)
            if found is not None and found[1].inliers >= _INLIERS_FOR_FOCAL and found[0].sigma <= _MOST_FOCAL_SIGMA:
                held.append(found[0])
                near = joined(held)
        if near is None:
            return None
        seen = view.with_lens(near.lens(*view.levelled.shape[::-1]))
        resection = resect(matched, seen, ground, self.params)
        if resection is None:
            return None
        covariance = with_lens_error(resection, near, matched, view, ground, self.params)
        return replace(resection, covariance=covariance)

    def _groups(self, candidates: Sequence[int]) -> list[tuple[int, ...]]:
        groups: list[list[int]] = []
        near: list[set[int]] = []
        for row in dict.fromkeys(int(row) for row in candidates):
            for group, around in zip(groups, near, strict=True):
                if row in around:
                    if len(group) < self.params.pooled_places:
                        group.append(row)
                    break
            else:
                groups.append([row])
                near.append({int(other) for other in self.neighbours(row)})
        return [tuple(group) for group in groups]

    def triangulated(self, row: int) -> Landmarks | None:
        """A place's landmarks, made anew; None where there are none."""
        rows = [row, *(int(other) for other in self.neighbours(row))]
        seen = [(one, view) for one in rows if (view := self.place_view(one)) is not None and view.lens is not None]
        if len(seen) < 2 or seen[0][0] != row:
            return None
        poses = [self.map.camera_pose(one) for one, _ in seen]
        return find_landmarks([view for _, view in seen], poses, self._around.priors(row), self.params)

    def _look(self, row: int) -> View | None:
        rgb = self._decoded(row)
        return None if rgb is None else self.view(rgb, self.place_lens(row))

    def _decoded(self, row: int) -> Picture | None:
        jpeg = self.map.picture(row)
        if jpeg is None:
            return None
        try:
            return decode_compressed(np.frombuffer(jpeg, np.uint8))
        except (UserError, cv2.error):  # OpenCV has limits of its own. `d2vpr map check` names the picture
            return None

    def place_lens(self, row: int) -> Lens | None:
        """Of the camera that saw a place: as stated, else with the focal length that the map's poses tell."""
        number = int(self.map.cameras[row])
        camera = self.map.camera_table[number]
        stated = camera_lens(camera)
        if stated is not None or not self.map.header.metric:
            return stated
        if number not in self._map_focals:
            self._map_focals[number] = None  # while it is estimated, the views have no lens
            self._map_focals[number] = self._estimated_focal(number)
            self._views.clear()
        focal = self._map_focals[number]
        return None if focal is None else focal.lens(camera.width, camera.height)

    def _estimated_focal(self, number: int) -> Focal | None:
        rows = np.flatnonzero(self.map.cameras == number)
        pairs: list[Pair] = []
        for row in rows[np.unique(np.linspace(0, len(rows) - 1, _PLACES_FOR_FOCAL).astype(np.int64))]:
            first = self.place_view(int(row))
            same = [int(other) for other in self.neighbours(int(row)) if self.map.cameras[other] == number]
            for other in same[:_PAIRS_A_PLACE] if first is not None else []:
                second = self.place_view(other)
                motion = self.map.camera_pose(other).inverse() @ self.map.camera_pose(int(row))
                pair = (
                    find_pair(first, second, motion, self.params) if second is not None and first is not None else None
                )
                pairs += [] if pair is None else [pair]
        camera = self.map.camera_table[number]
        return focal_from_poses(pairs, camera.width, camera.height, _MOST_FOCAL_SIGMA)

    @cached_property
    def _stored(self) -> StoredLandmarks:
        return open_stored(self.map, self.extractor, self.params)

    @cached_property
    def _most_tilt(self) -> float:
        return float(np.radians(self.params.ground_most_tilt_deg))


def open_geometry(place_map: PlaceMap, features: str = "xfeat", device: str = "auto") -> PlaceGeometry | None:
    """What compares images with a map; None where the map has no pictures.

    Args:
        features: weights of the feature network, and device: as `FeatureExtractor.open`; tensorrt, for networks of one
            picture size, counts as auto.

    Raises:
        UserError: as `FeatureExtractor.open`.
    """
    if not place_map.picture_sizes().any():
        return None
    return PlaceGeometry(place_map, FeatureExtractor.open(features, device="auto" if device == "tensorrt" else device))
