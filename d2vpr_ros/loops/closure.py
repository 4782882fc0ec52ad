"""What one place tells of another: a step of the odometry, or a closure; and what a solver makes of them.

Covariances are (6, 6) over (x, y, z, rotation about x, y, z), metres and radians, in the axes of the OLD place's base:
the order and the meaning of geometry_msgs/PoseWithCovariance with the old base as its frame. With the error (d, r),
the true T_old_new has the position p + d and the rotation Exp(r) R, where p and R are those stated.
"""

from __future__ import annotations

from dataclasses import dataclass

from d2vpr_ros.geometry import Array, Pose
from d2vpr_ros.mapping.loop_table import BELIEVED, KINDS, Closure, Kind

__all__ = ["BELIEVED", "KINDS", "Closure", "Edge", "Kind", "Solution"]


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
        weights: (K,) of the closures in the order given, 0 or 1.
        cost: half the sum of squared Mahalanobis distances at the end, closures by their weights.
    """

    positions: Array
    rotations: Array
    weights: Array
    cost: float
