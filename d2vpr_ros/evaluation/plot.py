"""The map seen from above as SVG: places, the true track, the answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from d2vpr_ros.evaluation.scoring import ScoredQuery

WIDTH, MARGIN = 760.0, 24.0
COLOURS = {"correct": "#1b8a4b", "false": "#d0342c", "missed": "#e0a106", "silent": "#8d99a6"}


def trajectory_svg(places: npt.NDArray[np.float64], queries: Sequence[ScoredQuery], axes: tuple[int, int]) -> str:
    """An SVG element: places grey, truth as a line, each query a dot in the colour of its verdict.

    A false or inexact answer is joined to its truth by a line, so that errors show to scale.

    Args:
        places: (N, 3) base positions, metres.
        queries: those without a true pose are left out.
        axes: the two position axes that span the picture (the two widest; a map need not be level).
    """
    posed = [(query, query.truth.position) for query in queries if query.truth is not None]
    truths = np.array([truth for _, truth in posed]).reshape(-1, 3)
    answers = np.array([query.answer.position for query in queries if query.answer is not None]).reshape(-1, 3)
    every = np.concatenate([places, truths, answers])[:, list(axes)]
    low, high = every.min(axis=0), every.max(axis=0)
    scale = (WIDTH - 2 * MARGIN) / max(float(high[0] - low[0]), 0.6 * float(high[1] - low[1]), 1e-6)
    height = float(high[1] - low[1]) * scale + 2 * MARGIN

    def at(position: npt.NDArray[np.float64]) -> tuple[float, float]:
        x, y = (position[list(axes)] - low) * scale
        return MARGIN + float(x), height - MARGIN - float(y)

    parts = [f'<svg viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" aria-label="trajectory">']
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="#cfd6dd"/>' for x, y in map(at, places)]
    track = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(at, truths))
    parts.append(f'<polyline points="{track}" fill="none" stroke="#5b6b7a" stroke-width="1.2"/>')
    for query, truth in posed:
        colour = COLOURS[query.verdict]
        x, y = at(truth)
        if query.answer is not None:
            answer_x, answer_y = at(query.answer.position)
            parts.append(
                f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{answer_x:.1f}" y2="{answer_y:.1f}" stroke="{colour}"/>'
                f'<circle cx="{answer_x:.1f}" cy="{answer_y:.1f}" r="3.2" fill="{colour}"/>'
            )
        else:
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="none" stroke="{colour}"/>')
    parts.append(scale_bar(scale, height))
    parts.append("</svg>")
    return "".join(parts)


def widest_axes(positions: npt.NDArray[np.float64]) -> tuple[int, int]:
    """The two axes along which (N, 3) positions spread most, in order (x before y before z)."""
    first, second = sorted(np.argsort(-np.ptp(positions, axis=0), kind="stable")[:2])
    return int(first), int(second)


def scale_bar(scale: float, height: float) -> str:
    """At the lower left of a drawing `WIDTH` wide.

    Args:
        scale: pixels of the drawing a metre; height: of the drawing.
    """
    metres = 10.0 ** np.floor(np.log10(WIDTH / 4 / scale))
    end = MARGIN + metres * scale
    y = height - 8
    return (
        f'<line x1="{MARGIN}" y1="{y:.1f}" x2="{end:.1f}" y2="{y:.1f}" stroke="#222" stroke-width="2"/>'
        f'<text x="{end + 6:.1f}" y="{y + 4:.1f}" font-size="12">{metres:g} m</text>'
    )
