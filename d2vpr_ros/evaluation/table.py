"""How the numbers of a report are called and written, for the terminal and the page alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Number = float | str | list[float | None] | None
"""What a report holds under a name; None where there was nothing to count."""


@dataclass(frozen=True)
class _Row:
    """One line of the table: its key among the numbers, its name for people, how the value is written.

    `unit` is that of the truth in which alone the number means something.
    """

    key: str
    label: str
    form: Callable[[Any], str] = str
    unit: str | None = None


PERCENT, _PER_MILLE = "{:.1%}".format, "{:.1f}".format
METRES, _FRAMES, DEGREES = "{:.2f} m".format, "{:.1f} frames".format, "{:.1f}°".format
SECONDS, MILLISECONDS, _SHARE = "{:.1f} s".format, "{:.1f} ms".format, "{:.3f}".format


def _shares(values: Sequence[float | None]) -> str:
    return " / ".join("none" if value is None else f"{value:.0%}" for value in values)


_ROWS = (
    _Row("queries", "queries"),
    _Row("frames", "images"),
    _Row("answerable", "answerable"),
    _Row("answered", "answered"),
    _Row("accepted", "answered"),
    _Row("right", "right, answered or not"),
    _Row("correct", "correct within {radius:g} {unit}"),
    _Row("precision", "precision", PERCENT),
    _Row("false_accepts", "false answers"),
    _Row("false_accepts_per_1000", "  of 1000 images", _PER_MILLE),
    _Row("recall_at_1", "recall@1", PERCENT),
    _Row("recall_at_5", "recall@5", PERCENT),
    _Row("recall_at_10", "recall@10", PERCENT),
    _Row("recall_at_1_answerable", "recall@1 of answerable", PERCENT),
    _Row("recall_at_5_answerable", "recall@5 of answerable", PERCENT),
    _Row("recall_at_10_answerable", "recall@10 of answerable", PERCENT),
    _Row("recall_at_100_precision", "recall at 100 % precision", PERCENT),
    _Row("recall_at_99_precision", "recall at 99 % precision", PERCENT),
    _Row("precision_recall_area", "area, precision-recall", _SHARE),
    _Row("median_error_m", "median error", METRES, "m"),
    _Row("p95_error_m", "95 % of errors within", METRES, "m"),
    _Row("median_error_frames", "median error", _FRAMES, "frames"),
    _Row("p95_error_frames", "95 % of errors within", _FRAMES, "frames"),
    _Row("median_turn_deg", "median turn error", DEGREES, "m"),
    _Row("p95_turn_deg", "95 % of turns within", DEGREES, "m"),
    _Row("covariance_coverage_95", "truth in 95 % ellipse", PERCENT, "m"),
    _Row("covariance_coverage_95_by_third", "  by third of probability", _shares, "m"),
    _Row("median_semi_axis_95_m", "  its longer half axis", METRES, "m"),
    _Row("turn_coverage_95", "turn in 95 % ellipsoid", PERCENT, "m"),
    _Row("turn_coverage_95_by_third", "  by third of probability", _shares, "m"),
    _Row("calibration_error", "calibration error", _SHARE),
    _Row("log_loss", "log loss", _SHARE),
    _Row("localized_fraction", "localized", PERCENT),
    _Row("localized_once_found", "  from the first answer on", PERCENT),
    _Row("time_to_first_fix_s", "first answer after", SECONDS),
    _Row("distance_to_first_fix_m", "first answer after", METRES, "m"),
    _Row("p50_latency_ms", "latency p50", MILLISECONDS),
    _Row("p95_latency_ms", "latency p95", MILLISECONDS),
    *(
        _Row(f"{part}_{stage}_ms", f"{stage} {part}", MILLISECONDS)
        for stage in ("decode", "describe", "match")
        for part in ("p50", "p95")
    ),
    _Row("dropped_frames", "dropped frames"),
    _Row("unscored_frames", "images without a truth"),
)


def rows(numbers: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The table people read: (what, value), of the numbers that there are.

    Args:
        numbers: by key; `radius` and `unit` say what counts as correct.
    """
    shown = [row for row in _ROWS if row.key in numbers and row.unit in (None, numbers["unit"])]
    return [(row.label.format_map(numbers), _written(row, numbers)) for row in shown]


def _written(row: _Row, numbers: Mapping[str, Any]) -> str:
    value = numbers[row.key]
    if row.key == "answerable" and numbers["answerable_share"] is not None:
        return f"{value} ({PERCENT(numbers['answerable_share'])})"
    return "none" if value is None else row.form(value)
