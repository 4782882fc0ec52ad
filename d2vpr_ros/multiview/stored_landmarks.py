"""The landmarks that a map holds already: read when a place comes into question, instead of being made."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass

import numpy as np

from d2vpr_ros.describe.features import FeatureExtractor
from d2vpr_ros.geometry import Pose
from d2vpr_ros.mapping import PlaceMap
from d2vpr_ros.mapping.database import connect
from d2vpr_ros.mapping.landmark_table import PlaceLandmarks, decode, encode, note, read_blob, stored_note
from d2vpr_ros.multiview.landmarks import Landmarks
from d2vpr_ros.multiview.params import GeometryParams

log = logging.getLogger(__name__)

_OF_IMAGES = {
    "least_inliers", "pooled_places", "ground_height_sigma_m", "ground_tilt_sigma_deg", "covariance_factor",
    "ground_most_tilt_deg", "centre_sigma", "kept_views", "kept_landmarks",
}  # fmt: skip
# Those of GeometryParams that landmarks do not depend on.


@dataclass(frozen=True, eq=False)
class StoredLandmarks:
    """Those of one map; open with `open_stored`."""

    place_map: PlaceMap
    usable: bool

    def read(self, row: int) -> Landmarks | None:
        """Those of a place, none of them if it was found to have none; None where nothing usable is stored."""
        if not self.usable:
            return None
        with connect(self.place_map.path) as connection:
            found = decode(read_blob(connection, int(self.place_map.ids[row])))
        return None if found is None else _in_map(found, self.place_map.camera_pose(row))


def open_stored(place_map: PlaceMap, extractor: FeatureExtractor, params: GeometryParams) -> StoredLandmarks:
    """The landmarks in a map. Those made with another feature network or other params are not used, which is logged."""
    with connect(place_map.path) as connection:
        made = stored_note(connection)
    usable = made == note_of(extractor, params)
    if made is not None and not usable:
        log.warning(
            "%s: its landmarks were stored with another feature network or other settings and are not used; "
            "make them again with: d2vpr map landmarks %s",
            place_map.path, place_map.path,
        )  # fmt: skip
    return StoredLandmarks(place_map, usable)


def note_of(extractor: FeatureExtractor, params: GeometryParams) -> str:
    """What landmarks made by these say about themselves (`landmark_table.note`)."""
    of_network = asdict(extractor.identity)
    of_network.pop("projection_fitted_on")  # says nothing about comparability
    return note(of_network, {name: value for name, value in asdict(params).items() if name not in _OF_IMAGES})


def to_blob(landmarks: Landmarks | None, place: Pose) -> bytes:
    """What is stored of a place's landmarks; empty where it has none.

    Args:
        place: T_map_cameraOptical.
    """
    if landmarks is None:
        return b""
    turned = place.rotation.as_matrix()
    relative = (landmarks.positions - place.position) @ turned
    covariances = turned.T @ landmarks.covariances @ turned
    return encode(PlaceLandmarks(relative, covariances, landmarks.pixels, landmarks.descriptors))


def _in_map(found: PlaceLandmarks, place: Pose) -> Landmarks:
    turned = place.rotation.as_matrix()
    positions = np.asarray(found.positions @ turned.T + place.position)
    return Landmarks(positions, turned @ found.covariances @ turned.T, found.descriptors, found.pixels)
