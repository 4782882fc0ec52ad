"""A town as vertices, cut into chunks that a renderer leaves out when they are out of sight."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from d2vpr_ros.geometry import Array
from d2vpr_ros.sim.furniture import prop_quads
from d2vpr_ros.sim.houses import house_quads
from d2vpr_ros.sim.layout import Prop, Town
from d2vpr_ros.sim.mesh import QUAD, Quads, prism, quad, vertices
from d2vpr_ros.sim.shader import DASHES, GROUND, ZEBRA
from d2vpr_ros.sim.textures import ASPHALT, GRASS, PAVING

CHUNK_M = 24.0
HALF_TOWN_M = 260.0  # the ground reaches this far
SMALL_THINGS_M = 80.0  # farther away they are not drawn
SMALL = ("bench", "bollard", "sign", "box", "hydrant", "bin", "person", "railing", "low_wall")
LAMP_REACH = 1.5  # from a lamp's foot to its light


@dataclass(frozen=True, eq=False)
class Scene:
    """What is drawn.

    Attributes:
        data: (V, mesh.VERTEX) float32, four vertices a quad, ordered by chunk.
        first, count: (C,) int, the quads of each chunk.
        low, high: (C, 3) the box around each chunk, metres.
        reach: (C,) metres at which a chunk is still drawn.
        is_ground: (C,) whether it lies under everything else.
    """

    data: npt.NDArray[np.float32]
    first: npt.NDArray[np.int64]
    count: npt.NDArray[np.int64]
    low: Array
    high: Array
    reach: Array
    is_ground: npt.NDArray[np.bool_]


def _ground(town: Town) -> Quads:
    asphalt, paving = (GROUND, ASPHALT, 0.5, 0.0), (GROUND, PAVING, 0.5, 0.0)
    quads: Quads = []
    step = 2 * HALF_TOWN_M / 8
    for x in np.arange(-HALF_TOWN_M, HALF_TOWN_M, step).tolist():
        for y in np.arange(-HALF_TOWN_M, HALF_TOWN_M, step).tolist():
            corners = [(x, y, 0.0), (x + step, y, 0.0), (x + step, y + step, 0.0), (x, y + step, 0.0)]
            quads.append(quad(corners, (x, y, x + step, y + step), asphalt, (0.13, 0.13, 0.135)))
    for block in town.blocks:
        low, high = ([(x, y, z) for x, y in block.pavement] for z in (0.0, 0.14))
        quads += prism(low, high, paving, (0.30, 0.29, 0.27))
        corners = [(x, y, 0.16) for x, y in block.ground]
        (x0, y0, _), (x1, y1, _) = corners[0], corners[2]
        kind, colour = (
            ((GROUND, GRASS, 0.5, 0.0), (0.10, 0.17, 0.05)) if block.kind != "square" else (paving, (0.4, 0.37, 0.33))
        )
        quads.append(quad(corners, (x0, y0, x1, y1), kind, colour))
    return quads


def _markings(town: Town) -> Quads:
    quads: Quads = []
    for street in town.streets:
        a, b = np.array(town.nodes[street.a]), np.array(town.nodes[street.b])
        length = float(np.linalg.norm(b - a))
        along = (b - a) / length
        left = np.array([-along[1], along[0]])

        def strip(s0: float, s1: float, half: float, a: Array = a, along: Array = along, left: Array = left) -> Quads:
            corners = [a + along * s + left * side for s, side in ((s0, -half), (s1, -half), (s1, half), (s0, half))]
            return [[float(x), float(y), 0.025] for x, y in corners]

        if street.half_width > 4:
            quads.append(quad(strip(11, length - 11, 0.07), (0, 0, length - 22, 0.15), (DASHES, ASPHALT, 0.5, 0)))
        half = street.half_width - 0.2
        for s in (8.0, length - 10.6):
            corners = strip(s, s + 2.6, half)
            turned = [corners[1], corners[2], corners[3], corners[0]]  # u across the street
            quads.append(quad(turned, (0, 0, 2 * half, 2.6), (ZEBRA, ASPHALT, 0.5, 0.0)))
    return quads


def moved_props(town: Town, seed: int) -> list[Prop]:
    """Cars, bins and people where they are this time."""
    rng = np.random.Generator(np.random.PCG64([town.seed, seed]))
    props = []
    for x, y, yaw in town.parking:
        if rng.random() < 0.45:
            kind = str(rng.choice(["car", "hatchback", "van"], p=[0.53, 0.4, 0.07]))
            s, side = rng.normal(0, 0.15, 2)
            turn = np.pi * (rng.random() < 0.15)
            props.append(Prop(kind, x + float(s), y + float(side) * 0.5, yaw + float(turn), 1.0, float(rng.random())))
    for x, y in town.standing:
        draw = rng.random()
        if draw < 0.10:
            kind = "person" if draw < 0.05 else "bin"
            dx, dy = rng.uniform(-0.6, 0.6, 2)
            yaw = float(rng.uniform(0, 6.3))
            props.append(
                Prop(kind, x + float(dx), y + float(dy), yaw, float(rng.uniform(0.9, 1.1)), float(rng.random()))
            )
    return props


def lamp_lights(town: Town) -> Array:
    """(N, 2) where the lights of the street lamps hang."""
    return np.array(
        [(p.x + LAMP_REACH * np.cos(p.yaw), p.y + LAMP_REACH * np.sin(p.yaw)) for p in town.props if p.kind == "lamp"]
    ).reshape(-1, 2)


def _scene(large: Array, small: Array, ground: Array) -> Scene:
    """Chunks of three ranks: large things, small ones, and the ground, which is drawn last as most things hide it."""
    quads = np.concatenate([large, small, ground])
    rank = np.repeat([0, 1, 2], [len(large), len(small), len(ground)])
    corners = quads[:, :12].reshape(-1, 4, 3)
    cell = np.floor(corners[:, :, :2].mean(axis=1) / CHUNK_M).astype(np.int64)
    key = ((cell[:, 0] + 512) * 1024 + cell[:, 1] + 512) + 1048576 * rank
    order = np.argsort(key, kind="stable")
    _, first, count = np.unique(key[order], return_index=True, return_counts=True)
    low = np.minimum.reduceat(corners[order].min(axis=1), first)
    high = np.maximum.reduceat(corners[order].max(axis=1), first)
    rank = rank[order][first]
    return Scene(
        vertices(quads[order]), first, count, low, high, np.where(rank == 1, SMALL_THINGS_M, np.inf), rank == 2
    )


def _props(props: list[Prop]) -> Array:
    return np.concatenate([prop_quads(p) for p in props]) if props else np.zeros((0, QUAD))


def fixed_scene(town: Town) -> Scene:
    """Everything that stays where it is from drive to drive."""
    houses = np.array([row for house in town.houses for row in house_quads(house)])
    large = np.concatenate([houses, _props([p for p in town.props if p.kind not in SMALL])])
    return _scene(large, _props([p for p in town.props if p.kind in SMALL]), np.array(_ground(town) + _markings(town)))


def moved_scene(town: Town, seed: int) -> Scene:
    """Cars, bins and people of one session."""
    props = moved_props(town, seed)
    small = _props([p for p in props if p.kind in SMALL])
    return _scene(_props([p for p in props if p.kind not in SMALL]), small, np.zeros((0, QUAD)))
