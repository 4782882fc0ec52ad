"""What a town is made of: houses, things that stand about, blocks, streets. Metres in the frame `map`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from d2vpr_ros.geometry import Array

Point = tuple[float, float]
Colour = tuple[float, float, float]

BLOCKS = 5  # a side; the streets between them are the ones to drive

WALL_COLOURS: tuple[Colour, ...] = (
    (0.62, 0.55, 0.42),
    (0.70, 0.68, 0.62),
    (0.52, 0.25, 0.17),
    (0.38, 0.17, 0.12),
    (0.66, 0.45, 0.22),
    (0.35, 0.42, 0.46),
    (0.55, 0.58, 0.50),
    (0.72, 0.60, 0.55),
    (0.30, 0.29, 0.28),
    (0.50, 0.36, 0.28),
    (0.42, 0.50, 0.36),
    (0.78, 0.74, 0.50),
    (0.30, 0.36, 0.52),
    (0.80, 0.80, 0.78),
)
ROOF_COLOURS: tuple[Colour, ...] = ((0.40, 0.14, 0.09), (0.16, 0.15, 0.16), (0.28, 0.18, 0.13), (0.22, 0.25, 0.27))
TRIM_COLOURS: tuple[Colour, ...] = (
    (0.85, 0.85, 0.82),
    (0.25, 0.12, 0.07),
    (0.10, 0.22, 0.14),
    (0.08, 0.10, 0.16),
    (0.55, 0.50, 0.42),
    (0.45, 0.08, 0.07),
)
WALL_TEXTURES = 4  # plaster, brick, stone, panel: the first layers of `textures.surfaces`
WINDOW_TILES = 16  # of `textures.facade_tiles`, before the ground-floor ones
GROUND_TILES = 8  # doors, and as many shop fronts


@dataclass(frozen=True)
class House:
    """One house: a footprint seen from its street and what its facade is made of.

    `window` and `ground` index the facade tiles, `wall` the surface textures; `seed` in 0..1 varies the details.
    """

    front_left: Point
    front_right: Point
    back_right: Point
    back_left: Point
    floors: int
    floor_height: float
    bay: float
    roof: str  # flat | gable | mansard
    roof_height: float
    wall: int
    colour: Colour
    trim: Colour
    roof_colour: Colour
    window: int
    ground: int
    shop: bool
    balconies: bool
    seed: float

    @property
    def height(self) -> float:
        return self.floors * self.floor_height


@dataclass(frozen=True)
class Prop:
    """A thing that stands on the ground: kind, place, heading (radians), size factor, seed in 0..1."""

    kind: str
    x: float
    y: float
    yaw: float
    size: float
    seed: float


@dataclass(frozen=True)
class Block:
    """What lies between four streets; the corners run counter-clockwise. kind: houses | park | square."""

    kind: str
    pavement: tuple[Point, ...]
    ground: tuple[Point, ...]


@dataclass(frozen=True)
class Street:
    """A stretch between two nodes (indices into Town.nodes); half_width is from the middle to the kerb."""

    a: int
    b: int
    half_width: float


@dataclass(frozen=True)
class Town:
    """The whole town; `parking` are places (x, y, yaw) at kerbs where a car may stand, `standing` where people may."""

    seed: int
    nodes: tuple[Point, ...]
    streets: tuple[Street, ...]
    blocks: tuple[Block, ...]
    houses: tuple[House, ...]
    props: tuple[Prop, ...]
    parking: tuple[tuple[float, float, float], ...]
    standing: tuple[Point, ...]

    def node(self, column: int, row: int) -> int:
        """Index of the node at a column and row of the grid, 0..BLOCKS each."""
        return row * (BLOCKS + 1) + column


def inset(polygon: Array, distances: Array) -> Array:
    """(N, 2) counter-clockwise convex corners with edge i (corner i to i + 1) moved inwards by distances[i]."""
    along = np.roll(polygon, -1, axis=0) - polygon
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    inward = np.stack([-along[:, 1], along[:, 0]], axis=1)
    offset = (inward * polygon).sum(axis=1) + distances
    corners = [
        np.linalg.solve(np.stack([inward[i - 1], inward[i]]), [offset[i - 1], offset[i]]) for i in range(len(polygon))
    ]
    return np.array(corners)
