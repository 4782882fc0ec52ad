"""Fill the blocks of a town: houses along the sides, trees, lamps, benches, parking places; parks and squares."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from d2vpr_ros.geometry import Array
from d2vpr_ros.sim.layout import (
    GROUND_TILES,
    ROOF_COLOURS,
    TRIM_COLOURS,
    WALL_COLOURS,
    WALL_TEXTURES,
    WINDOW_TILES,
    Block,
    Colour,
    House,
    Point,
    Prop,
    inset,
)

HOUSE_DEPTH = 11.0
PAVEMENT_FURNITURE = ("bench", "bollard", "sign", "box", "hydrant", "column", "kiosk", "shelter")


def _point(p: Array) -> Point:
    return (float(p[0]), float(p[1]))


def _shade(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    chosen = np.array(colours[rng.integers(len(colours))])
    r, g, b = np.clip(chosen * rng.uniform(0.75, 1.15) + rng.normal(0, 0.025, 3), 0.03, 0.9)
    return (float(r), float(g), float(b))


def any_house(rng: np.random.Generator) -> House:
    """A house without a place: its style only."""
    nowhere = (0.0, 0.0)
    floors = int(rng.choice([2, 3, 4, 5, 6], p=[0.22, 0.3, 0.26, 0.16, 0.06]))
    return House(
        nowhere,
        nowhere,
        nowhere,
        nowhere,
        floors=floors,
        floor_height=float(rng.uniform(2.8, 3.7)),
        bay=float(rng.uniform(1.9, 3.6)),
        roof=str(rng.choice(["flat", "gable", "mansard"], p=[0.3, 0.45, 0.25])),
        roof_height=float(rng.uniform(2.2, 4.8)),
        wall=int(rng.integers(WALL_TEXTURES)),
        colour=_shade(rng, WALL_COLOURS),
        trim=_shade(rng, TRIM_COLOURS),
        roof_colour=_shade(rng, ROOF_COLOURS),
        window=int(rng.integers(WINDOW_TILES)),
        ground=int(rng.integers(GROUND_TILES)),
        shop=bool(rng.random() < 0.45),
        balconies=bool(rng.random() < 0.25),
        seed=float(rng.random()),
    )


@dataclass
class BlockBuilder:
    """Collects what the blocks of one town hold; `add` one block after the other."""

    rng: np.random.Generator
    nodes: Array
    blocks: list[Block] = field(default_factory=list)
    houses: list[House] = field(default_factory=list)
    props: list[Prop] = field(default_factory=list)
    parking: list[tuple[float, float, float]] = field(default_factory=list)
    standing: list[Point] = field(default_factory=list)
    has_tower: bool = False
    rows: list[House] = field(default_factory=list)

    def __post_init__(self) -> None:
        # Two house types serve all identical rows of the town: streets that are easily taken for each other.
        self.rows = [replace(any_house(self.rng), floors=int(self.rng.integers(2, 4)), shop=False) for _ in range(2)]

    def add(self, corners: list[int], half_widths: Array, is_inner: bool) -> None:
        """The block between the nodes `corners` (counter-clockwise), whose streets have these half widths."""
        rng = self.rng
        pavement = inset(self.nodes[corners], half_widths)
        setbacks = np.where(rng.random(4) < 0.25, rng.uniform(2.0, 4.5, 4), 0.0)
        kind = str(rng.choice(["houses", "park", "square"], p=[0.8, 0.12, 0.08])) if is_inner else "houses"
        walks = rng.uniform(1.6, 3.4, 4)
        ground = inset(pavement, walks)
        self.blocks.append(Block(kind, tuple(map(_point, pavement)), tuple(map(_point, ground))))
        for side in range(4):
            self._kerb(pavement[side], pavement[(side + 1) % 4], float(half_widths[side]), kind)
        if kind == "park":
            self._park(ground)
        elif kind == "square":
            self._square(ground)
        else:
            front = inset(ground, setbacks)
            back = inset(front, np.full(4, HOUSE_DEPTH))
            for side in range(4):
                self._row(front[side], front[(side + 1) % 4], back[side], back[(side + 1) % 4])
                if setbacks[side] > 0:
                    self._fence(ground[side], ground[(side + 1) % 4])

    def _row(self, left: Array, right: Array, back_left: Array, back_right: Array) -> None:
        """Houses along one side of a block, from corner to corner; a third of the rows repeat one house."""
        rng = self.rng
        length = float(np.linalg.norm(right - left))
        is_repeated = rng.random() < 0.3
        repeated = self.rows[rng.integers(2)]
        widths = (
            np.full(max(1, round(length / 8.0)), 1.0)
            if is_repeated
            else rng.uniform(6.0, 17.0, max(1, int(length / 11)))
        )
        ends = np.concatenate([[0.0], np.cumsum(widths / widths.sum())])
        for i, (start, end) in enumerate(pairwise(ends)):
            style = repeated if is_repeated else any_house(rng)
            is_corner = i in (0, len(widths) - 1)
            if not is_repeated and not is_corner and rng.random() < 0.08:  # a gap with a tree in it
                middle = left + (right - left) * (start + end) / 2
                self._put("tree", 0.6 * middle + 0.4 * (back_left + back_right) / 2, 0.0, rng.uniform(0.8, 1.3))
                continue
            corners = [left + (right - left) * t for t in (start, end)]
            corners += [back_left + (back_right - back_left) * t for t in (end, start)]
            a, b, c, d = (_point(p) for p in corners)
            self.houses.append(replace(style, front_left=a, front_right=b, back_right=c, back_left=d))
        if not self.has_tower and rng.random() < 0.06:
            self.has_tower = True
            middle = (left + right + back_left + back_right) / 4
            self._put("tower", middle, np.arctan2(*(right - left)[::-1]), rng.uniform(0.9, 1.3))

    def _put(self, kind: str, at: Array, yaw: float, size: float = 1.0) -> None:
        self.props.append(Prop(kind, float(at[0]), float(at[1]), float(yaw), float(size), float(self.rng.random())))

    def _fence(self, left: Array, right: Array) -> None:
        kind = str(self.rng.choice(["hedge", "railing", "low_wall"]))
        length = float(np.linalg.norm(right - left))
        yaw = float(np.arctan2(*(right - left)[::-1]))
        count = max(1, int(length / 6.0))
        for t in (np.arange(count) + 0.5) / count:
            if self.rng.random() < 0.85:  # the others are the ways in
                self._put(kind, left + (right - left) * t, yaw, length / count / 6.0)

    def _kerb(self, left: Array, right: Array, half_width: float, kind: str) -> None:
        """Lamps, trees, furniture on the pavement's edge and parking places along it."""
        rng = self.rng
        along = right - left
        length = float(np.linalg.norm(along))
        along = along / length
        outward = np.array([along[1], -along[0]])
        yaw = float(np.arctan2(along[1], along[0]))
        for s in np.arange(rng.uniform(4, 10), length - 3, rng.uniform(18, 26)):
            self._put("lamp", left + along * s - outward * 0.5, yaw - np.pi / 2, 1.0)
        if half_width > 4 and rng.random() < 0.55:
            size = rng.uniform(0.75, 1.25)
            for s in np.arange(rng.uniform(6, 12), length - 5, rng.uniform(7, 14)):
                self._put("tree", left + along * s - outward * 1.0, rng.uniform(0, 6), size * rng.uniform(0.85, 1.15))
        for s in rng.uniform(3, max(4.0, length - 3), int(length / 9)):
            thing = str(rng.choice(PAVEMENT_FURNITURE, p=[0.18, 0.2, 0.2, 0.14, 0.1, 0.06, 0.06, 0.06]))
            self._put(thing, left + along * s - outward * 0.9, yaw + np.pi, rng.uniform(0.9, 1.1))
        if half_width > 4:
            for s in np.arange(8.0, length - 8, 5.6):
                x, y = left + along * s + outward * 1.0
                self.parking.append((float(x), float(y), yaw + np.pi))  # traffic keeps right
        self.standing += [_point(left + along * s - outward * 1.4) for s in np.arange(2.0, length, 2.5)]

    def _park(self, ground: Array) -> None:
        rng = self.rng
        for side in range(4):
            if rng.random() < 0.6:
                self._fence(ground[side], ground[(side + 1) % 4])
        for a, b in rng.uniform(0.07, 0.93, (26, 2)):
            self._put("tree", self._inside(ground, a, b), rng.uniform(0, 6), rng.uniform(0.8, 1.6))
        for a, b in rng.uniform(0.1, 0.9, (6, 2)):
            self._put("bench", self._inside(ground, a, b), rng.uniform(0, 6))
        self._put("monument", self._inside(ground, 0.5, 0.5), rng.uniform(0, 6), rng.uniform(0.8, 1.4))

    def _square(self, ground: Array) -> None:
        rng = self.rng
        self._put("monument", self._inside(ground, 0.5, 0.5), rng.uniform(0, 6), rng.uniform(1.2, 2.0))
        for a, b in rng.uniform(0.1, 0.9, (9, 2)):
            self._put("stall", self._inside(ground, a, b), rng.uniform(0, 6))
        for a, b in rng.uniform(0.08, 0.92, (6, 2)):
            self._put("tree", self._inside(ground, a, b), rng.uniform(0, 6), rng.uniform(0.6, 1.0))
        if not self.has_tower:
            self.has_tower = True
            self._put("tower", self._inside(ground, 0.3, 0.35), rng.uniform(0, 6), rng.uniform(1.0, 1.4))

    @staticmethod
    def _inside(ground: Array, a: float, b: float) -> Array:
        return (1 - a) * (1 - b) * ground[0] + a * (1 - b) * ground[1] + a * b * ground[2] + (1 - a) * b * ground[3]
