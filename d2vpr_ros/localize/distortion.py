"""Lens distortion of sensor_msgs/CameraInfo: where a point would be in the picture of a pinhole camera."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from d2vpr_ros.geometry import Array

Points = npt.NDArray[np.float32]

_MODELS = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14)}  # and how many coefficients, in OpenCV's order
_MOST = 1e4  # beyond, a coefficient is none
_ROUNDS, _EXACT = 30, 1e-4  # of the inversion; pixels over the focal length
_OFF = 0.5  # pixels that a point may be off when distorted again: the models have no inverse far out


def known_distortion(model: str, d: Sequence[float]) -> tuple[float, ...] | None:
    """The coefficients as OpenCV takes them, empty where there is no distortion; None for another model or none."""
    if not any(d):
        return ()
    if len(d) not in _MODELS.get(model, ()) or not (np.isfinite(d).all() and np.abs(d).max() <= _MOST):
        return None
    return tuple(float(one) for one in d)


def undistorted(points: Points, k: Array, d: Sequence[float]) -> tuple[Points, npt.NDArray[np.bool_]]:
    """Pixels of a distorted picture as those of a pinhole camera with the same (3, 3) intrinsics.

    Args:
        points: (N, 2) x, y.
        d: as `known_distortion` gives it.

    Returns:
        (N, 2) points, and (N,) which of them are right: the model has no inverse for the others.
    """
    if not d or not len(points):
        return points, np.ones(len(points), np.bool_)
    coefficients, nowhere, same = np.array(d), np.zeros(3), np.eye(3)
    criteria = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, _ROUNDS, _EXACT)
    rays = cv2.undistortPointsIter(points.reshape(-1, 1, 2), k, coefficients, same, same, criteria).reshape(-1, 2)
    with np.errstate(over="ignore", invalid="ignore"):
        finite: npt.NDArray[np.bool_] = np.asarray(np.isfinite(rays).all(axis=1))
        flat = np.column_stack([np.where(finite[:, None], rays, 0.0), np.ones(len(rays))])
        again, _ = cv2.projectPoints(flat.astype(np.float64), nowhere, nowhere, k, coefficients)
        good = finite & (np.linalg.norm(again.reshape(-1, 2) - points, axis=1) <= _OFF)
        straight = (flat @ k.T)[:, :2].astype(np.float32)
    return straight, good
