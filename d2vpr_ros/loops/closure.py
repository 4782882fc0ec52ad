"""What one place tells of another: a step of the odometry, or a closure; and what a solver makes of them.

Covariances are (6, 6) over (x, y, z, rotation about x, y, z), metres and radians, in the axes of the OLD place's base:
the order and the meaning of geometry_msgs/PoseWithCovariance with the old base as its frame. With the error (d, r),
the true T_old_new has the position p + d and the rotation Exp(r) R, where p and R are those stated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from d2vpr_ros.geometry import Array, Pose

Kind = Literal["metric", "rotation", "place"]
"""How much a closure knows: a metric pose from landmarks; the heading from two pictures, and the position that both
stand about one place; that alone, with a loose heading. In this order a closure helps less, and its covariance says
so."""

KINDS: tuple[Kind, ...] = ("metric", "rotation", "place")


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
class Closure:
    """A place that was seen before.

    Attributes:
        old, new: ids of the places; the new one was seen later.
        pose: T_old_new of the robot's base.
        covariance: (6, 6); see the module.
        kind: what it rests on.
        probability: that both are the same place, 0 to 1.
        inliers: points that fit the metric pose; 0 without one.
        run: number of the run of agreeing closures that it came with; a solver keeps or refuses a run as a whole.
        weight: 0 to 1, how much the last solution believed it; 1 before the first.
    """

    old: int
    new: int
    pose: Pose
    covariance: Array
    kind: Kind
    probability: float
    inliers: int
    run: int
    weight: float = 1.0


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
