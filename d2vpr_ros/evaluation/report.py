"""The report of an evaluation: a page with the table, the track, and pairs of query and match."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from d2vpr_ros.evaluation.page import data_uri, write_page
from d2vpr_ros.evaluation.plot import trajectory_svg, widest_axes
from d2vpr_ros.evaluation.scoring import ScoredQuery, Summary
from d2vpr_ros.geometry import distance, turn

_PAIRS_OF_EACH = {"false": 8, "correct": 6, "missed": 4, "silent": 2}
_HEADLINES = {
    "false": "False answers",
    "correct": "Correct answers",
    "missed": "Missed: the map has the place, the localizer was silent",
    "silent": "Silent where the map has no place",
}


@dataclass(frozen=True)
class Pair:
    """A query beside its best candidate, as data URIs, and a caption."""

    query: str
    match: str
    caption: str
    verdict: str


def write_report(
    path: Path,
    title: str,
    facts: Sequence[tuple[str, str]],
    summary: Summary,
    queries: Sequence[ScoredQuery],
    places: npt.NDArray[np.float64],
    query_jpeg: Callable[[int], bytes | None],
    place_jpeg: Callable[[int], bytes | None],
) -> None:
    """Write the page.

    Args:
        facts: what was run: (name, value) rows; strings from maps and bags are escaped.
        places: (N, 3) base positions of the map, metres.
        query_jpeg: the picture of a query by its stamp.
        place_jpeg: the picture of a place by its id.
    """
    groups = []
    for verdict, headline in _HEADLINES.items():
        chosen = _spread([q for q in queries if q.verdict(summary.radius_m) == verdict], _PAIRS_OF_EACH[verdict])
        pairs = [_pair(query, verdict, query_jpeg, place_jpeg) for query in chosen]
        if pairs:
            groups.append((headline, pairs))
    write_page(
        path,
        "report",
        title,
        facts=facts,
        rows=summary.rows(),
        summary=summary,
        svg=Markup(trajectory_svg(places, queries, summary.radius_m, widest_axes(places))),  # numbers only
        groups=groups,
    )


def _pair(
    query: ScoredQuery,
    verdict: str,
    query_jpeg: Callable[[int], bytes | None],
    place_jpeg: Callable[[int], bytes | None],
) -> Pair:
    matched = None if query.place_id is None else place_jpeg(query.place_id)
    if query.answer is not None:
        turned = np.degrees(turn(query.answer, query.truth))
        caption = f"off by {distance(query.answer, query.truth):.2f} m and {turned:.0f}°"
    elif query.best is not None:
        caption = f"best candidate {np.linalg.norm(query.best - query.truth.position):.2f} m away, not accepted"
    else:
        caption = "no candidate"
    return Pair(data_uri(query_jpeg(query.stamp_ns)), data_uri(matched), caption, verdict)


def _spread(queries: list[ScoredQuery], count: int) -> list[ScoredQuery]:
    """At most `count`, evenly over the drive."""
    if len(queries) <= count:
        return queries
    return [queries[int(index)] for index in np.linspace(0, len(queries) - 1, count)]
