"""Quads and boxes as rows of numbers, and from those rows the vertices a picture is drawn from.

A quad is QUAD floats: four corners (x, y, z), the texture coordinates (left, bottom, right, top), then what the shader
reads of it: kind (material, surface layer, seed, extra), detail (4), colour (3), trim (3). Corners run
counter-clockwise seen from outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from d2vpr_ros.geometry import Array
from d2vpr_ros.sim.layout import Colour
from d2vpr_ros.sim.shader import PLAIN
from d2vpr_ros.sim.textures import PLASTER

QUAD = 30
VERTEX = 22
KIND, DETAIL, COLOUR, TRIM = slice(16, 20), slice(20, 24), slice(24, 27), slice(27, 30)
WHITE: Colour = (0.8, 0.8, 0.8)
NO_DETAIL = (1.0, 1.0, 0.0, 0.0)

Corner = Sequence[float]
Quads = list[list[float]]


def quad(
    corners: Sequence[Corner],
    uv: Sequence[float],
    kind: Sequence[float] = (PLAIN, PLASTER, 0.5, 0.0),
    colour: Colour = WHITE,
    detail: Sequence[float] = NO_DETAIL,
    trim: Colour = WHITE,
) -> list[float]:
    """One quad as a row."""
    return [float(v) for corner in corners for v in corner] + [*uv, *kind, *detail, *colour, *trim]


def prism(
    low: Sequence[Corner],
    high: Sequence[Corner],
    kind: Sequence[float] = (PLAIN, PLASTER, 0.5, 0.0),
    colour: Colour = WHITE,
    bottom: bool = False,
) -> Quads:
    """Sides and top of a body between two quadrilaterals, counter-clockwise from above; textured in metres."""
    quads = []
    for i in range(4):
        j = (i + 1) % 4
        width = float(np.hypot(low[j][0] - low[i][0], low[j][1] - low[i][1]))
        height = high[i][2] - low[i][2]
        quads.append(quad([low[i], low[j], high[j], high[i]], (0, 0, width, height), kind, colour))
    width = float(np.hypot(high[1][0] - high[0][0], high[1][1] - high[0][1]))
    depth = float(np.hypot(high[2][0] - high[1][0], high[2][1] - high[1][1]))
    quads.append(quad(high, (0, 0, width, depth), kind, colour))
    if bottom:
        quads.append(quad(low[::-1], (0, 0, width, depth), kind, colour))
    return quads


def box(
    x0: float,
    x1: float,
    y0: float,
    y1: float,
    z0: float,
    z1: float,
    kind: Sequence[float] = (PLAIN, PLASTER, 0.5, 0.0),
    colour: Colour = WHITE,
    taper: float = 0.0,
    bottom: bool = False,
) -> Quads:
    """An upright box; `taper` draws its top in by as many metres on all sides."""
    t = taper
    low = [(x0, y0, z0), (x1, y0, z0), (x1, y1, z0), (x0, y1, z0)]
    high = [(x0 + t, y0 + t, z1), (x1 - t, y0 + t, z1), (x1 - t, y1 - t, z1), (x0 + t, y1 - t, z1)]
    return prism(low, high, kind, colour, bottom)


def pillar(
    x: float, y: float, radius: float, z0: float, z1: float, kind: Sequence[float], colour: Colour, sides: int = 6
) -> Quads:
    """An upright round body without its ends."""
    angles = np.linspace(0, 2 * np.pi, sides + 1)
    ring = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=1)
    girth = 2 * np.pi * radius / sides
    return [
        quad([(*a, z0), (*b, z0), (*b, z1), (*a, z1)], (i * girth, 0, (i + 1) * girth, z1 - z0), kind, colour)
        for i, (a, b) in enumerate(pairwise(ring))
    ]


def placed(quads: Array, x: float, y: float, yaw: float, size: float) -> Array:
    """(Q, QUAD) rows turned, scaled and moved on the ground."""
    out = quads.copy()
    corners = out[:, :12].reshape(-1, 4, 3)
    cos, sin = np.cos(yaw) * size, np.sin(yaw) * size
    turned = np.stack(
        [
            corners[..., 0] * cos - corners[..., 1] * sin + x,
            corners[..., 0] * sin + corners[..., 1] * cos + y,
            corners[..., 2] * size,
        ],
        axis=-1,
    )
    out[:, :12] = turned.reshape(-1, 12)
    return out


def vertices(quads: Array) -> npt.NDArray[np.float32]:
    """(Q, QUAD) rows to (Q * 4, VERTEX) float32: position, normal, uv, kind, detail, colour, trim."""
    corners = quads[:, :12].reshape(-1, 4, 3)
    normals = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    u = quads[:, [12, 14, 14, 12]]
    v = quads[:, [13, 13, 15, 15]]
    shared = np.concatenate([normals, quads[:, 16:]], axis=1)
    out = np.empty((len(quads), 4, VERTEX), np.float32)
    for k in range(4):
        out[:, k, :3] = corners[:, k]
        out[:, k, 3:6] = shared[:, :3]
        out[:, k, 6] = u[:, k]
        out[:, k, 7] = v[:, k]
        out[:, k, 8:] = shared[:, 3:]
    return out.reshape(-1, VERTEX)


def triangles(count: int) -> npt.NDArray[np.uint32]:
    """(count * 6,) the vertices of the two triangles of each of so many quads."""
    return (np.arange(count, dtype=np.uint32)[:, None] * 4 + np.array([0, 1, 2, 0, 2, 3], np.uint32)).reshape(-1)
