"""The quads of a house: walls with their facade, roof, cornice, balconies, awnings and signs."""

from __future__ import annotations

import numpy as np

from d2vpr_ros.geometry import Array
from d2vpr_ros.sim.layout import Colour, House
from d2vpr_ros.sim.mesh import Quads, box, placed, prism, quad
from d2vpr_ros.sim.shader import FACADE, PLAIN, SIGN
from d2vpr_ros.sim.textures import PLANKS, PLASTER, ROOF, STONE, TEXT, TEXT_LAYERS, TEXT_ROWS

SIGN_COLOURS = ((0.5, 0.04, 0.04), (0.04, 0.12, 0.4), (0.03, 0.25, 0.1), (0.6, 0.4, 0.03), (0.05, 0.05, 0.05))


def _up(p: Array, z: float) -> tuple[float, float, float]:
    return (float(p[0]), float(p[1]), z)


class _Front:
    """The plane of a facade: metres along it, metres out of it, height."""

    def __init__(self, left: Array, right: Array) -> None:
        self.left = left
        self.width = float(np.linalg.norm(right - left))
        self.along = (right - left) / max(self.width, 1e-6)
        self.out = np.array([self.along[1], -self.along[0]])

    def at(self, u: float, out: float, z: float) -> tuple[float, float, float]:
        return _up(self.left + self.along * u + self.out * out, z)

    def slab(
        self, u0: float, u1: float, z0: float, z1: float, depth: float, kind: tuple[float, ...], colour: Colour
    ) -> Quads:
        """A box on the wall that stands out by `depth`."""
        low = [self.at(u0, depth, z0), self.at(u1, depth, z0), self.at(u1, 0, z0), self.at(u0, 0, z0)]
        high = [self.at(u0, depth, z1), self.at(u1, depth, z1), self.at(u1, 0, z1), self.at(u0, 0, z1)]
        return prism(low, high, kind, colour, bottom=True)


def _pick(seed: float, salt: int) -> float:
    """A number in 0..1 that follows from a house's seed."""
    return float((seed * (137.31 + 71.7 * salt)) % 1.0)


def _roof(house: House, corners: list[Array]) -> Quads:
    fl, fr, br, bl = corners
    height, rise = house.height, house.roof_height
    wall = (PLAIN, house.wall, house.seed, 0.0)
    tiled = (PLAIN, ROOF, house.seed, 0.0)
    front = _Front(fl, fr)
    if house.roof == "flat":
        top = height - 0.02
        quads = [
            quad([_up(p, top) for p in corners], (0, 0, front.width, 11), (PLAIN, PLASTER, 0.5, 0), (0.2, 0.2, 0.2))
        ]
        return quads + front.slab(0, front.width, height - 0.3, height + 0.35, 0.25, wall, house.trim)
    if house.roof == "gable":
        left, right = (fl + bl) / 2, (fr + br) / 2
        eave = 0.45
        low_left, low_right = fl + front.out * eave, fr + front.out * eave
        slope = float(np.hypot(np.linalg.norm(left - fl), rise))
        drop = height - rise * eave / max(float(np.linalg.norm(left - fl)), 1.0)
        ridge = height + rise
        return [
            quad(
                [_up(low_left, drop), _up(low_right, drop), _up(right, ridge), _up(left, ridge)],
                (0, 0, front.width, slope),
                tiled,
                house.roof_colour,
            ),
            quad(
                [_up(br, height), _up(bl, height), _up(left, ridge), _up(right, ridge)],
                (0, 0, front.width, slope),
                tiled,
                house.roof_colour,
            ),
            quad(
                [_up(bl, height), _up(fl, height), _up(left, ridge), _up(left, ridge)],
                (0, 0, 9, rise),
                wall,
                house.colour,
            ),
            quad(
                [_up(fr, height), _up(br, height), _up(right, ridge), _up(right, ridge)],
                (0, 0, 9, rise),
                wall,
                house.colour,
            ),
        ]
    middle = np.mean(corners, axis=0)
    upper = [_up(c + (middle - c) * 0.22, height + rise * 0.8) for c in corners]
    quads = prism([_up(c, height) for c in corners], upper, tiled, house.roof_colour)
    for u in np.arange(1.5, front.width - 2.2, 2.9).tolist():
        quads += _dormer(house, front, u)
    return quads + front.slab(0, front.width, height - 0.25, height + 0.12, 0.35, wall, house.trim)


def _dormer(house: House, front: _Front, u: float) -> Quads:
    z0, z1 = house.height + 0.3, house.height + 0.3 + min(1.7, house.roof_height * 0.7)
    low = [front.at(u, -0.3, z0), front.at(u + 1.3, -0.3, z0), front.at(u + 1.3, -3, z0), front.at(u, -3, z0)]
    high = [(x, y, z1) for x, y, _ in low]
    quads = prism(low, high, (PLAIN, PLASTER, house.seed, 0.0), house.roof_colour)
    quads[0] = quad(
        [low[0], low[1], high[1], high[0]],
        (1, 2, 2, 3),
        (FACADE, house.wall, house.seed, 1.0),
        house.colour,
        (1.3, z1 - z0, house.window, 0.0),
        house.trim,
    )
    return quads


