"""Runs of closures that agree with one another: one closure may be chance, several along a way are none.

Two closures agree if going from the one old place to the new one by either way ends at the same spot (pairwise
consistency: Mangelsson et al., "Pairwise Consistent Measurement Set Maximization", ICRA 2018), checked between
neighbours only, where odometry has not drifted yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from d2vpr_ros.geometry import Pose
from d2vpr_ros.loops.closure import Closure
from d2vpr_ros.loops.params import DEFAULT_PARAMS, LoopParams
from d2vpr_ros.loops.past import Past

_LAST = 3  # closures of a run that a new one has to agree with
_BEST = 3  # closures of a run whose probabilities count


@dataclass(eq=False)
class Run:
    """Closures that agree, in the order of their new places.

    Attributes:
        number: of an accepted run; 0 before.
        kept: of an accepted run, the closures that were given away.
        is_beyond_drift: it was long and sure enough, but further off than the odometry can have drifted.
    """

    closures: list[Closure]
    number: int = 0
    is_beyond_drift: bool = False
    kept: list[Closure] = field(default_factory=list)

    @property
    def last(self) -> Closure:
        return self.closures[-1]

    @property
    def is_metric(self) -> bool:
        return any(closure.kind == "metric" for closure in self.closures)

    def probability(self, way_m: float, alike_m: float) -> float:
        """That the run is right: the mean of the log-odds of its best closures, and what its length adds.

        Args:
            way_m: that the run lies along.
            alike_m: way over which places that are not the same may look alike; a longer run is so much less chance.
        """
        best = sorted((closure.probability for closure in self.closures), reverse=True)[:_BEST]
        odds = np.log(np.clip(best, 1e-9, 1 - 1e-9) / (1 - np.clip(best, 1e-9, 1 - 1e-9)))
        total = float(np.mean(odds)) + max(0.0, float(np.log(max(way_m, 1e-9) / alike_m)))
        return float(1 / (1 + np.exp(-total)))


class RunFinder:
    """Sorts closures into runs as they come."""

    def __init__(self, past: Past, rows: Mapping[int, int], params: LoopParams = DEFAULT_PARAMS) -> None:
        """
        Args:
            rows: of the past, by id of the place; grows with it.
        """
        self._past, self._rows, self._params = past, rows, params
        self.open: list[Run] = []

    def add(self, closure: Closure) -> tuple[Run, list[Run]]:
        """The run that a closure belongs to, and the runs that ended before it."""
        ended = self.end(self._way(closure.new))
        for run in sorted(self.open, key=lambda one: -len(one.closures)):
            if all(self._agree(before, closure) for before in run.closures[-_LAST:]):
                run.closures.append(closure)
                return run, ended
        run = Run([closure])
        self.open.append(run)
        return run, ended

    def end(self, way_m: float) -> list[Run]:
        """Close the runs that a place at this way is too far from; those."""
        reach_m = self._params.run_way_spacings * self._past.spacing_m
        ended = [run for run in self.open if way_m - self._way(run.last.new) > reach_m]
        self.open = [run for run in self.open if run not in ended]
        return ended

    def is_sure(self, run: Run) -> bool:
        """Whether a run is of the same places, as far as its pictures tell."""
        return run.probability(self.way_of(run), self._params.alike_m) >= self._params.least_probability

    def way_of(self, run: Run) -> float:
        """Metres from the first new place of a run to its last."""
        return self._way(run.last.new) - self._way(run.closures[0].new)

    def is_long_enough(self, run: Run) -> bool:
        """Whether a run is no chance, as far as its length tells."""
        least = self._params.least_run if run.is_metric else self._params.least_run_places
        way_m = self.way_of(run)
        least_m = self._params.least_run_way_spacings * self._past.spacing_m
        return len(run.closures) >= least and way_m >= least_m

    def thinned(self, run: Run) -> list[Closure]:
        """The closures of a run that are new and worth giving away: some spacings apart, metric ones first."""
        apart_m = self._params.publish_spacings * self._past.header.keyframe_spacing_m
        chosen = []
        last_m = self._way(run.kept[-1].new) if run.kept else -np.inf
        for closure in run.closures:
            way_m = self._way(closure.new)
            if way_m - last_m >= apart_m and (closure.kind == "metric" or not run.is_metric):
                chosen.append(closure)
                last_m = way_m
        return chosen

    def _agree(self, first: Closure, second: Closure) -> bool:
        params = self._params
        old = self._step(first.old, second.old)
        new = self._step(first.new, second.new)
        if old is None or new is None:
            return False
        by_old, by_new = old @ second.pose, first.pose @ new
        way_m = float(np.linalg.norm(old.position) + np.linalg.norm(new.position))
        sigmas = [np.sqrt(np.trace(part)) for one in (first, second) for part in (one.covariance[:3, :3],)]
        turns = [np.sqrt(np.trace(one.covariance[3:, 3:])) for one in (first, second)]
        most_m = params.agree_m + params.agree_share * way_m + float(np.hypot(*sigmas))
        most_rad = np.radians(params.agree_deg) + float(np.hypot(*turns))
        off_m = float(np.linalg.norm(by_old.position - by_new.position))
        off_rad = float((by_old.rotation.inv() * by_new.rotation).magnitude())
        return off_m <= most_m and off_rad <= most_rad

    def _step(self, first: int, second: int) -> Pose | None:
        """T_first_second by odometry; None where it began anew between or the places are too far apart."""
        a, b = self._rows[first], self._rows[second]
        reach_m = 2 * self._params.run_way_spacings * self._past.spacing_m
        if abs(float(self._past.way[a] - self._past.way[b])) > reach_m:
            return None
        return self._past.places[a].base.inverse() @ self._past.places[b].base

    def _way(self, place: int) -> float:
        return float(self._past.way[self._rows[place]])
