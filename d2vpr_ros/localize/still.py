"""Odometry that says the robot stands while its pictures move on, as a driver that hangs does."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from d2vpr_ros.geometry import Pose, distance, turn
from d2vpr_ros.mapping import PlaceMap

_STANDS_M, _STANDS_RAD = 0.05, 0.05
_CHANGE = 1.5  # of that between neighbouring places; the camera's noise makes a tenth
_SAMPLE = 300


def neighbour_similarity(place_map: PlaceMap) -> float:
    """The median cosine between places that follow each other; 1 where there are none."""
    steps = place_map.steps[:: max(1, len(place_map.steps) // _SAMPLE)]
    if not len(steps):
        return 1.0
    before, after = place_map.descriptors[steps[:, 0]], place_map.descriptors[steps[:, 1]]
    return float(np.median((before * after).sum(axis=1)))


class StillWatch:
    """Compares each picture with the first one since the odometry last moved.

    Attributes:
        contradicts: the newest pictures show that the robot moved, and its odometry that it stands.
    """

    def __init__(self, alike: float) -> None:
        """
        Args:
            alike: `neighbour_similarity` of the map.
        """
        self.contradicts = False
        self._most = _CHANGE * max(1.0 - alike, 1e-3)
        self._since: tuple[Pose, npt.NDArray[np.float32]] | None = None

    def see(self, descriptor: npt.NDArray[np.float32], odometry: Pose | None) -> None:
        """Take an image into account: its (D,) descriptor of unit length, and T_odom_base at its stamp if known."""
        since = self._since
        if odometry is None:
            self.contradicts, self._since = False, None
        elif since is None or distance(since[0], odometry) > _STANDS_M or turn(since[0], odometry) > _STANDS_RAD:
            self.contradicts, self._since = False, (odometry, descriptor)
        else:
            self.contradicts |= 1.0 - float(since[1] @ descriptor) > self._most
