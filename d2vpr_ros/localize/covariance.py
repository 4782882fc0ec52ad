"""How far from the answer the robot may stand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# What the belief cannot see, such as a robot that drives a lane further to the side: of the distance over which places
# look alike, and of the spacing. As the calibration towns ask for, each third of their answers by probability.
_SIGMA, _SIGMA_SPACINGS = 0.11, 0.43
_SCATTER_BY_ODOMETRY, _SCATTER_BY_SIGHT = 0.15, 0.6  # the mass lies wider around the answer than the robot does
_SIGMA_TURN = np.radians(10.0)


def answer_covariance(
    scatter: npt.NDArray[np.float64], alike_m: float, spacing_m: float, *, by_odometry: bool
) -> npt.NDArray[np.float64]:
    """Covariance of an answer.

    Args:
        scatter: (3, 3) covariance of the belief's mass around it, metres squared.
        alike_m: how far along the map's drives places look alike (`reach.alike_m`).
        spacing_m: how far apart they are.
        by_odometry: whether the belief moved by it, and not as the images alone let it.

    Returns:
        (6, 6) float64, positive definite: metres squared and radians squared, over (x, y, z, rotation about x, y, z).
    """
    sigma = max(_SIGMA * alike_m, _SIGMA_SPACINGS * spacing_m)
    covariance = np.diag([sigma**2] * 3 + [_SIGMA_TURN**2] * 3)
    covariance[:3, :3] += (_SCATTER_BY_ODOMETRY if by_odometry else _SCATTER_BY_SIGHT) * scatter
    return covariance
