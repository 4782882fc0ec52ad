"""Pairs of places that look alike, and how far a transform between their maps leaves them apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from d2vpr_ros.geometry import Pose
from d2vpr_ros.mapping.index import Index
from d2vpr_ros.mapping.place_map import PlaceMap

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

WITHIN_SPACINGS = 3.0
"""Matches confirm a transform that brings them this close, in spacings of the coarser map: a match finds the nearest
place, and the other drive may have gone a lane beside it."""
WITHIN_DEG = 30.0
"""And this close in direction."""


@dataclass(frozen=True, eq=False)
class Matches:
    """Camera poses of matched places: (M, 3) positions and rotations in the map and in the other one."""

    rows: Rows
    at: Array
    turned: Rotation
    other_at: Array
    other_turned: Rotation
    spacing_m: float

    @staticmethod
    def of(place_map: PlaceMap, other: PlaceMap, rows: Rows) -> Matches:
        return Matches(
            rows,
            place_map.positions[rows[:, 0]],
            Rotation.from_quat(place_map.quaternions[rows[:, 0]]),
            other.positions[rows[:, 1]],
            Rotation.from_quat(other.quaternions[rows[:, 1]]),
            max(place_map.spacing_m, other.spacing_m),
        )

    def off(self, transform: Pose) -> tuple[Array, Array]:
        """(M,) metres and degrees left between the matched cameras."""
        rotation = transform.rotation
        off_m = np.linalg.norm(rotation.apply(self.other_at) + transform.position - self.at, axis=1)
        return off_m, np.degrees((self.turned.inv() * (rotation * self.other_turned)).magnitude())

    def confirming(self, transform: Pose) -> npt.NDArray[np.bool_]:
        off_m, off_deg = self.off(transform)
        return (off_m <= WITHIN_SPACINGS * self.spacing_m) & (off_deg <= WITHIN_DEG)


def mutual_matches(place_map: PlaceMap, other: PlaceMap) -> Rows:
    """(M, 2) rows of the map and of the other one that look most alike, each to the other."""
    _, nearest = Index.of(place_map.descriptors).search(other.descriptors, 1)
    _, back = Index.of(other.descriptors).search(place_map.descriptors, 1)
    rows, other_rows = nearest[:, 0], np.arange(len(other))
    mutual = back[rows, 0] == other_rows
    return np.column_stack([rows[mutual], other_rows[mutual]])
