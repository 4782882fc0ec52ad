"""Covariances of poses, as ROS writes them.

(6, 6) float64, m², m rad and rad², over x, y, z and rotations about the fixed x, y, z axes of the frame the pose is in
(geometry_msgs/PoseWithCovariance): the true rotation is exp(error) times the given one. The convention holds whichever
body the pose is of, so that going from the base to the camera moves the point, and turns nothing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def usable(raw: Array) -> Array | None:
    """A message's (36,) numbers as a symmetric (6, 6), or None where they say nothing.

    Nothing is said by zeros, which drivers write when they do not know, by NaN, and by what is no covariance (a
    negative variance, -1 for "not given" among them).
    """
    matrix: Array = np.asarray(raw, dtype=np.float64).reshape(6, 6)
    if not np.isfinite(matrix).all() or not matrix.any():
        return None
    matrix = (matrix + matrix.T) / 2
    values = np.linalg.eigvalsh(matrix)
    return matrix if values[0] >= -1e-6 * values[-1] else None  # rounding may leave a zero variance below zero


def larger(a: Array | None, b: Array | None) -> Array | None:
    """The one of two covariances with the larger variance of position; None if either is unknown."""
    if a is None or b is None:
        return None
    return a if np.trace(a[:3, :3]) >= np.trace(b[:3, :3]) else b


def moved(covariance: Array, arm: Array) -> Array:
    """The covariance of the pose of a point that is rigidly attached to the body.

    Args:
        covariance: (6, 6) of the body's pose.
        arm: (3,) from the body to the point, metres, in the frame of the pose (T_frame_body's rotation applied).

    Returns:
        (6, 6): J C J^T with the adjoint J = [[I, -[arm]x], [0, I]]: an error of rotation moves the point.
    """
    x, y, z = arm
    jacobian = np.eye(6)
    jacobian[:3, 3:] = -np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(jacobian @ covariance @ jacobian.T)
