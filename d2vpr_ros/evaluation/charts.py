"""Precision against recall, and how often answers of a probability are right, as SVG."""

from __future__ import annotations

from collections.abc import Sequence

from d2vpr_ros.evaluation.curve import Curve
from d2vpr_ros.evaluation.reliability import ReliabilityBin

_SIDE, _LEFT, _TOP, _BELOW, _RIGHT = 300.0, 54.0, 12.0, 44.0, 12.0
_INK, _GRID, _LINE = "#222", "#dde3e9", "#1f5fd0"


def curve_svg(curve: Curve) -> str:
    """Recall from left to right, precision upwards."""
    points = " ".join(f"{_x(r):.1f},{_y(p):.1f}" for r, p in zip(curve.recall, curve.precision, strict=True))
    line = f'<polyline points="{points}" fill="none" stroke="{_LINE}" stroke-width="2"/>'
    return _unit_square("recall of answerable images", "precision", line)


def reliability_svg(bins: Sequence[ReliabilityBin]) -> str:
    """Probability from left to right, share of right answers upwards; the larger a dot, the more images it is of."""
    most = max((one.count for one in bins), default=1)
    diagonal = f'<line x1="{_x(0):.1f}" y1="{_y(0):.1f}" x2="{_x(1):.1f}" y2="{_y(1):.1f}" stroke="#8d99a6"/>'
    points = " ".join(f"{_x(one.probability):.1f},{_y(one.right):.1f}" for one in bins)
    dots = "".join(
        f'<circle cx="{_x(one.probability):.1f}" cy="{_y(one.right):.1f}" r="{3 + 6 * (one.count / most) ** 0.5:.1f}" '
        f'fill="{_LINE}" fill-opacity="0.6"><title>{one.count} images</title></circle>'
        for one in bins
    )
    line = f'<polyline points="{points}" fill="none" stroke="{_LINE}"/>'
    return _unit_square("probability", "share that is right", diagonal + line + dots)


def _x(value: float) -> float:
    return _LEFT + _SIDE * value


def _y(value: float) -> float:
    return _TOP + _SIDE * (1 - value)


def _unit_square(across: str, upwards: str, inside: str) -> str:
    """Axes from 0 to 1 around what is drawn with `_x` and `_y`."""
    width, height = _LEFT + _SIDE + _RIGHT, _TOP + _SIDE + _BELOW
    parts = [f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{upwards} over {across}">']
    for tick in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        x, y = _x(tick), _y(tick)
        parts.append(
            f'<line x1="{x:.1f}" y1="{_y(0):.1f}" x2="{x:.1f}" y2="{_y(1):.1f}" stroke="{_GRID}"/>'
            f'<line x1="{_x(0):.1f}" y1="{y:.1f}" x2="{_x(1):.1f}" y2="{y:.1f}" stroke="{_GRID}"/>'
            f'<text x="{x:.1f}" y="{_y(0) + 16:.1f}" font-size="11" text-anchor="middle" fill="{_INK}">{tick:g}</text>'
            f'<text x="{_x(0) - 6:.1f}" y="{y + 4:.1f}" font-size="11" text-anchor="end" fill="{_INK}">{tick:g}</text>'
        )
    label = f'font-size="12" text-anchor="middle" fill="{_INK}"'
    middle = f"{_LEFT / 4:.1f} {_y(0.5):.1f}"
    parts.append(f'<text x="{_x(0.5):.1f}" y="{height - 8:.1f}" {label}>{across}</text>')
    parts.append(f'<text transform="translate({middle}) rotate(-90)" {label}>{upwards}</text>')
    return "".join([*parts, inside, "</svg>"])
