"""One moment of a drive on the map, as SVG: the belief over the places, the answer with its ellipse, the truth."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from d2vpr_ros.evaluation.drawing import (
    ANSWER,
    CANDIDATE,
    PLACE,
    At,
    Points,
    arrow,
    dots,
    ellipse,
    frame,
    open_plan,
    outline,
    plan_axes,
)
from d2vpr_ros.evaluation.moments import Believed
from d2vpr_ros.evaluation.plot import COLOURS, scale_bar
from d2vpr_ros.evaluation.scoring import ScoredQuery
from d2vpr_ros.geometry import Array
from d2vpr_ros.mapping import PlaceMap

TRUTH = "#1d2730"

_PLACES_DRAWN = 4000  # at most: more are one line of ink
_NEAR_PLACES = 8  # steps between places that the near plan reaches, each way
_SHAPE = 0.55  # height of the near plan over its width


class Plans:
    """Draws moments on one map, all in the same frame."""

    def __init__(self, place_map: PlaceMap, queries: Sequence[ScoredQuery]) -> None:
        """
        Args:
            queries: all that will be drawn: the frame has room for their truths and answers.
        """
        self.map = place_map
        self.metric = place_map.header.metric
        self.axes = plan_axes(place_map)
        self.queries = queries
        poses = [pose for query in queries for pose in (query.truth, query.answer) if pose is not None]
        others = [pose.position[self.axes] for pose in poses] if self.metric else []
        self.at, self._scale, self._height = frame(np.concatenate([self.places, np.reshape(others, (-1, 2))]))

    @cached_property
    def places(self) -> Points:
        """(N, 2) where the places are drawn: their bases in metres, or a row of numbers for each session."""
        if self.metric:
            return np.asarray(self.map.base_poses()[0][:, self.axes])
        numbers = self.map.positions[:, 0]
        sessions = np.unique(self.map.sessions, return_inverse=True)[1].reshape(-1)
        gap = max(1.0, float(np.ptp(numbers)) / (4 * max(2, int(sessions.max()) + 1)))
        return np.column_stack([numbers, -gap * sessions])

    def whole(self) -> str:
        """The map, and the truth of every image, in the colour of its verdict; `data-moment` is the image's number."""
        drawn = self.places[:: -(-len(self.places) // _PLACES_DRAWN)]
        parts = [open_plan(self._height, "the map from above"), *dots(self.at, drawn, 2.0, PLACE)]
        for number, query in enumerate(self.queries):
            if query.truth is not None and self.metric:
                x, y = self.at(query.truth.position[self.axes])
                colour = COLOURS[query.verdict]
                fill = colour if query.accepted else "#fff"
                where = f'cx="{x:.1f}" cy="{y:.1f}" r="3.5"'
                parts.append(f'<circle data-moment="{number}" {where} fill="{fill}" stroke="{colour}"/>')
        return "".join([*parts, scale_bar(self._scale, self._height) if self.metric else "", "</svg>"])

    def now(self, query: ScoredQuery, believed: Believed) -> str:
        """What lies over `whole` at one moment: a drawing of the same frame."""
        return "".join([open_plan(self._height, "belief"), *self._moment(self.at, query, believed), "</svg>"])

    def near(self, query: ScoredQuery, believed: Believed) -> str:
        """What is around the truth, or, where nobody knows it, around what the localizer held to be likeliest.

        Empty in a map without metres, and where nothing is known.
        """
        middle = self._middle(query, believed)
        if not self.metric or middle is None:
            return ""
        shown = [middle]
        if query.answer is not None:
            shown.append(query.answer.position[self.axes])
            if query.covariance is not None:
                shown += [*outline(shown[-1], query.covariance[np.ix_(self.axes, self.axes)])]
        reach = max(_NEAR_PLACES * (self.map.spacing_m or 1.0), 1.15 * float(np.abs(np.array(shown) - middle).max()))
        half = np.array([reach, reach * _SHAPE])
        at, scale, height = frame(np.array([middle - half, middle + half]))
        inside = (np.abs(self.places - middle) <= 1.3 * half).all(axis=1)  # what is cut off at the edge, too
        parts = [open_plan(height, "around the robot"), *dots(at, self.places[inside], 3.0, PLACE)]
        return "".join([*parts, *self._moment(at, query, believed), scale_bar(scale, height), "</svg>"])

    def _middle(self, query: ScoredQuery, believed: Believed) -> Array | None:
        if query.truth is not None:
            return query.truth.position[self.axes]
        if query.answer is not None:
            return query.answer.position[self.axes]
        if believed.would_be is not None:
            return believed.would_be[self.axes]
        return self.places[believed.rows[0]] if believed.rows else None

    def _moment(self, at: At, query: ScoredQuery, believed: Believed) -> list[str]:
        """The likeliest places, the larger and darker the likelier; the answer, or a ring where it would have been."""
        parts = []
        for row, belief in zip(believed.rows, believed.beliefs, strict=True):
            x, y = at(self.places[row])
            share = min(max(belief, 0.0), 1.0)
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{3 + 9 * share**0.5:.1f}" fill="{CANDIDATE}" '
                f'fill-opacity="{0.2 + 0.6 * share**0.5:.2f}"/>'
            )
        if not self.metric:
            return parts
        if query.answer is not None:
            if query.covariance is not None:
                covariance = query.covariance[np.ix_(self.axes, self.axes)]
                parts += ellipse(at, query.answer.position[self.axes], covariance, ANSWER)
        elif believed.would_be is not None:
            x, y = at(believed.would_be[self.axes])
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="7" fill="none" stroke="{ANSWER}" stroke-width="2.5" '
                'stroke-dasharray="4 3"/>'
            )
        if query.truth is not None:
            parts += arrow(at, query.truth, self.axes, TRUTH)
        if query.answer is not None:
            parts += arrow(at, query.answer, self.axes, ANSWER)
        return parts
