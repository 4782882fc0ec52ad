"""A camera's lens: from pixels to directions, by the models of sensor_msgs/CameraInfo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from d2vpr_ros.geometry import Array, scale_camera_matrix

_MODELS = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14), "equidistant": (4,)}  # and how many coefficients
_FISHEYE = "equidistant"
_MOST = 1e4  # beyond, a coefficient is none
_ROUNDS, _EXACT = 30, 1e-4  # of the inversion; pixels over the focal length
_OFF = 0.5  # pixels that a point may be off when distorted again: the models have no inverse far out
_WIDEST = 5.0  # tangent of the angle off the axis, 79 degrees; beyond, a plane in front of the camera holds no picture
_FOCAL = (0.1, 20.0)  # of a lens that exists, over the picture's longer side: 157 to 3 degrees across
_SAME_SHAPE = 0.02  # relative; a picture scaled down to whole pixels is off by less, one cut to 4:3 by more


@dataclass(frozen=True, eq=False)
class Lens:
    """Intrinsics for pictures of one size.

    Attributes:
        width, height: pixels.
        k: (3, 3) float64, upper triangular.
        model, d: distortion as in sensor_msgs/CameraInfo; `d` is empty where there is none.
    """

    width: int
    height: int
    k: Array
    model: str = ""
    d: tuple[float, ...] = ()

    @property
    def focal_px(self) -> float:
        """Geometric mean of both focal lengths, pixels."""
        return float(np.sqrt(self.k[0, 0] * self.k[1, 1]))

    def for_size(self, width: int, height: int) -> Lens | None:
        """The lens for the same picture scaled to another size; None where that has another shape: it was cut."""
        x, y = width / self.width, height / self.height
        if abs(x / y - 1) > _SAME_SHAPE:
            return None
        return Lens(width, height, scale_camera_matrix(self.k, x, y), self.model, self.d)

    def rays(self, points: npt.NDArray[np.float32]) -> tuple[Array, npt.NDArray[np.bool_]]:
        """Where pixels look.

        Args:
            points: (N, 2) x, y in pixels.

        Returns:
            (N, 2) float64 x/z and y/z in the optical frame, and (N,) which of them are right: far out the distortion
            models have no inverse, and what looks to the side has no x/z.
        """
        if not len(points):
            return np.zeros((0, 2)), np.zeros(0, np.bool_)
        rays = self._undistorted(np.ascontiguousarray(points, np.float64).reshape(-1, 1, 2))
        with np.errstate(invalid="ignore", over="ignore"):
            good = np.isfinite(rays).all(axis=1) & (np.linalg.norm(rays, axis=1) <= _WIDEST)
            flat = np.where(good[:, None], rays, 0.0)
            good &= np.linalg.norm(self.pixels(flat) - points, axis=1) <= _OFF
        return flat, good

    def pixels(self, rays: Array) -> Array:
        """The inverse: (N, 2) x/z, y/z -> (N, 2) float64 pixels."""
        if not len(rays):
            return np.zeros((0, 2))
        if not self.d:
            return np.asarray((np.column_stack([rays, np.ones(len(rays))]) @ self.k.T)[:, :2])
        nowhere, coefficients = np.zeros(3), np.array(self.d)
        if self.model == _FISHEYE:
            found = cv2.fisheye.distortPoints(rays.reshape(-1, 1, 2), self.k, coefficients)
        else:
            space = np.column_stack([rays, np.ones(len(rays))])
            found, _ = cv2.projectPoints(space, nowhere, nowhere, self.k, coefficients)
        return np.asarray(found, np.float64).reshape(-1, 2)

    def _undistorted(self, points: Array) -> Array:
        if not self.d:
            rays = (points.reshape(-1, 2) - self.k[:2, 2]) @ np.linalg.inv(self.k[:2, :2]).T
            return np.asarray(rays)
        criteria = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, _ROUNDS, _EXACT)
        if self.model == _FISHEYE:
            rays = cv2.fisheye.undistortPoints(points, self.k, np.array(self.d), criteria=criteria)
        else:
            same = np.eye(3)
            rays = cv2.undistortPointsIter(points, self.k, np.array(self.d), same, same, criteria)
        return np.asarray(rays, np.float64).reshape(-1, 2)


def lens_of(
    k: Sequence[float] | Array | None, width: int, height: int, model: str = "", d: Sequence[float] = ()
) -> Lens | None:
    """The lens that a sensor_msgs/CameraInfo describes; None where it describes none.

    An uncalibrated driver publishes zeros. A focal length that no lens has, a centre outside the picture, a model that
    is not known here and coefficients that are none count as not known, too.

    Args:
        k: nine numbers, row by row, for pictures of this size.
        model, d: plumb_bob, rational_polynomial or equidistant; all zeros are no distortion, whatever the model.
    """
    if k is None or min(width, height) <= 0 or np.size(k) != 9:
        return None
    matrix = np.asarray(k, np.float64).reshape(3, 3)
    if not np.isfinite(matrix).all() or matrix[1, 0] != 0 or not np.array_equal(matrix[2], [0, 0, 1]):
        return None
    focal = np.array([matrix[0, 0], matrix[1, 1]]) / max(width, height)
    centre = matrix[:2, 2] / (width, height)
    if not ((focal > _FOCAL[0]) & (focal < _FOCAL[1])).all() or not ((centre > 0) & (centre < 1)).all():
        return None
    if not any(d):
        return Lens(width, height, matrix)
    if len(d) not in _MODELS.get(model, ()) or not (np.isfinite(d).all() and np.abs(d).max() <= _MOST):
        return None
    return Lens(width, height, matrix, model, tuple(float(one) for one in d))


class Intrinsics(Protocol):
    """What a bag, a map and a camera file say of a camera, in the words of sensor_msgs/CameraInfo."""

    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def k(self) -> tuple[float, ...] | None: ...
    @property
    def distortion_model(self) -> str: ...
    @property
    def d(self) -> tuple[float, ...]: ...


def camera_lens(camera: Intrinsics | None) -> Lens | None:
    """`lens_of` a camera; None where nothing is known of it."""
    if camera is None:
        return None
    return lens_of(camera.k, camera.width, camera.height, camera.distortion_model, camera.d)


def plain_lens(focal_px: float, width: int, height: int) -> Lens:
    """The lens of a camera of which only the focal length is known: its centre in the middle, no distortion."""
    k = np.array([[focal_px, 0.0, (width - 1) / 2], [0.0, focal_px, (height - 1) / 2], [0.0, 0.0, 1.0]])
    return Lens(width, height, k)
