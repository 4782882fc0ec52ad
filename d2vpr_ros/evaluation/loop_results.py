"""An evaluation of loop closures as people and programs get it: lines for the terminal, JSON, CSV, a page."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from d2vpr_ros.evaluation.drawing import dots, frame, open_plan
from d2vpr_ros.evaluation.loop_scoring import LONG_VISIT_M, LoopScores, ScoredClosure
from d2vpr_ros.evaluation.plot import scale_bar, widest_axes
from d2vpr_ros.evaluation.report import Drawing, Table, write_report
from d2vpr_ros.evaluation.results import finite, table_lines
from d2vpr_ros.evaluation.table import DEGREES, METRES, MILLISECONDS, PERCENT, SECONDS
from d2vpr_ros.evaluation.trajectory_error import absolute_error
from d2vpr_ros.geometry import Array

TRUE, BEFORE, AFTER, WRONG = "#9aa7b4", "#d9480f", "#1f6fd6", "#d0342c"

_TO_2: Callable[[float], str] = "{:.2f}".format
_ROWS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("places", "places", str),
    ("way_m", "way", "{:.0f} m".format),
    ("revisited", "places seen before", str),
    ("revisited_closed", "  of them closed", PERCENT),
    ("visits", "visits", str),
    ("visits_found", "  of them found", str),
    ("long_visits", f"visits over {LONG_VISIT_M:g} m", str),
    ("long_visits_found", "  of them found", str),
    ("closures", "closures", str),
    ("wrong_closures", "  wrong", str),
    ("closure_precision", "precision of closures", PERCENT),
    ("runs", "runs of closures", str),
    ("wrong_runs", "  wrong", str),
    ("runs_refused", "  refused by the graph", str),
    ("closure_error_m", "median closure error", METRES),
    ("closure_error_p95_m", "95 % of closures within", METRES),
    ("closure_error_deg", "median closure turn error", DEGREES),
    ("closure_error_p95_deg", "95 % of turns within", DEGREES),
    ("closure_coverage_95", "truth in 95 % ellipsoid", PERCENT),
    ("trajectory_error_before_m", "trajectory error, odometry", METRES),
    ("trajectory_error_after_m", "  corrected", METRES),
    ("trajectory_error_ratio", "  corrected / odometry", _TO_2),
    ("scaled_error_before_m", "with scale aligned, odometry", METRES),
    ("scaled_error_after_m", "  corrected", METRES),
    ("step_error_before_m", "place to place, odometry", "{:.3f} m".format),
    ("step_error_after_m", "  corrected", "{:.3f} m".format),
    ("step_error_before_deg", "turn to place, odometry", "{:.2f}°".format),
    ("step_error_after_deg", "  corrected", "{:.2f}°".format),
    ("revisit_error_p95_before_m", "95 % of revisits, odometry", METRES),
    ("revisit_error_p95_m", "  corrected", METRES),
    ("closing_s", "closing took", SECONDS),
    ("closing_ms_a_place", "  of that, a place", MILLISECONDS),
)


def table(scores: LoopScores) -> Table:
    """All numbers as people read them."""
    numbers = scores.numbers()
    written = ((label, numbers[key], form) for key, label, form in _ROWS)
    return Table([], [(label, ["none" if value is None else form(value)]) for label, value, form in written])


def lines(scores: LoopScores, refused: Mapping[str, int]) -> list[str]:
    """The table for a terminal, and why candidates became no closure."""
    reasons = [f"  refused: {count} candidates, {reason}" for reason, count in sorted(refused.items())]
    return ["", *table_lines(table(scores)), "", *reasons]


def write_json(path: Path, scores: LoopScores, refused: Mapping[str, int], facts: Mapping[str, str]) -> None:
    """All numbers, the visits, and what was run; null where there was nothing to count."""
    visits = [
        {"first_place": int(scores.ids[rows[0]]), "last_place": int(scores.ids[rows[-1]]), "m": way, "found": found}
        for rows, way, found in zip(scores.revisits.visits, scores.revisits.visit_m.tolist(), scores.found, strict=True)
    ]
    result = {**scores.numbers(), "visit_list": visits, "refused": dict(refused), **facts}
    path.write_text(json.dumps(finite(result), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_csv(path: Path, scores: LoopScores) -> None:
    """A line for each closure; no line but the header without closures."""
    names = (
        "old_place", "new_place", "kind", "run", "probability", "inliers", "kept", "right", "off_m", "off_deg",
        "true_m", "mahalanobis", "x", "y", "z", "qx", "qy", "qz", "qw",
    )  # fmt: skip
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(map(_columns, scores.closures))


def _columns(one: ScoredClosure) -> Sequence[object]:
    closure = one.closure
    judged = int(one.kept), int(one.right), one.off_m, one.off_deg, one.true_m, one.distance**0.5
    known = closure.old, closure.new, closure.kind, closure.run, closure.probability, closure.inliers
    return *known, *judged, *closure.pose.numbers


def write_page(
    path: Path, scores: LoopScores, name: str, refused: Mapping[str, int], facts: Sequence[tuple[str, str]]
) -> None:
    """The page with the table and both trajectories.

    Args:
        name: of the recording.
        facts: what was run.
    """
    numbers = scores.numbers()
    before, after = numbers["trajectory_error_before_m"], numbers["trajectory_error_after_m"]
    lead = (
        f"{numbers['visits_found']} of {numbers['visits']} visits found, {numbers['wrong_closures']} of "
        f"{numbers['closures']} closures wrong. The trajectory was off by {before:.2f} m, now by {after:.2f} m."
    )
    reasons = [("refused", f"{count} candidates, {reason}") for reason, count in sorted(refused.items())]
    write_report(
        path,
        f"Loop closures of {name}",
        lead,
        table(scores),
        [Drawing("loops", trajectories_svg(scores))],
        [],
        [*facts, *reasons],
        "m",
        query_jpeg=lambda query: None,
        place_jpeg=lambda place: None,
    )


def trajectories_svg(scores: LoopScores) -> str:
    """An SVG element: the true track, the odometry's and the corrected one, both laid onto it; closures as lines."""
    truth = scores.truth.positions
    before, after = (absolute_error(one.positions, truth).rigid for one in (scores.before, scores.after))
    axes = list(widest_axes(truth))
    at, scale, height = frame(np.concatenate([truth, before, after])[:, axes])
    parts = [open_plan(height, "trajectories")]

    def line(positions: Array, colour: str, width: float) -> None:
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(at, positions[:, axes]))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width:g}"/>')

    line(truth, TRUE, 5.0)
    line(before, BEFORE, 1.2)
    line(after, AFTER, 1.6)
    rows = {int(place): row for row, place in enumerate(scores.ids)}
    for one in scores.closures:
        ends = after[[rows[one.closure.old], rows[one.closure.new]]][:, axes]
        if one.right and one.kept:
            parts += dots(at, ends[1:], 2.6, AFTER)
        elif one.kept:
            (x, y), (u, v) = map(at, ends)
            parts.append(f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{u:.1f}" y2="{v:.1f}" stroke="{WRONG}"/>')
    return "".join([*parts, scale_bar(scale, height), "</svg>"])
