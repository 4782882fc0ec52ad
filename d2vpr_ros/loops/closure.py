"""What one place tells of another: a step of the odometry, or a closure; and what a solver makes of them.

Covariances are (6, 6) over (x, y, z, rotation about x, y, z), metres and radians, in the axes of the OLD place's base:
the order and the meaning of geometry_msgs/PoseWithCovariance with the old base as its frame. With the error (d, r),
the true T_old_new has the position p + d and the rotation Exp(r) R, where p and R are those stated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from d2vpr_ros.geometry import Array, Pose
from d2vpr_ros.mapping.loop_table import BELIEVED, KINDS, Closure, Kind

__all__ = ["BELIEVED", "KINDS", "Closure", "Edge", "Kind", "Solution", "Solver"]


@dataclass(frozen=True, eq=False)
class Edge:
    """The odometry's step between two places that follow each other.

    Attributes:
        old, new: ids of the places.
        pose: T_old_new of the robot's base.
        covariance: (6, 6); see the module.
    """

    old: int
    new: int
    pose: Pose
    covariance: Array


@dataclass(frozen=True, eq=False)
class Solution:
    """Corrected poses.

    Attributes:
        positions, rotations: (N, 3), (N, 3, 3): T_map_base in the order of the ids given.
        weights: (K,) of the closures in the order given, 0 to 1; equal within a run.
        cost: half the sum of squared Mahalanobis distances at the end, closures by their weights.
    """

    positions: Array
    rotations: Array
    weights: Array
    cost: float


class Solver(Protocol):
    """What `loops.robust.solve` is."""

    def __call__(
        self,
        ids: npt.NDArray[np.int64],
        positions: Array,
        rotations: Array,
        edges: Sequence[Edge],
        closures: Sequence[Closure],
        held: npt.NDArray[np.bool_],
        planar: bool,
    ) -> Solution:
        """The poses that odometry and closures agree on best.

        Args:
            ids: (N,) ascending place ids, each a pose of the graph.
            positions, rotations: (N, 3), (N, 3, 3) T_map_base to start from.
            edges: inliers by definition. Places that no edge joins are joined by closures alone, such as sessions.
            closures: some may be wrong.
            held: (N,) poses that stay as they are. The caller holds at least one of each part that edges and closures
                connect.
            planar: height, roll and pitch are stiff: the odometry is of a robot on the ground.

        Raises:
            UserError: an id of an edge or a closure is not among `ids`.
        """
        ...
