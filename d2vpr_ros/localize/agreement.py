"""How well the robot's pictures agree with those of the places it is believed to be at, along its way."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from d2vpr_ros.geometry import Array, scale_camera_matrix
from d2vpr_ros.localize.distortion import known_distortion
from d2vpr_ros.localize.tracker import Standing
from d2vpr_ros.localize.verification import Features, Picture, compare, extract, extract_stored
from d2vpr_ros.mapping import PlaceMap

# Fewer inliers are chance and say no more against a place, more say no more for it (models/bench/verification.py).
_CHANCE, _PLENTY = 10, 120
LEAST, MOST = float(np.log1p(_CHANCE)), float(np.log1p(_PLENTY))
"""As little and as much as pictures agree."""

_NEWEST = 0.3  # share of the newest picture in the mean along the way
_SAME_WAY = 6.0  # spacings from answer to answer; further apart it is another way
_NEAR = 3.0  # spacings; the place compared is the one of these that looks most like the image
_KEPT = 64  # places whose features are kept


@dataclass(frozen=True, eq=False)
class Compared:
    """An image and the place it was compared with.

    Attributes:
        row: of the place in the map.
        inliers, rotation: of `Verification`.
    """

    row: int
    inliers: int
    rotation: Rotation | None


class Agreement:
    """Keeps the mean along the way; pictures come from the map's file.

    Attributes:
        last: the newest comparison; None before the first and after `forget`.
    """

    def __init__(self, place_map: PlaceMap) -> None:
        self._map = place_map
        self._places: OrderedDict[int, Features | None] = OrderedDict()
        self._camera: tuple[Array, int, int, Sequence[float]] | None = None
        self.forget()

    def use_camera(self, k: Array | None, width: int, height: int, model: str = "", d: Sequence[float] = ()) -> None:
        """(3, 3) intrinsics of the images to come, at that size; None where not known.

        Args:
            model, d: distortion as in sensor_msgs/CameraInfo; under another model than plumb_bob and
                rational_polynomial the intrinsics count as not known.
        """
        known = known_distortion(model, d)
        self._camera = None
        if k is not None and known is not None and min(width, height) > 0:
            self._camera = k, width, height, known

    def forget(self) -> None:
        """Begin a new way."""
        self.last: Compared | None = None
        self._at: Array | None = None
        self._mean = LEAST

    def seen(self, rgb: Picture) -> Features:
        """The features of an image of the robot's, (H, W, 3) uint8."""
        if self._camera is None:
            return extract(rgb)
        k, width, height, d = self._camera
        return extract(rgb, scale_camera_matrix(k, rgb.shape[1] / width, rgb.shape[0] / height), d)

    def take(self, seen: Features, descriptor: npt.NDArray[np.float32], standing: Standing) -> float | None:
        """Compare an image with the place of the answer that looks most like it.

        Args:
            seen: the image's features.
            descriptor: (D,) of the image.

        Returns:
            The mean along the way of the logarithm of 1 + inliers, newer ones counting more, LEAST to MOST. None where
            the map has no picture of the place.
        """
        row = self._most_alike(descriptor, standing)
        stored = self._features(row)
        if stored is None:
            self.last = None
            return None
        found = compare(seen, stored)
        value = float(np.log1p(np.clip(found.inliers, _CHANCE, _PLENTY)))
        reach_m = _SAME_WAY * self._map.spacing_m
        on_the_way = self._at is not None and np.linalg.norm(standing.position - self._at) <= reach_m
        self._mean = _NEWEST * value + (1 - _NEWEST) * self._mean if on_the_way else value
        self._at = standing.position
        self.last = Compared(row, found.inliers, found.rotation)
        return self._mean

    def _most_alike(self, descriptor: npt.NDArray[np.float32], standing: Standing) -> int:
        positions = self._map.positions[standing.ranked]
        gaps = np.linalg.norm(positions - self._map.positions[standing.best], axis=1)
        near = standing.ranked[gaps <= _NEAR * self._map.spacing_m]
        return int(near[(self._map.descriptors[near] @ descriptor).argmax()])

    def _features(self, row: int) -> Features | None:
        if row not in self._places:
            camera, jpeg = self._map.camera_table[int(self._map.cameras[row])], self._map.picture(row)
            d = known_distortion(camera.distortion_model, camera.d)
            k = None if camera.k is None or d is None else np.reshape(camera.k, (3, 3))
            self._places[row] = None if jpeg is None else extract_stored(jpeg, k, d or ())
            if len(self._places) > _KEPT:
                self._places.popitem(last=False)
        self._places.move_to_end(row)
        return self._places[row]
