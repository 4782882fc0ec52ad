"""Poses from odometry and closures of which some may be wrong: graduated non-convexity with truncated least squares.

Yang, Antonante, Tzoumas and Carlone, "Graduated Non-Convexity for Robust Spatial Perception" (RA-L 2020), on closures
only: the odometry's edges are inliers. First a run of closures has one weight, for what looks alike looks alike all
along. Then each closure of the runs that stay has its own: in a run of the right places one pose may be a bad one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import Array, Pose
from d2vpr_ros.loops.closure import Closure, Edge, Solution
from d2vpr_ros.loops.elimination import Rows
from d2vpr_ros.loops.graph import Measured, Poses, distances, information_of, optimum

INLIER_PROBABILITY = 0.99
"""A run of n closures is refused where its distances exceed this quantile of chi-squared with 6 n degrees, with 3 n
where the odometry is planar; then one closure as a run of one."""

PLANAR_SIGMA_M, PLANAR_SIGMA_RAD = 1e-3, 3e-4
"""Of height and of tilt, from place to place, of a robot on the ground whose odometry is planar."""

_STEP = 1.4  # by which the cost becomes less convex; the paper's
_ROUNDS = 120  # of that, at most
_STEPS_A_ROUND = 4  # of the solver, from the first poses: those of the round before may lie in a wrong valley
_CERTAIN = 1e-3  # a weight so near to 0 or 1 has settled
_LEAST_SIGMA_M, _LEAST_SIGMA_RAD = 1e-4, 1e-5  # stated covariances may be singular


def solve(
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
        planar: height, roll and pitch are stiff: the odometry is of a robot on the ground. Those of a closure tell how
            the camera stands on the robot, which nobody knows exactly, and count as none.

    Raises:
        UserError: an id of an edge or a closure is not among `ids`, or a covariance is none.
    """
    start = Poses(np.asarray(positions, dtype=np.float64), np.asarray(rotations, dtype=np.float64))
    steps = measured_of(ids, edges, "edge of odometry", planar)
    seen = measured_closures(ids, closures, planar)
    runs = np.unique([one.run for one in closures], return_inverse=True)[1].astype(np.int64)
    degrees = 3 if planar else 6
    poses, weights = _graduated(start, steps, seen, runs, held, degrees)
    kept = np.flatnonzero(weights > 0.5)
    poses, weights[kept] = _graduated(poses, steps, seen.of(kept), np.arange(len(kept)), held, degrees)
    both = joined(steps, seen.weighted(weights))
    poses, cost = optimum(poses, both, held)
    if (weights < 0.5).any():  # wrong closures may have bent the graph into another valley
        other, other_cost = optimum(start, both, held)
        if other_cost < cost:
            poses, cost = other, other_cost
    return Solution(poses.positions, poses.rotations, weights, cost)


def _graduated(
    start: Poses, steps: Measured, seen: Measured, runs: Rows, held: npt.NDArray[np.bool_], degrees: int
) -> tuple[Poses, Array]:
    """Poses near the optimum, and the closures' weights.

    Args:
        degrees: of freedom that a closure tells something of.
    """
    weights: Array = np.ones(len(runs))
    if not len(runs):
        return start, weights
    thresholds = chi2.ppf(INLIER_PROBABILITY, degrees * np.bincount(runs))
    poses, _ = optimum(start, joined(steps, seen), held)
    ratios = np.bincount(runs, distances(poses, seen)) / thresholds
    if ratios.max() <= 1.0:
        return poses, weights
    convexity = 1.0 / (2.0 * float(ratios.max()) - 1.0)
    for _ in range(_ROUNDS):
        of_runs = _weights(ratios, convexity)
        weights = of_runs[runs]
        if ((of_runs < _CERTAIN) | (of_runs > 1.0 - _CERTAIN)).all():
            break
        poses, _ = optimum(start, joined(steps, seen.weighted(weights)), held, _STEPS_A_ROUND)
        ratios = np.bincount(runs, distances(poses, seen)) / thresholds
        convexity *= _STEP
    return poses, (weights > 0.5).astype(np.float64)


