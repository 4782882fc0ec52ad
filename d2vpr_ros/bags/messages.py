"""ROS messages without ROS: the fixed set of types bags are read and written with."""

from __future__ import annotations

from typing import Any

import numpy as np
from rosbags.typesys import Stores, get_typestore

from d2vpr_ros.fields import NANOSECONDS
from d2vpr_ros.geometry import Pose

# Definitions that a bag brings along are never registered: the reader would run code generated from them.
TYPESTORE: Any = get_typestore(Stores.ROS2_JAZZY)


def make(msgtype: str, **fields: Any) -> Any:
    """A message of a type by its name, such as ``geometry_msgs/msg/Point``."""
    return TYPESTORE.types[msgtype](**fields)


def make_header(stamp_ns: int, frame_id: str) -> Any:
    seconds, nanoseconds = divmod(int(stamp_ns), NANOSECONDS)
    time = make("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)
    return make("std_msgs/msg/Header", stamp=time, frame_id=frame_id)


def make_vector(xyz: Any) -> Any:
    return make("geometry_msgs/msg/Vector3", x=float(xyz[0]), y=float(xyz[1]), z=float(xyz[2]))


def make_quaternion(pose: Pose) -> Any:
    x, y, z, w = pose.numbers[3:]
    return make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)


def make_pose(pose: Pose) -> Any:
    """geometry_msgs/Pose."""
    x, y, z = pose.numbers[:3]
    return make(
        "geometry_msgs/msg/Pose",
        position=make("geometry_msgs/msg/Point", x=x, y=y, z=z),
        orientation=make_quaternion(pose),
    )


def make_covariance(covariance: Any | None) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The (36,) float64 of a (6, 6) covariance (REP-103 order x, y, z, roll, pitch, yaw); None is unknown: zeros."""
    if covariance is None:
        return np.zeros(36)
    return np.ascontiguousarray(covariance, dtype=np.float64).reshape(36)
