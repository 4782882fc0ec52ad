"""What closures of a drive are worth, beside the true poses of its places."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation
from scipy.stats import chi2

from d2vpr_ros.evaluation.counting import quantile, share
from d2vpr_ros.evaluation.trajectory_error import absolute_error, relative_errors, step_error
from d2vpr_ros.geometry import Array
from d2vpr_ros.loops.closure import BELIEVED, Closure
from d2vpr_ros.loops.elimination import Rows
from d2vpr_ros.loops.graph import Poses

REVISIT_SPACINGS = 1.1
"""Spacings within which a place was visited before: its nearest earlier place may be half a spacing ahead, and the
robot one beside."""
REVISIT_DEG = 45.0
"""By which the camera may be turned then: pictures turned further share too little."""
LONG_VISIT_M = 20.0
RIGHT_M, RIGHT_DEG = 1.0, 10.0
"""A closure is wrong if its pose is further off. One without depth knows no better than places are apart: it may be
off by `RIGHT_SPACINGS`."""
RIGHT_SPACINGS = 2.5

_GAP_SPACINGS = 4.0  # a visit goes on over as much way that is no revisit


@dataclass(frozen=True, eq=False)
class Revisits:
    """Which places were seen before, as the true poses have it.

    Attributes:
        earlier: (N,) the nearest earlier place that shows the same, by row; -1 where there is none.
        visits: rows of each stretch that was seen before, in order.
        visit_m: (V,) way along each.
    """

    earlier: Rows
    visits: Sequence[Rows]
    visit_m: Array

    @staticmethod
    def of(truth: Poses, sights: Array, spacing_m: float, least_way_m: float) -> Revisits:
        """Of the places of a drive, in order.

        Args:
            sights: (N, 3, 3) rotations of the cameras that saw them, in the frame of the truth.
            least_way_m: way between a place and an earlier one that counts.
        """
        steps = np.linalg.norm(np.diff(truth.positions, axis=0, prepend=truth.positions[:1]), axis=1)
        way = np.cumsum(steps)
        earlier = np.full(len(way), -1, dtype=np.int64)
        for row in range(len(way)):
            count = int(np.searchsorted(way, way[row] - least_way_m, side="right"))
            away = np.linalg.norm(truth.positions[:count] - truth.positions[row], axis=1)
            cosines = (np.einsum("nij,ij->n", sights[:count], sights[row]) - 1) / 2
            away[cosines < np.cos(np.radians(REVISIT_DEG))] = np.inf
            if count and away.min() <= REVISIT_SPACINGS * spacing_m:
                earlier[row] = int(away.argmin())
        rows = np.flatnonzero(earlier >= 0)
        ends = np.flatnonzero(np.diff(way[rows]) > _GAP_SPACINGS * spacing_m) + 1
        visits = [part for part in np.split(rows, ends) if len(part)]
        return Revisits(earlier, visits, np.array([way[part[-1]] - way[part[0]] for part in visits]))


@dataclass(frozen=True, eq=False)
class ScoredClosure:
    """A closure and how far it is from the truth.

    Attributes:
        off_m, off_deg: of its pose.
        true_m: distance of the two places.
        distance: squared Mahalanobis distance of the truth by its covariance.
        kept: by the pose graph.
    """

    closure: Closure
    off_m: float
    off_deg: float
    true_m: float
    distance: float
    right: bool
    kept: bool


@dataclass(frozen=True, eq=False)
class LoopScores:
    """Attributes:
    ids: (N,) of the places in order.
    truth, before, after: base poses of those, the latter two as odometry and as the corrected map have them.
    closures: of all runs that were accepted.
    closed: (N,) places with a closure, thinned out or not, of a run that is right and kept.
    spacing_m: of places.
    seconds: that closing and solving took.
    """

    ids: Rows
    truth: Poses
    before: Poses
    after: Poses
    revisits: Revisits
    closures: Sequence[ScoredClosure]
    closed: npt.NDArray[np.bool_]
    spacing_m: float
    seconds: float

    @property
    def found(self) -> list[bool]:
        """Of each visit, whether a right closure that the graph kept is of it."""
        new = {one.closure.new for one in self.closures if one.right and one.kept}
        return [bool(new & set(self.ids[visit].tolist())) for visit in self.revisits.visits]

    def numbers(self) -> dict[str, float | int | None]:
        """All measures; None where there was nothing to count."""
        kept = [one for one in self.closures if one.kept]
        runs = {one.closure.run for one in self.closures}
        wrong_runs = {one.closure.run for one in kept if not one.right}
        metric = [one for one in kept if one.closure.kind == "metric" and one.right]
        revisited = np.concatenate([*self.revisits.visits, np.zeros(0, dtype=np.int64)])
        long = [found for found, way in zip(self.found, self.revisits.visit_m, strict=True) if way > LONG_VISIT_M]
        limit = float(chi2.ppf(0.95, 6))
        before, after = (absolute_error(one.positions, self.truth.positions) for one in (self.before, self.after))
        step_before, step_after = (step_error(one, self.truth) for one in (self.before, self.after))
        return {
            "places": len(self.ids),
            "way_m": float(np.linalg.norm(np.diff(self.truth.positions, axis=0), axis=1).sum()),
            "revisited": len(revisited),
            "revisited_closed": share(self.closed[revisited].tolist()),
            "visits": len(self.revisits.visits),
            "visits_found": sum(self.found),
            "long_visits": len(long),
            "long_visits_found": sum(long),
            "closures": len(self.closures),
            "runs": len(runs),
            "runs_refused": len(runs - {one.closure.run for one in kept}),
            "wrong_closures": sum(not one.right for one in kept),
            "wrong_runs": len(wrong_runs),
            "closure_precision": share(one.right for one in kept),
            "closure_error_m": quantile((one.off_m for one in metric), 0.5),
            "closure_error_p95_m": quantile((one.off_m for one in metric), 0.95),
            "closure_error_deg": quantile((one.off_deg for one in metric), 0.5),
            "closure_error_p95_deg": quantile((one.off_deg for one in metric), 0.95),
            "closure_coverage_95": share(one.distance <= limit for one in metric),
            "trajectory_error_before_m": before.rigid_m,
            "trajectory_error_after_m": after.rigid_m,
            "trajectory_error_ratio": after.rigid_m / before.rigid_m if before.rigid_m > 0 else None,
            "scaled_error_before_m": before.scaled_m,
            "scaled_error_after_m": after.scaled_m,
            "step_error_before_m": step_before[0],
            "step_error_after_m": step_after[0],
            "step_error_before_deg": step_before[1],
            "step_error_after_deg": step_after[1],
            "revisit_error_p95_before_m": quantile(self.revisit_errors(self.before).tolist(), 0.95),
            "revisit_error_p95_m": quantile(self.revisit_errors(self.after).tolist(), 0.95),
            "closing_s": self.seconds,
            "closing_ms_a_place": 1e3 * self.seconds / len(self.ids) if len(self.ids) else None,
        }

    def revisit_errors(self, trajectory: Poses) -> Array:
        """(M,) metres: how wrong each place that was seen before lies to the earlier place."""
        new = np.flatnonzero(self.revisits.earlier >= 0)
        old = self.revisits.earlier[new]
        return relative_errors(trajectory.between(old, new), self.truth.between(old, new))[0]


def score(
    ids: Rows,
    truth: Poses,
    sights: Array,
    before: Poses,
    after: Poses,
    closures: Sequence[Closure],
    closed: Collection[int],
    spacing_m: float,
    least_way_m: float,
    seconds: float,
) -> LoopScores:
    """Compare what was found with the truth; `LoopScores` has the arguments' meanings.

    Args:
        closures: with the weights of the graph.
        closed: ids of the places of which a closure was accepted, published or thinned out.
        sights, least_way_m: see `Revisits.of`.
    """
    rows = {int(place): row for row, place in enumerate(ids)}
    scored = [_scored(one, rows, truth, spacing_m) for one in closures if one.old in rows and one.new in rows]
    is_closed = np.isin(ids, list(closed))
    kept = {one.closure.run for one in scored if one.kept}
    for run in {one.closure.run for one in scored}:
        new = [rows[one.closure.new] for one in scored if one.closure.run == run]
        if run not in kept or any(one.kept and not one.right for one in scored if one.closure.run == run):
            is_closed[min(new) : max(new) + 1] = False
    is_closed[[rows[one.closure.new] for one in scored if not one.kept]] = False
    revisits = Revisits.of(truth, sights, spacing_m, least_way_m)
    return LoopScores(ids, truth, before, after, revisits, scored, is_closed, spacing_m, seconds)


def _scored(closure: Closure, rows: dict[int, int], truth: Poses, spacing_m: float) -> ScoredClosure:
    true = truth.between(np.array([rows[closure.old]]), np.array([rows[closure.new]]))
    said = Poses(closure.pose.position[None], closure.pose.rotation.as_matrix()[None])
    off_m, off_deg = (float(values[0]) for values in relative_errors(said, true))
    # As the covariance has it: the true rotation is Exp(error) times the stated one, in the old place's axes.
    turn = Rotation.from_matrix(true.rotations[0] @ said.rotations[0].T).as_rotvec()
    error = np.concatenate([true.positions[0] - said.positions[0], turn])
    distance = float(error @ np.linalg.solve(closure.covariance, error))
    most_m = RIGHT_M if closure.kind == "metric" else max(RIGHT_M, RIGHT_SPACINGS * spacing_m)
    right = off_m <= most_m and (closure.kind == "place" or off_deg <= RIGHT_DEG)
    true_m = float(np.linalg.norm(true.positions[0]))
    return ScoredClosure(closure, off_m, off_deg, true_m, distance, right, kept=closure.weight >= BELIEVED)
