"""Ways through a town: closed loops to drive, and street places to look at."""

from __future__ import annotations

import numpy as np

from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import Array, Pose
from d2vpr_ros.sim.layout import BLOCKS, Town

CORNER_M = 8.0  # how far before a node the way starts to turn
STEP_M = 0.5
_TRIES = 10_000  # walks that a tour is looked for among: half a second


def _street_nodes(i0: int, j0: int, i1: int, j1: int, town: Town) -> Array:
    ring = [(i, j0) for i in range(i0, i1)] + [(i1, j) for j in range(j0, j1)]
    ring += [(i, j1) for i in range(i1, i0, -1)] + [(i0, j) for j in range(j1, j0, -1)]
    return np.array([town.nodes[town.node(i, j)] for i, j in ring])


def _rounded(corners: Array) -> Array:
    """A closed way through the corners, each cut by a quadratic curve, resampled to about STEP_M."""
    pieces = []
    for before, here, after in zip(np.roll(corners, 1, axis=0), corners, np.roll(corners, -1, axis=0), strict=True):
        start = here + (before - here) * CORNER_M / np.linalg.norm(before - here)
        end = here + (after - here) * CORNER_M / np.linalg.norm(after - here)
        t = np.linspace(0, 1, 24)[:, None]
        pieces.append((1 - t) ** 2 * start + 2 * t * (1 - t) * here + t**2 * end)
    way = np.concatenate(pieces)
    way = np.vstack([way, way[:1]])
    s = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(way, axis=0), axis=1))])
    at = np.linspace(0, s[-1], max(8, round(s[-1] / STEP_M)), endpoint=False)
    return np.stack([np.interp(at, s, way[:, k]) for k in range(2)], axis=1)


def length(way: Array) -> float:
    """Metres around a closed way."""
    return float(np.linalg.norm(np.roll(way, -1, axis=0) - way, axis=1).sum())


def loops(town: Town) -> list[Array]:
    """All loops around whole rectangles of blocks: (N, 2) closed ways along street middles, nearest to 400 m first."""
    inner = range(1, BLOCKS)
    ways = [
        _rounded(_street_nodes(i0, j0, i1, j1, town))
        for i0 in inner
        for i1 in inner
        for j0 in inner
        for j1 in inner
        if i0 < i1 and j0 < j1
    ]
    return sorted(ways, key=lambda way: abs(length(way) - 400.0))


def loop(town: Town, choice: int = 0) -> Array:
    """(N, 2) closed way of street middles, one point each half metre, counter-clockwise; the first is some 400 m."""
    ways = loops(town)
    return ways[choice % len(ways)]


def tour(town: Town, metres: float, seed: int = 0) -> Array:
    """(N, 2) closed way that wanders along streets, some of them several times, and never turns round.

    Args:
        metres: its length, up to 15 % more.

    Raises:
        UserError: no such way was found.
    """
    rng = np.random.default_rng([seed, round(metres)])
    for _ in range(_TRIES):
        nodes = [(int(rng.integers(1, BLOCKS)), int(rng.integers(1, BLOCKS)))]
        came, total = None, 0.0
        while total <= 1.15 * metres:
            i, j = nodes[-1]
            near = [(i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)]
            ahead = [one for one in near if min(one) >= 1 and max(one) < BLOCKS and one != came]
            came, at = nodes[-1], ahead[int(rng.integers(len(ahead)))]
            total += float(np.linalg.norm(np.subtract(town.nodes[town.node(*at)], town.nodes[town.node(*came)])))
            if at == nodes[0] and metres <= total <= 1.15 * metres and nodes[1] != came:
                return _rounded(np.array([town.nodes[town.node(*node)] for node in nodes]))
            nodes.append(at)
    raise UserError(
        f"this town has no way of {metres:.0f} to {1.15 * metres:.0f} m that ends where it began; ask for more or less"
    )


def sample_places(town: Town, rng: np.random.Generator, n: int) -> list[Pose]:
    """n poses T_map_base in the middle of streets, heading along them in either direction."""
    ends = np.array([[town.nodes[s.a], town.nodes[s.b]] for s in town.streets])
    lengths = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
    chosen = rng.choice(len(ends), n, p=lengths / lengths.sum())
    places = []
    for a, b in ends[chosen]:
        x, y = a + (b - a) * rng.random()
        dx, dy = (b - a) * rng.choice([-1, 1])
        places.append(Pose.planar(float(x), float(y), float(np.arctan2(dy, dx))))
    return places


def jitter(place: Pose, rng: np.random.Generator, forward_m: float, lateral_m: float, yaw_rad: float) -> Pose:
    """The place seen from a little elsewhere: uniform within these bounds, in the place's own frame."""
    forward, left, yaw = rng.uniform(-1, 1, 3) * (forward_m, lateral_m, yaw_rad)
    return place @ Pose.planar(float(forward), float(left), float(yaw))
