"""Is a closure possible at all, by how far the odometry can have drifted?"""

from __future__ import annotations

import numpy as np

from d2vpr_ros.geometry import Pose, turn
from d2vpr_ros.loops.closure import Closure
from d2vpr_ros.loops.params import DEFAULT_PARAMS, LoopParams

_KNOWN = -1  # the piece of places that are where they are known to be


class Gate:
    """Follows where the robot is by odometry and the closures accepted so far: a coarse stand-in for the graph.

    Error is linear in way: wheel scale and gyro bias are not white. The gate is loose on purpose.
    """

    def __init__(self, params: LoopParams = DEFAULT_PARAMS) -> None:
        self._params = params
        self._poses: list[Pose] = []
        self._ways: list[float] = []  # metres along the graph to the first place of the piece
        self._pieces: list[int] = []  # poses of two pieces have no frame in common

    def step(self, move: Pose | None) -> None:
        """Take the next place.

        Args:
            move: T_before_place by odometry; None where it begins anew.
        """
        if move is None:
            self._poses.append(Pose.identity())
            self._ways.append(0.0)
            self._pieces.append(len(self._poses))
        else:
            self._poses.append(self._poses[-1] @ move)
            self._ways.append(self._ways[-1] + float(np.linalg.norm(move.position)))
            self._pieces.append(self._pieces[-1])

    def place(self, pose: Pose) -> None:
        """Take the next place where it is known to be, in the frame of all such places.

        Args:
            pose: T_map_base.
        """
        self._poses.append(pose)
        self._ways.append(0.0)
        self._pieces.append(_KNOWN)

    def chance(self, new: int, findable: int) -> float:
        """The share of the places among the first so many rows that lie where a row may be: so likely does a wrong
        candidate lie there, too. 1 where nothing tells it.
        """
        pieces = np.array(self._pieces[:findable])
        if self._pieces[new] != _KNOWN or not (pieces == _KNOWN).any():
            return 1.0
        away_m = np.linalg.norm([pose.position - self._poses[new].position for pose in self._poses[:findable]], axis=1)
        most_m = self._params.gate_sigmas * (self._params.gate_m + self._params.drift * self._ways[new])
        return max(1, int(((pieces == _KNOWN) & (away_m <= most_m)).sum())) / findable

    def allows(self, old: int, new: int, closure: Closure) -> bool:
        """Whether a closure between two rows lies within what drift allows."""
        if self._pieces[old] != self._pieces[new]:
            return True
        expected = self._poses[old].inverse() @ self._poses[new]
        way_m = self._ways[old] + self._ways[new]
        off_m = float(np.linalg.norm(expected.position - closure.pose.position))
        most_m = self._params.gate_sigmas * (self._params.gate_m + self._params.drift * way_m)
        most_deg = self._params.gate_sigmas * (self._params.gate_deg + self._params.drift_deg * way_m)
        return off_m <= most_m and float(np.degrees(turn(expected, closure.pose))) <= most_deg

    def accept(self, old: int, new: int, closure: Closure) -> None:
        """Go on from where a closure puts the robot; `new` is the last row."""
        self._poses[new] = self._poses[old] @ closure.pose
        self._ways[new] = (
            min(self._ways[new], self._ways[old]) if self._pieces[new] == self._pieces[old] else (self._ways[old])
        )
        self._pieces[new] = self._pieces[old]
