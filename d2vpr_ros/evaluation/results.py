"""An evaluation as people and programs get it: lines for the terminal, JSON, CSV, a page."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from d2vpr_ros.bags.reader import open_bag
from d2vpr_ros.describe.features import FeatureExtractor
from d2vpr_ros.evaluation.charts import curve_svg, reliability_svg
from d2vpr_ros.evaluation.curve import Curve, precision_recall, thinned
from d2vpr_ros.evaluation.kidnapping import Recovery, recovery
from d2vpr_ros.evaluation.measures import STAGES, Measures, ScoredDrive, measure
from d2vpr_ros.evaluation.offline import pictures
from d2vpr_ros.evaluation.player import make_player
from d2vpr_ros.evaluation.plot import trajectory_svg, widest_axes
from d2vpr_ros.evaluation.reliability import ReliabilityBin, reliability
from d2vpr_ros.evaluation.report import Drawing, Group, Table, write_report
from d2vpr_ros.evaluation.scoring import ScoredQuery
from d2vpr_ros.mapping import PlaceMap
from d2vpr_ros.mapping.summary import facts

_POINTS = 200  # of a curve that is written or drawn
_SHOWN = 12
_POSE = ("x", "y", "z", "qx", "qy", "qz", "qw")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Attributes:
    drives: one for each recording.
    radius, unit: this near is right, in m or frames.
    """

    drives: Sequence[ScoredDrive]
    radius: float
    unit: str

    @cached_property
    def queries(self) -> list[ScoredQuery]:
        """Of all drives."""
        return [query for drive in self.drives for query in drive.queries]

    @cached_property
    def together(self) -> Measures:
        return measure(self.drives, self.unit)

    @cached_property
    def of_each(self) -> list[Measures]:
        return [measure([drive], self.unit) for drive in self.drives]

    @cached_property
    def recovery(self) -> Recovery | None:
        """Of all robots that were carried somewhere else, if any were."""
        every = [one for drive in self.drives for one in drive.kidnappings]
        return recovery(every) if every else None

    @cached_property
    def table(self) -> Table:
        """All numbers: together, and of each drive where there are several."""
        parts = [self.together, *self.of_each] if len(self.drives) > 1 else [self.together]
        columns = [part.rows(self.radius, self.unit) for part in parts]
        names = ["together", *(drive.name for drive in self.drives)] if len(self.drives) > 1 else []
        return Table(names, [(rows[0][0], [value for _, value in rows]) for rows in zip(*columns, strict=True)])

    @cached_property
    def bins(self) -> list[ReliabilityBin]:
        """How often answers of a probability are right, of all drives together."""
        return reliability_of(self.queries)


def reliability_of(queries: Sequence[ScoredQuery]) -> list[ReliabilityBin]:
    """How often answers of a probability are right, given or not."""
    return reliability(np.array([query.probability for query in queries]), np.array([query.right for query in queries]))


def lines(evaluation: Evaluation) -> list[str]:
    """The tables for a terminal."""
    return [
        "",
        *table_lines(evaluation.table),
        "",
        *reliability_lines(evaluation.bins),
        "",
        *([f"  {evaluation.recovery.line()}", ""] if evaluation.recovery else []),
    ]


def table_lines(table: Table) -> list[str]:
    """A table for a terminal."""
    cells = [*([("", table.columns)] if table.columns else []), *table.rows]
    widths = [max(map(len, column)) for column in zip(*(values for _, values in cells), strict=True)]
    return [
        f"  {name:28}" + "".join(f"  {value:>{width}}" for value, width in zip(values, widths, strict=True))
        for name, values in cells
    ]


def reliability_lines(bins: Sequence[ReliabilityBin]) -> list[str]:
    """How often answers of a probability are right, for a terminal."""
    return [
        f"  {'probability':>12}{'right':>8}{'images':>8}",
        *(f"  {one.probability:12.3f}{one.right:8.3f}{one.count:8}" for one in bins),
    ]


