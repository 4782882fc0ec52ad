"""What drawings of a map from above have in common, as SVG: the frame, places, poses and ellipses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from d2vpr_ros.evaluation.plot import MARGIN, WIDTH, widest_axes
from d2vpr_ros.evaluation.scoring import ellipse_95
from d2vpr_ros.geometry import Array, Pose
from d2vpr_ros.mapping import PlaceMap

PLACE, CANDIDATE, ANSWER = "#9aa7b4", "#1f6fd6", "#d9480f"

_HEIGHT = 0.55  # of a plan over its width, at most

Points = npt.NDArray[np.float64]
At = Callable[[Array], tuple[float, float]]


def plan_axes(place_map: PlaceMap) -> list[int]:
    """The axes that a plan shows: those the map spreads along most (`map view` has the same)."""
    return [0, 1] if place_map.header.origin else list(widest_axes(place_map.positions))


def frame(points: Points) -> tuple[At, float, float]:
    """From metres to the drawing, pixels a metre, and the drawing's height; (N, 2) points are all in it."""
    low, high = points.min(axis=0), points.max(axis=0)
    span = np.maximum(high - low, 1.0)  # a metre at least, where all are at one position
    low = (low + high - span) / 2
    scale = float((WIDTH - 2 * MARGIN) / max(span[0], span[1] / _HEIGHT))
    height = float(span[1]) * scale + 2 * MARGIN
    left = (WIDTH - float(span[0]) * scale) / 2

    def at(point: Array) -> tuple[float, float]:
        x, y = (point - low) * scale
        return left + float(x), height - MARGIN - float(y)

    return at, scale, height


def open_plan(height: float, label: str) -> str:
    return f'<svg class="plan" viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" aria-label="{label}">'


def ellipse(at: At, centre: Array, covariance: Array, colour: str) -> Sequence[str]:
    """The ellipse that is to hold a position 95 % of the time, by its `outline`."""
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(at, outline(centre, covariance)))
    return [f'<polygon points="{points}" fill="{colour}" fill-opacity="0.18" stroke="{colour}"/>']


def outline(centre: Array, covariance: Array) -> Points:
    """(N, 2) points on the ellipse around (2,) that is to hold a position of (2, 2) covariance 95 % of the time."""
    half, directions = ellipse_95(covariance)
    angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    return np.asarray(centre + np.column_stack([np.cos(angles), np.sin(angles)]) * half @ directions.T)


def dots(at: At, points: Points, radius: float, colour: str) -> Sequence[str]:
    return [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{colour}"/>' for x, y in map(at, points)]


def arrow(at: At, base: Pose, axes: list[int], colour: str) -> Sequence[str]:
    """A dot where the base is, and a line where its x axis points."""
    x, y = at(base.position[axes])
    forward = base.rotation.apply([1.0, 0.0, 0.0])[axes] * (26.0, -26.0)
    u, v = x + forward[0], y + forward[1]
    return [
        f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{u:.1f}" y2="{v:.1f}" stroke="{colour}" stroke-width="3"/>',
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}" stroke="#fff" stroke-width="1.2"/>',
    ]
