"""The quads of everything that stands in the streets and is no house. Local frame: x ahead, y left, z up."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from d2vpr_ros.geometry import Array
from d2vpr_ros.sim.layout import Prop
from d2vpr_ros.sim.mesh import COLOUR, KIND, Quads, box, pillar, placed, quad
from d2vpr_ros.sim.shader import CAR_GLASS, CAR_LIGHT, FACADE, LAMP, LEAF, PLAIN, SIGN, TWIG
from d2vpr_ros.sim.textures import BRANCHES, GRASS, LEAVES, PAINT, PLANKS, PLASTER, STONE, TEXT

FROM_SEED = (-1.0, -1.0, -1.0)  # a colour that each placed thing chooses by its own seed
PALETTES: dict[str, tuple[tuple[float, float, float], ...]] = {
    "car": (
        (0.6, 0.6, 0.62),
        (0.05, 0.05, 0.06),
        (0.75, 0.75, 0.75),
        (0.35, 0.03, 0.03),
        (0.04, 0.1, 0.3),
        (0.2, 0.22, 0.24),
        (0.05, 0.2, 0.12),
        (0.6, 0.35, 0.05),
    ),
    "person": ((0.05, 0.06, 0.1), (0.4, 0.05, 0.05), (0.3, 0.3, 0.3), (0.1, 0.2, 0.4), (0.5, 0.45, 0.3)),
    "tree": ((0.10, 0.20, 0.05), (0.13, 0.24, 0.06), (0.08, 0.16, 0.06), (0.17, 0.24, 0.07)),
    "": ((0.35, 0.08, 0.06), (0.08, 0.16, 0.3), (0.1, 0.25, 0.12), (0.5, 0.42, 0.1), (0.25, 0.25, 0.25)),
}
METAL = (0.10, 0.11, 0.11)
WOOD = (0.30, 0.19, 0.10)
GREY = (0.45, 0.44, 0.42)
PLAIN_KIND = (PLAIN, PAINT, 0.5, 0.0)
WOODEN = (PLAIN, PLANKS, 0.5, 0.0)
STONY = (PLAIN, STONE, 0.5, 0.0)
GREEN = (PLAIN, GRASS, 0.5, 0.0)


def _car(length: float, cabin: tuple[float, float], low: float, roof: float) -> Quads:
    half, wide = length / 2, 0.88
    quads = box(-half, half, -wide, wide, 0.32, low, PLAIN_KIND, FROM_SEED, taper=0.06)
    quads += box(*cabin, -wide + 0.07, wide - 0.07, low, roof, (CAR_GLASS, PAINT, 0.5, 0.0), METAL, taper=0.2)
    quads[-1] = quad([c[:3] for c in _corners(quads[-1])], (0, 0, 2, 1.4), PLAIN_KIND, FROM_SEED)
    for x in (-half * 0.62, half * 0.62):
        quads += box(x - 0.31, x + 0.31, -wide - 0.02, wide + 0.02, 0, 0.62, PLAIN_KIND, (0.02, 0.02, 0.02), taper=0.03)
    for y in (-0.66, 0.66):
        for x, colour in ((half + 0.01, (0.9, 0.9, 0.8)), (-half - 0.01, (0.7, 0.04, 0.03))):
            s = 1 if x > 0 else -1
            corners = [(x, y - s * 0.16, 0.6), (x, y + s * 0.16, 0.6), (x, y + s * 0.16, 0.76), (x, y - s * 0.16, 0.76)]
            quads.append(quad(corners, (0, 0, 1, 1), (CAR_LIGHT, PAINT, 0.5, 0.0), colour))
    return quads


def _corners(row: list[float]) -> list[list[float]]:
    return [row[i : i + 3] for i in range(0, 12, 3)]


def _tree() -> Quads:
    rng = np.random.Generator(np.random.PCG64(22))
    quads = pillar(0, 0, 0.17, 0, 2.6, (PLAIN, PLANKS, 0.5, 0.0), (0.16, 0.12, 0.09))
    for yaw in (0.3, 1.35, 2.4):
        x, y = 2.6 * np.cos(yaw), 2.6 * np.sin(yaw)
        corners = [(-x, -y, 1.9), (x, y, 1.9), (x, y, 7.4), (-x, -y, 7.4)]
        quads.append(quad(corners, (0, 0, 1, 1), (TWIG, BRANCHES, 0.5, 0.0), (0.13, 0.10, 0.08)))
    for k in range(16):
        # Leaf clusters on an upright ellipsoid, the darker ones inside and below.
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        centre = np.array([0, 0, 4.9]) + direction * np.array([1.8, 1.8, 1.75]) * rng.uniform(0.55, 1.0)
        side = np.cross(direction, rng.normal(size=3))
        side /= np.linalg.norm(side)
        other = np.cross(direction, side)
        reach = rng.uniform(1.3, 1.9)
        corners = [centre + reach * (a * side + b * other) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
        shade = 0.75 + 0.35 * (centre[2] - 4.9) / 1.6 + rng.uniform(-0.1, 0.1)
        kind = (LEAF, LEAVES, (k + 0.5) / 16, 0.0)
        quads.append(quad(corners, (0, 0, 1, 1), kind, FROM_SEED, (float(shade), 0, 0, 0)))
    return quads


def _lamp() -> Quads:
    quads = pillar(0, 0, 0.08, 0, 5.6, PLAIN_KIND, METAL, 5)
    quads += box(-0.05, 1.7, -0.04, 0.04, 5.5, 5.6, PLAIN_KIND, METAL, bottom=True)
    return quads + box(1.1, 1.8, -0.14, 0.14, 5.36, 5.5, (LAMP, PAINT, 0.5, 0.0), (0.5, 0.5, 0.45), bottom=True)


def _tower() -> Quads:
    brick = (PLAIN, STONE, 0.5, 0.0)
    facade = (FACADE, STONE, 0.37, 3.0)
    quads = []
    for x0, y0, x1, y1 in ((-4, -4, 4, -4), (4, -4, 4, 4), (4, 4, -4, 4), (-4, 4, -4, -4)):
        corners = [(x0, y0, 0), (x1, y1, 0), (x1, y1, 30), (x0, y0, 30)]
        quads.append(quad(corners, (0, 1, 3, 9), facade, (0.5, 0.42, 0.33), (2.7, 3.75, 3, 0), (0.6, 0.58, 0.5)))
    quads += box(-4.4, 4.4, -4.4, 4.4, 30, 31.2, brick, (0.55, 0.5, 0.42), bottom=True)
    return quads + box(-3.6, 3.6, -3.6, 3.6, 31.2, 44, (PLAIN, PLASTER, 0.5, 0), (0.15, 0.3, 0.25), taper=3.55)


def _person() -> Quads:
    quads = box(-0.12, 0.12, -0.2, 0.2, 0, 0.85, PLAIN_KIND, (0.05, 0.05, 0.08), taper=0.02)
    quads += box(-0.14, 0.14, -0.26, 0.26, 0.85, 1.48, PLAIN_KIND, FROM_SEED, taper=0.04)
    return quads + box(-0.1, 0.1, -0.1, 0.1, 1.5, 1.74, PLAIN_KIND, (0.45, 0.28, 0.2), taper=0.02)


def _shelter() -> Quads:
    quads = box(-0.8, 0.8, -2, 2, 2.35, 2.5, PLAIN_KIND, METAL, bottom=True)
    quads += box(-0.75, -0.7, -1.9, 1.9, 0.3, 2.3, (CAR_GLASS, PAINT, 0.5, 0.0), METAL)
    quads += _sign_board(0.0, 1.95, 0.3, 2.2, 1.2)
    return quads + box(-0.6, -0.2, -1.5, 1.5, 0.4, 0.5, WOODEN, WOOD, bottom=True)


def _sign_board(x: float, y: float, low: float, high: float, width: float) -> Quads:
    """A poster, both sides, across the y axis."""
    kind = (SIGN, TEXT, 1.0, 0.0)
    a, b = x - width / 2, x + width / 2
    return [
        quad([(p, y + d, low), (q, y + d, low), (q, y + d, high), (p, y + d, high)], (0, 0, 1, 4), kind, FROM_SEED)
        for p, q, d in ((a, b, -0.03), (b, a, 0.03))
    ]


def _sign() -> Quads:
    quads = pillar(0, 0, 0.04, 0, 2.7, PLAIN_KIND, METAL, 4)
    quads += box(-0.02, 0.02, -0.32, 0.32, 2.1, 2.7, PLAIN_KIND, FROM_SEED)
    return quads + box(0.021, 0.03, -0.2, 0.2, 2.25, 2.55, PLAIN_KIND, (0.8, 0.8, 0.8))


def _monument() -> Quads:
    quads = box(-2.2, 2.2, -2.2, 2.2, 0, 0.5, STONY, GREY) + box(-1.2, 1.2, -1.2, 1.2, 0.5, 2.2, STONY, GREY, taper=0.2)
    return quads + box(-0.5, 0.5, -0.5, 0.5, 2.2, 8.0, PLAIN_KIND, (0.15, 0.28, 0.22), taper=0.4)


def _bench() -> Quads:
    quads = box(-0.22, 0.22, -0.85, 0.85, 0.42, 0.48, WOODEN, WOOD, bottom=True)
    quads += box(-0.28, -0.2, -0.85, 0.85, 0.48, 0.9, WOODEN, WOOD)
    return quads + box(-0.2, 0.2, -0.75, -0.65, 0, 0.42, PLAIN_KIND, METAL) + box(-0.2, 0.2, 0.65, 0.75, 0, 0.42)


def _railing() -> Quads:
    quads = box(-3, 3, -0.03, 0.03, 0.95, 1.03, PLAIN_KIND, METAL, bottom=True)
    for x in np.arange(-2.9, 3.0, 0.42).tolist():
        quads += box(x - 0.03, x + 0.03, -0.02, 0.02, 0, 0.95, PLAIN_KIND, METAL)[:4]
    return quads


TEMPLATES: dict[str, Callable[[], Quads]] = {
    "car": lambda: _car(4.3, (-1.5, 1.1), 0.88, 1.46),
    "hatchback": lambda: _car(3.7, (-1.8, 0.9), 0.92, 1.55),
    "van": lambda: (
        box(-2.5, 1.5, -0.98, 0.98, 0.4, 2.35, PLAIN_KIND, FROM_SEED, 0.08) + _car(5.2, (1.0, 2.3), 1.1, 1.9)
    ),
    "tree": _tree,
    "lamp": _lamp,
    "tower": _tower,
    "person": _person,
    "shelter": _shelter,
    "sign": _sign,
    "monument": _monument,
    "bench": _bench,
    "railing": _railing,
    "hedge": lambda: box(-3, 3, -0.4, 0.4, 0, 1.2, GREEN, (0.09, 0.17, 0.05), 0.06),
    "low_wall": lambda: box(-3, 3, -0.16, 0.16, 0, 0.9, STONY, GREY, 0.02),
    "bollard": lambda: pillar(0, 0, 0.09, 0, 0.9, PLAIN_KIND, METAL) + box(-0.07, 0.07, -0.07, 0.07, 0.88, 0.95),
    "box": lambda: box(-0.3, 0.3, -0.4, 0.4, 0, 1.25, PLAIN_KIND, FROM_SEED, 0.02),
    "bin": lambda: box(-0.35, 0.35, -0.3, 0.3, 0.05, 1.05, PLAIN_KIND, FROM_SEED, -0.04),
    "hydrant": lambda: (
        pillar(0, 0, 0.12, 0, 0.75, PLAIN_KIND, (0.5, 0.05, 0.04)) + box(-0.2, 0.2, -0.06, 0.06, 0.5, 0.6)
    ),
    "column": lambda: (
        pillar(0, 0, 0.55, 0, 2.9, (PLAIN, PLANKS, 0.5, 0.0), GREY, 10) + _sign_board(0, -0.56, 0.9, 2.5, 0.9)
    ),
    "kiosk": lambda: (
        box(-1.0, 1.0, -1.4, 1.4, 0, 2.4, WOODEN, FROM_SEED)
        + box(-1.4, 1.4, -1.8, 1.8, 2.4, 3.0, PLAIN_KIND, METAL, 0.6, True)
        + _sign_board(0.0, -1.45, 1.0, 2.0, 1.6)
    ),
    "stall": lambda: (
        box(-1.1, 1.1, -0.8, 0.8, 0, 0.95, WOODEN, WOOD)
        + box(-1.5, 1.5, -1.2, 1.2, 2.1, 2.8, WOODEN, FROM_SEED, 0.7, True)
    ),
}


@cache
def template(kind: str) -> Array:
    """(Q, QUAD) rows of one kind of thing in its own frame."""
    return np.array(TEMPLATES[kind](), dtype=np.float64)


def prop_quads(prop: Prop) -> Array:
    """(Q, QUAD) rows of a placed thing, in its own colour."""
    family = prop.kind if prop.kind in PALETTES else "car" if prop.kind in ("hatchback", "van") else ""
    palette = PALETTES[family]
    quads = placed(template(prop.kind), prop.x, prop.y, prop.yaw, prop.size)
    chosen = np.array(palette[int(prop.seed * len(palette))]) * (0.8 + 0.4 * ((prop.seed * 57.0) % 1.0))
    quads[quads[:, 24] < 0, COLOUR] = chosen
    quads[quads[:, KIND.start] == LEAF, KIND.stop - 1] = prop.seed
    return quads