def write_json(path: Path, evaluation: Evaluation, place_map: PlaceMap) -> None:
    """All numbers; null where there was nothing to count."""
    curve = precision_recall(evaluation.queries)
    model = place_map.header.model
    result = {
        **evaluation.together.as_json(),
        "radius": evaluation.radius,
        "unit": evaluation.unit,
        "map": place_map.path.name,
        "places": len(place_map),
        "weights": f"{model.architecture} {model.weights_sha256[:12]}",
        "precision_recall": None if curve is None else _points(curve),
        "kidnapping": evaluation.recovery and asdict(evaluation.recovery),
        "reliability": [asdict(one) for one in evaluation.bins],
        "bags": [
            {
                "bag": drive.name,
                "truth": drive.truth,
                "odometry": drive.odometry,
                "gps": drive.gps,
                **measures.as_json(),
            }
            for drive, measures in zip(evaluation.drives, evaluation.of_each, strict=True)
        ],
    }
    path.write_text(json.dumps(finite(result), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def finite(value: Any) -> Any:
    """The same with None for numbers that are none: JSON has no other word for them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: finite(part) for name, part in value.items()}
    return [finite(part) for part in value] if isinstance(value, list | tuple) else value


def _points(curve: Curve) -> dict[str, list[float]]:
    few = thinned(curve, _POINTS)
    return {name: values.tolist() for name, values in vars(few).items()}


def write_csv(path: Path, evaluation: Evaluation) -> None:
    """A line for each image; empty where something is not known."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = map(_columns, evaluation.queries)
        first = next(rows)
        writer = csv.DictWriter(file, list(first))
        writer.writeheader()
        writer.writerows([first, *rows])


def _columns(query: ScoredQuery) -> dict[str, object]:
    truth, answer = (pose.numbers if pose else (None,) * 7 for pose in (query.truth, query.answer))
    columns = {
        "bag": query.drive,
        "image_topic": query.image_topic,
        "stamp_ns": query.stamp_ns,
        "state": query.state,
        "reject_reason": query.reject_reason,
        "verdict": query.verdict,
        "accepted": int(query.accepted),
        "right": int(query.right),
        "answerable": int(query.answerable),
        "probability": query.probability,
        "off": query.off,
        "turned_deg": query.turned_deg,
        "place_id": query.place_id,
        "similarity": query.similarity,
        "first_right_rank": query.found.index(True) + 1 if True in query.found else None,
        **{f"truth_{name}": value for name, value in zip(_POSE, truth, strict=True)},
        **{f"answer_{name}": value for name, value in zip(_POSE, answer, strict=True)},
        **{f"{stage}_ms": 1e3 * query.seconds[stage] for stage in STAGES},
    }
    return {name: finite(value) for name, value in columns.items()}


def write_page(
    path: Path, evaluation: Evaluation, place_map: PlaceMap, features: FeatureExtractor | None = None
) -> None:
    """The page with the tables, the drawings, the player and the worst mistakes.

    Args:
        features: finds the inliers that the player draws; without, there is no player.
    """
    groups = worst(evaluation.queries)
    moments = [moment for drive in evaluation.drives for moment in drive.moments]
    shown = [query for group in groups for query in group.queries] + [moment.query for moment in moments]
    jpegs = {}
    for drive in evaluation.drives:
        wanted = {(query.image_topic, query.stamp_ns) for query in shown if query.drive == drive.name}
        with open_bag(drive.path, drive.part) as bag:
            found = pictures(bag, wanted, place_map.header.image_range)
        jpegs.update({(drive.name, *image): jpeg for image, jpeg in found.items()})
    rows = {int(number): row for row, number in enumerate(place_map.ids)}
    together = evaluation.together
    recordings = [
        (
            drive.name,
            f"images on {', '.join(drive.image_topics)}, odometry {drive.odometry or 'none'}, GPS "
            f"{drive.gps or 'none'}, {drive.truth}",
        )
        for drive in evaluation.drives
    ]

    def query_jpeg(query: ScoredQuery) -> bytes | None:
        return jpegs.get((query.drive, query.image_topic, query.stamp_ns))

    player = None
    if moments and features:
        counts = together.frames, together.unscored_frames
        player = make_player(moments, *counts, place_map, features, evaluation.unit, query_jpeg)
    carried = [("kidnapping", evaluation.recovery.line())] if evaluation.recovery else []
    write_report(
        path,
        f"How well the robot is localized in {place_map.path.name}",
        f"{together.accepted} answers to {together.frames} images, {together.correct} of them right.",
        evaluation.table,
        _drawings(evaluation, place_map),
        groups,
        [*recordings, *carried, *facts(place_map).items()],
        evaluation.unit,
        query_jpeg=query_jpeg,
        place_jpeg=lambda place_id: place_map.picture(rows[place_id]),
        player=player,
    )


def worst(queries: Sequence[ScoredQuery]) -> list[Group]:
    """The mistakes that count most, first; then what was nearly one."""
    surest = sorted(queries, key=lambda query: -query.probability)
    furthest = sorted(queries, key=lambda query: -(query.off or 0.0))

    def few(of: Sequence[ScoredQuery], *, accepted: bool, right: bool) -> list[ScoredQuery]:
        return [query for query in of if (query.accepted, query.right) == (accepted, right)][:_SHOWN]

    return [
        Group("Wrong answers, highest probability first", few(surest, accepted=True, right=False)),
        Group("Wrong and not answered, highest probability first", few(surest, accepted=False, right=False)),
        Group("Right but not answered, lowest probability first", few(surest[::-1], accepted=False, right=True)),
        Group("Right answers, largest error first", few(furthest, accepted=True, right=True)),
    ]


def _drawings(evaluation: Evaluation, place_map: PlaceMap) -> list[Drawing]:
    places, _ = place_map.base_poses()
    axes = (0, 1) if place_map.header.origin else widest_axes(places)
    tracks = [
        Drawing("track", trajectory_svg(places, drive.queries, axes), drive.name if len(evaluation.drives) > 1 else "")
        for drive in evaluation.drives
        if any(query.truth for query in drive.queries)
    ]
    curve = precision_recall(evaluation.queries)
    curves = [] if curve is None else [Drawing("curve", curve_svg(thinned(curve, _POINTS)))]
    return [*tracks, *curves, Drawing("reliability", reliability_svg(evaluation.bins))]