def _shop_front(house: House, front: _Front) -> Quads:
    quads: Quads = []
    seed = house.seed
    colour = SIGN_COLOURS[int(_pick(seed, 1) * len(SIGN_COLOURS))]
    ink = (0.85, 0.8, 0.6) if _pick(seed, 2) < 0.7 else (0.9, 0.3, 0.1)
    z0 = house.floor_height * 0.82
    layer, row = TEXT + int(_pick(seed, 3) * TEXT_LAYERS), int(_pick(seed, 4) * TEXT_ROWS)
    width = min(front.width - 0.8, 5.5)
    u0 = 0.4 + (front.width - 0.8 - width) * _pick(seed, 5)
    lit = (SIGN, layer, float(_pick(seed, 6) < 0.5), 0.0)
    corners = [front.at(u0, 0.14, z0), front.at(u0 + width, 0.14, z0)]
    corners += [front.at(u0 + width, 0.14, z0 + 0.62), front.at(u0, 0.14, z0 + 0.62)]
    quads.append(quad(corners, (0, 0, 1, 1), lit, colour, (float(row), 0, 0, 0), ink))
    if _pick(seed, 7) < 0.5:
        low, high, reach = z0 - 0.55, z0 + 0.05, 1.3
        corners = [front.at(0.3, reach, low), front.at(front.width - 0.3, reach, low)]
        corners += [front.at(front.width - 0.3, 0.02, high), front.at(0.3, 0.02, high)]
        quads.append(quad(corners, (0, 0, front.width, 1.4), (PLAIN, PLANKS, seed, 0.0), colour))
    if _pick(seed, 8) < 0.5:  # a sign that hangs out over the pavement
        u, z = front.width * _pick(seed, 9), z0 + 0.9
        corners = [front.at(u, 0.2, z), front.at(u, 1.1, z), front.at(u, 1.1, z + 0.7), front.at(u, 0.2, z + 0.7)]
        quads.append(quad(corners, (0, 0, 1, 1), lit, colour, (float((row + 1) % TEXT_ROWS), 0, 0, 0), ink))
    return quads


def house_quads(house: House) -> Quads:
    """All quads of one house."""
    corners = [np.array(p) for p in (house.front_left, house.front_right, house.back_right, house.back_left)]
    fl, fr, br, bl = corners
    front = _Front(fl, fr)
    height, width = house.height, front.width
    bays = max(1, round(width / house.bay))
    wall = (PLAIN, house.wall, house.seed, 0.0)
    depth = float(np.linalg.norm(br - fr))
    quads = [
        quad(
            [_up(fl, 0), _up(fr, 0), _up(fr, height), _up(fl, height)],
            (0, 0, bays, house.floors),
            (FACADE, house.wall, house.seed, bays),
            house.colour,
            (width / bays, house.floor_height, house.window, house.ground + 8.0 * house.shop),
            house.trim,
        ),
        quad([_up(fr, 0), _up(br, 0), _up(br, height), _up(fr, height)], (0, 0, depth, height), wall, house.colour),
        quad([_up(br, 0), _up(bl, 0), _up(bl, height), _up(br, height)], (0, 0, width, height), wall, house.colour),
        quad([_up(bl, 0), _up(fl, 0), _up(fl, height), _up(bl, height)], (0, 0, depth, height), wall, house.colour),
    ]
    quads += _roof(house, corners)
    if _pick(house.seed, 10) < 0.5:  # the plinth
        quads += front.slab(0, width, 0, 0.5, 0.07, (PLAIN, STONE, 0.5, 0.0), house.trim)
    if house.shop:
        quads += _shop_front(house, front)
    if house.balconies:
        bay = width / bays
        for b in range(int(_pick(house.seed, 11) * 2), bays, 2):
            for f in range(1, house.floors):
                z = f * house.floor_height + 0.1
                u0, u1 = b * bay + 0.15, (b + 1) * bay - 0.15
                quads += front.slab(u0, u1, z - 0.15, z, 0.95, (PLAIN, PLASTER, 0.5, 0.0), (0.5, 0.5, 0.48))
                rail = [
                    front.at(u0, 0.95, z),
                    front.at(u1, 0.95, z),
                    front.at(u1, 0.95, z + 0.9),
                    front.at(u0, 0.95, z + 0.9),
                ]
                quads.append(quad(rail, (0, 0, bay, 0.9), (PLAIN, PLANKS, 0.5, 0.0), house.trim))
    if house.roof != "flat":
        chimney = np.array(box(-0.4, 0.4, -0.4, 0.4, 0, height + house.roof_height + 0.9, wall, (0.35, 0.18, 0.13)))
        x, y = fl + (br - fl) * (0.25 + 0.5 * _pick(house.seed, 12))
        quads += placed(chimney, float(x), float(y), float(np.arctan2(*front.along[::-1])), 1.0).tolist()
    return quads