def _weights(ratios: Array, convexity: float) -> Array:
    """Of runs, by their distances over the threshold (equation 14 of the paper)."""
    with np.errstate(divide="ignore"):
        between = np.sqrt(convexity * (convexity + 1.0) / ratios) - convexity
    between = np.where(ratios <= convexity / (convexity + 1.0), 1.0, between)
    return np.asarray(np.where(ratios >= (convexity + 1.0) / convexity, 0.0, np.clip(between, 0.0, 1.0)))


def measured_closures(ids: npt.NDArray[np.int64], closures: Sequence[Closure], planar: bool) -> Measured:
    """Closures as arrays; arguments and errors are those of `solve`."""
    level = [replace(one, pose=_level(one.pose)) for one in closures] if planar else closures
    return measured_of(ids, level, "closure", planar=False)


def _level(pose: Pose) -> Pose:
    x, y, _ = pose.position
    forward = pose.rotation.as_matrix()[:, 0]
    return Pose.planar(float(x), float(y), float(np.arctan2(forward[1], forward[0])))


def measured_of(ids: npt.NDArray[np.int64], edges: Sequence[Edge | Closure], what: str, planar: bool) -> Measured:
    """Edges as arrays.

    Args:
        ids: (N,) ascending.
        what: what they are, for messages.

    Raises:
        UserError: as `solve` says.
    """
    ends = np.array([(edge.old, edge.new) for edge in edges], dtype=np.int64).reshape(-1, 2)
    unknown = ~np.isin(ends, ids)
    if unknown.any():
        raise UserError(f"a {what} names place {ends[unknown][0]}, which is not among the places of the map")
    covariances: Array = np.array([edge.covariance for edge in edges], dtype=np.float64).reshape(-1, 6, 6)
    rotations = np.array([edge.pose.rotation.as_matrix() for edge in edges], dtype=np.float64).reshape(-1, 3, 3)
    covariances = covariances + np.diag([_LEAST_SIGMA_M**2] * 3 + [_LEAST_SIGMA_RAD**2] * 3)
    if planar:
        covariances = _stiff(covariances)
    finite = np.nan_to_num(covariances)
    wrong = np.linalg.eigvalsh(finite)[:, 0] <= 0
    wrong |= (finite != covariances).reshape(-1, 36).any(axis=1)
    if wrong.any():
        one = edges[int(np.flatnonzero(wrong)[0])]
        raise UserError(
            f"the {what} from place {one.old} to place {one.new} has a covariance that is none (numbers that are not "
            "finite, or a negative variance); leave it out or give it one"
        )
    rows = np.searchsorted(ids, ends)
    positions = np.array([edge.pose.position for edge in edges], dtype=np.float64).reshape(-1, 3)
    return Measured(rows[:, 0], rows[:, 1], positions, rotations, information_of(covariances, rotations))


def _stiff(covariances: Array) -> Array:
    """With height, roll and pitch as a robot on the ground has them, and nothing to do with the other three."""
    stiff = covariances.copy()
    vertical = [2, 3, 4]
    stiff[:, vertical, :] = 0.0
    stiff[:, :, vertical] = 0.0
    stiff[:, vertical, vertical] = np.square([PLANAR_SIGMA_M, PLANAR_SIGMA_RAD, PLANAR_SIGMA_RAD])
    return stiff


def joined(steps: Measured, seen: Measured) -> Measured:
    """Both, the steps first."""
    return Measured(
        np.concatenate([steps.first, seen.first]),
        np.concatenate([steps.second, seen.second]),
        np.concatenate([steps.positions, seen.positions]),
        np.concatenate([steps.rotations, seen.rotations]),
        np.concatenate([steps.information, seen.information]),
    )
