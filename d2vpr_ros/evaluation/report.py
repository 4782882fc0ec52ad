"""The report of an evaluation: a page with the table, drawings, and pairs of query and match."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from d2vpr_ros.evaluation.page import data_uri, write_page
from d2vpr_ros.evaluation.player import Player
from d2vpr_ros.evaluation.scoring import ScoredQuery

HEADLINES = {
    "false": "False answers",
    "correct": "Correct answers",
    "missed": "Missed: the map has the place, the localizer was silent",
    "silent": "Silent where the map has no place",
}


@dataclass(frozen=True)
class Drawing:
    """A drawing made of numbers only.

    Attributes:
        kind: `track`, `curve`, `loops` or `reliability`; what it shows is said below it.
        title: what it is of, where there are several; empty else.
    """

    kind: str
    svg: str
    title: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of a name and as many values as there are columns; the columns have names where there are several."""

    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[str]]]


@dataclass(frozen=True)
class Group:
    """Queries that are shown beside their best candidates."""

    headline: str
    queries: Sequence[ScoredQuery]


@dataclass(frozen=True)
class _Pair:
    """A query beside its best candidate, as data URIs, and a caption."""

    query: str
    match: str
    caption: str
    verdict: str


def write_report(
    path: Path,
    title: str,
    lead: str,
    table: Table,
    drawings: Sequence[Drawing],
    groups: Sequence[Group],
    facts: Sequence[tuple[str, str]],
    unit: str,
    query_jpeg: Callable[[ScoredQuery], bytes | None],
    place_jpeg: Callable[[int], bytes | None],
    player: Player | None = None,
) -> None:
    """Write the page.

    Args:
        facts: what was run: (name, value) rows. As all text here they are escaped: they hold names from maps and bags.
        unit: of how far an answer is off: m or frames.
        query_jpeg: the picture of a query.
        place_jpeg: the picture of a place by its id.
        player: the drive image by image; None leaves it out.

    Raises:
        OSError: the file cannot be written.
    """
    shown = [
        (group.headline, [_pair(query, unit, query_jpeg, place_jpeg) for query in group.queries])
        for group in groups
        if group.queries
    ]
    drawn = [(drawing.kind, Markup(drawing.svg), drawing.title) for drawing in drawings]  # numbers only
    known = {"lead": lead, "table": table, "drawings": drawn, "groups": shown, "facts": facts, "player": player}
    write_page(path, "report", title, ["player.js"] if player else [], **known)


def spread(queries: Sequence[ScoredQuery], verdict: str, count: int) -> Group:
    """At most `count` of one verdict, evenly over the drive."""
    of_it = [query for query in queries if query.verdict == verdict]
    step = max(1, len(of_it) - 1) / max(1, count - 1)
    few = of_it if len(of_it) <= count else [of_it[int(number * step)] for number in range(count)]
    return Group(HEADLINES[verdict], few)


def _pair(
    query: ScoredQuery,
    unit: str,
    query_jpeg: Callable[[ScoredQuery], bytes | None],
    place_jpeg: Callable[[int], bytes | None],
) -> _Pair:
    matched = None if query.place_id is None else place_jpeg(query.place_id)
    return _Pair(data_uri(query_jpeg(query)), data_uri(matched), _caption(query, unit), query.verdict)


def _caption(query: ScoredQuery, unit: str) -> str:
    if query.place_id is None:
        return "no candidate"
    if query.off is None:
        said = "the map has no such place"
    else:
        said = f"off by {query.off:.2f} m" if unit == "m" else f"off by {query.off:g} frames"
    if query.accepted:
        return said if query.turned_deg is None else f"{said} and {query.turned_deg:.0f}°"
    return f"{said}, not answered"
