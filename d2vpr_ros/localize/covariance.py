"""How far from the answer the robot may stand."""

from __future__ import annotations

import numpy as np

from d2vpr_ros.bags.covariance import Array, moved
from d2vpr_ros.mapping import PlaceMap

# What the belief cannot see, such as a robot that drives a lane further to the side: of the distance over which places
# look alike, and of the spacing. As the calibration towns ask for, each third of their answers by probability.
_SIGMA, _SIGMA_SPACINGS = 0.11, 0.43
_SIGMA_ALONE = 0.12  # of the same distance: what one image errs by; of several the mean does
_SCATTER_BY_ODOMETRY, _SCATTER_BY_SIGHT = 0.15, 0.6  # the mass lies wider around the answer than the robot does
_SIGMA_TURN = np.radians(10.0)


def answer_covariance(
    scatter: Array,
    images: float,
    alike_m: float,
    spacing_m: float,
    *,
    by_odometry: bool,
    place: Array | None = None,
) -> Array:
    """Covariance of an answer.

    Args:
        scatter: (3, 3) covariance of the belief's mass around it, metres squared.
        images: how many are behind it.
        alike_m: how far along the map's drives places look alike (`reach.alike_m`).
        spacing_m: how far apart they are.
        by_odometry: whether the belief moved by it, and not as the images alone let it.
        place: (6, 6) that the map states of the place the answer is made from (`of_place`). Images say where the robot
            is among the places; where those are, only the map knows.

    Returns:
        (6, 6) float64, positive definite: metres squared and radians squared, over (x, y, z, rotation about x, y, z).
    """
    unseen = max(_SIGMA * alike_m, _SIGMA_SPACINGS * spacing_m)
    variance = unseen**2 + (_SIGMA_ALONE * alike_m) ** 2 / max(images, 1.0)
    covariance = np.diag([variance] * 3 + [_SIGMA_TURN**2] * 3)
    covariance[:3, :3] += (_SCATTER_BY_ODOMETRY if by_odometry else _SCATTER_BY_SIGHT) * scatter
    return covariance if place is None else covariance + place


def of_place(place_map: PlaceMap, row: int, position: Array) -> Array | None:
    """(6, 6) of a pose stated from a place, as well as the map knows the place's; None where the map does not say it.

    An error of the place's rotation moves a robot that stands away from it.

    Args:
        position: (3,) of the answer, metres in the map frame.
    """
    of_camera = place_map.covariance(row)
    return None if of_camera is None else moved(of_camera, position - place_map.positions[row])
