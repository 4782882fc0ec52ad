"""The camera's mount from tf2, where tf2 is installed (it is no part of the ROS 2 that PyPI carries)."""

from __future__ import annotations

import importlib.util
from typing import Any

from rclpy.node import Node
from rclpy.time import Time

from d2vpr_ros.fields import read_transform
from d2vpr_ros.geometry import Pose


class MountListener:
    """Listens to /tf_static and /tf; `lookup` never waits."""

    def __init__(self, node: Node) -> None:
        self._buffer: Any = None
        if importlib.util.find_spec("tf2_ros") is not None:
            import tf2_ros

            self._buffer = tf2_ros.Buffer()
            self._listener = tf2_ros.TransformListener(self._buffer, node)

    @property
    def can_know(self) -> bool:
        """Whether tf2 is installed."""
        return self._buffer is not None

    def lookup(self, base_frame: str, camera_frame: str) -> Pose | None:
        """T_base_cameraOptical at the newest time, or None as long as it is not known, or no pose."""
        if self._buffer is None or not self._buffer.can_transform(base_frame, camera_frame, Time()):
            return None
        try:
            return read_transform(self._buffer.lookup_transform(base_frame, camera_frame, Time()).transform)
        except ValueError:  # tf2 takes what it is given
            return None
