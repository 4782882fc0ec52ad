"""A place in, verified closures out: the one object that the node, the verbs and the tests drive."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from d2vpr_ros.describe.features import FeatureExtractor
from d2vpr_ros.loops.closure import Closure, Edge
from d2vpr_ros.loops.consent import expected
from d2vpr_ros.loops.gate import Gate
from d2vpr_ros.loops.measuring import geometry_of, measure
from d2vpr_ros.loops.odometry import edges_of, is_planar
from d2vpr_ros.loops.params import DEFAULT_PARAMS, LoopParams
from d2vpr_ros.loops.past import Past, Place
from d2vpr_ros.loops.runs import Run, RunFinder
from d2vpr_ros.mapping import MapHeader
from d2vpr_ros.multiview import PlaceGeometry

ALONE = "alone: no others agreed with it"
UNSURE = "places that look alike could not be ruled out"
BEYOND_DRIFT = "further off than the odometry can have drifted"

_NEIGHBOURS = 10  # rows beyond those that can be found; they help to triangulate the last of these


class LoopCloser:
    """Takes the places of drives in order and finds which of them were seen before.

    Attributes:
        past: all places so far.
        closures: all that were accepted, thinned; a run has one number.
        closed: run by id of the new place of every closure of an accepted run, thinned or not.
        refused: candidates that became no closure, by reason.
    """

    def __init__(
        self,
        path: Path,
        header: MapHeader,
        features: FeatureExtractor,
        params: LoopParams = DEFAULT_PARAMS,
        aligned: bool = False,
    ) -> None:
        """
        Args:
            path: of the map file with the pictures of the places, each stored before it is taken.
            header: of that map.
            aligned: each session begins where its poses say in the frame of those that are known: candidates there are
                expected, and others are impossible.
        """
        self.past = Past(path, header, params)
        self.closures: list[Closure] = []
        self.closed: dict[int, int] = {}
        self.refused: Counter[str] = Counter()
        self._params, self._features, self._aligned = params, features, aligned
        self._rows: dict[int, int] = {}
        self._runs = RunFinder(self.past, self._rows, params)
        self._gate = Gate(params)
        self._geometry: PlaceGeometry | None = None
        self._accepted = 0

    def know(self, place: Place) -> None:
        """Take a place that later ones may close with, without a search: of a session that stays as it is."""
        self._add(place, is_known=self._aligned)

    def take(self, place: Place) -> list[Closure]:
        """Take the next place of a drive; the closures that are accepted now, of this place and those before it.

        Raises:
            UserError: the map file cannot be read.
        """
        candidates = self.past.candidates(place.descriptor)
        begins = not self.past.places or self.past.places[-1].session != place.session
        row = self._add(place, is_known=self._aligned and begins)
        if candidates is None or candidates.z < self._params.least_z:
            self._count(self._runs.end(float(self.past.way[row])))
            return []
        found = measure(self.past, self._geometry_of(row), row, candidates, self._params)
        if isinstance(found, str):
            self.refused[found] += 1
            return []
        if self._aligned and self._gate.allows(self._rows[found.old], row, found):
            chance = self._gate.chance(row, self.past.findable)
            found = replace(found, probability=expected(found.probability, chance, self._params.most_expected))
        run, ended = self._runs.add(found)
        self._count(ended)
        return self._judge(run)

    def finish(self) -> None:
        """Count the runs that did not come to an end as refused, after the last place."""
        self._count(self._runs.end(float("inf")))

    def edges(self) -> tuple[list[Edge], bool]:
        """The odometry's steps between the places so far, and whether their covariances are the stated ones."""
        return edges_of(self.past, self._params)

    @property
    def is_planar(self) -> bool:
        """Whether the odometry is of a robot on the ground."""
        return is_planar(self.past)

    def _add(self, place: Place, is_known: bool) -> int:
        row = self.past.add(place)
        self._rows[place.id] = row
        if is_known:
            self._gate.place(place.base)
        else:
            begins = self.past.begins[row]
            self._gate.step(None if begins else self.past.places[row - 1].base.inverse() @ place.base)
        return row

    def _judge(self, run: Run) -> list[Closure]:
        """The closures of a run that can be given away now."""
        old, new = (self._rows[place] for place in (run.last.old, run.last.new))
        if not run.number:
            if not self._runs.is_long_enough(run) or not self._runs.is_sure(run):
                return []
            if not self._gate.allows(old, new, run.last):
                run.is_beyond_drift = True
                return []
            self._accepted += 1
            run.number = self._accepted
            self.closed.update((closure.new, run.number) for closure in run.closures)
        self.closed[run.last.new] = run.number
        self._gate.accept(old, new, run.last)
        given = [replace(closure, run=run.number) for closure in self._runs.thinned(run)]
        run.kept += given
        self.closures += given
        return given

    def _count(self, ended: list[Run]) -> None:
        for run in ended:
            if not run.number:
                reason = BEYOND_DRIFT if run.is_beyond_drift else UNSURE if self._runs.is_long_enough(run) else ALONE
                self.refused[reason] += len(run.closures)

    def _geometry_of(self, row: int) -> PlaceGeometry:
        if self._geometry is None:
            self._geometry = geometry_of(self.past, self._features)
        self._geometry.grow(self.past.map(), self.past.way, min(len(self.past), self.past.findable + _NEIGHBOURS))
        return self._geometry
