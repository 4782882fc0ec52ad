"""Rigid transforms in the frames of REP-103: metres, quaternions as (x, y, z, w), float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation, Slerp

Array = npt.NDArray[np.float64]

# A level camera that looks along the robot's x axis: optical z = base x, optical x = -base y (REP-103).
FORWARD_OPTICAL_QUATERNION = (-0.5, 0.5, -0.5, 0.5)


@dataclass(frozen=True, eq=False)
class Pose:
    """The transform T_a_b: where frame b stands in frame a.

    Attributes:
        position: (3,) float64, metres, in frame a.
        quaternion: (4,) float64, unit, (x, y, z, w).
    """

    position: Array
    quaternion: Array

    @staticmethod
    def of(x: float, y: float, z: float, qx: float, qy: float, qz: float, qw: float) -> Pose:
        """The pose of seven numbers; the quaternion is normalised.

        Raises:
            ValueError: a number is not finite, or the quaternion has no direction.
        """
        numbers = np.array([x, y, z, qx, qy, qz, qw], dtype=np.float64)
        norm = float(np.linalg.norm(numbers[3:]))
        if not np.isfinite(numbers).all() or not 1e-6 <= norm < np.inf:  # squares of finite numbers can overflow
            raise ValueError(f"not a pose: {numbers.tolist()}")
        return Pose(numbers[:3], numbers[3:] / norm)

    @staticmethod
    def identity() -> Pose:
        return Pose.of(0, 0, 0, 0, 0, 0, 1)

    @staticmethod
    def planar(x: float, y: float, yaw: float, z: float = 0.0) -> Pose:
        """A pose on the ground plane; yaw in radians, counter-clockwise from the x axis."""
        return Pose.of(x, y, z, 0.0, 0.0, float(np.sin(yaw / 2)), float(np.cos(yaw / 2)))

    @property
    def rotation(self) -> Rotation:
        return Rotation.from_quat(self.quaternion)

    @property
    def numbers(self) -> tuple[float, ...]:
        """(x, y, z, qx, qy, qz, qw) as plain floats."""
        return tuple(float(v) for v in (*self.position, *self.quaternion))

    def __matmul__(self, other: Pose) -> Pose:
        """T_a_b @ T_b_c = T_a_c."""
        turned = self.rotation
        return Pose(self.position + turned.apply(other.position), (turned * other.rotation).as_quat())

    def inverse(self) -> Pose:
        back = self.rotation.inv()
        return Pose(-back.apply(self.position), back.as_quat())


# T_base_cameraOptical assumed where nothing better is known: level and forward-looking, at the base's origin.
FORWARD_MOUNT = Pose.of(0.0, 0.0, 0.0, *FORWARD_OPTICAL_QUATERNION)


def distance(a: Pose, b: Pose) -> float:
    """Metres between two positions."""
    return float(np.linalg.norm(a.position - b.position))


def turn(a: Pose, b: Pose) -> float:
    """The angle of the relative rotation, radians in [0, pi] (never a yaw difference: a map need not be level)."""
    return float((a.rotation.inv() * b.rotation).magnitude())


def interpolate(a: Pose, b: Pose, fraction: float) -> Pose:
    """Between two poses, `fraction` in [0, 1]: position linear, rotation slerp."""
    ends = Rotation.from_quat(np.stack([a.quaternion, b.quaternion]))
    quaternion = Slerp([0.0, 1.0], ends)(fraction).as_quat()
    return Pose((1 - fraction) * a.position + fraction * b.position, quaternion)


def optical_heading(pose: Pose) -> float | None:
    """Direction of a camera's optical axis on the map's xy-plane, radians from x; None near vertical (20 degrees)."""
    axis = pose.rotation.apply([0.0, 0.0, 1.0])
    if np.hypot(axis[0], axis[1]) < np.sin(np.radians(20.0)):
        return None
    return float(np.arctan2(axis[1], axis[0]))


def scale_camera_matrix(k: Array, x: float, y: float) -> Array:
    """(3, 3) intrinsics of pictures scaled to `x` times their width and `y` times their height."""
    # OpenCV's pixel centres are whole numbers: the picture's corner, not its first pixel's centre, is the origin.
    into = np.array([[x, 0.0, 0.5 * x - 0.5], [0.0, y, 0.5 * y - 0.5], [0.0, 0.0, 1.0]])
    return into @ np.asarray(k, dtype=np.float64)
