"""How far from the answer the robot may stand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# Of the distance over which places look alike: what the belief cannot see, such as a robot that drives a lane further
# to the side. Measured on the calibration towns (models/fit_calibration.py).
_SIGMA = 0.075
_SIGMA_TURN = np.radians(10.0)


def answer_covariance(scatter: npt.NDArray[np.float64], alike_m: float) -> npt.NDArray[np.float64]:
    """Covariance of an answer.

    Args:
        scatter: (3, 3) covariance of the belief's mass around it, metres squared.
        alike_m: how far along the map's drives places look alike (`reach.alike_m`).

    Returns:
        (6, 6) float64, positive definite: metres squared and radians squared, over (x, y, z, rotation about x, y, z).
    """
    covariance = np.diag([(_SIGMA * alike_m) ** 2] * 3 + [_SIGMA_TURN**2] * 3)
    covariance[:3, :3] += scatter
    return covariance
