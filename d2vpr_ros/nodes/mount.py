"""What tf says, where tf2 is installed (it is no part of the ROS 2 that PyPI carries)."""

from __future__ import annotations

import importlib.util
from typing import Any

from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time

from d2vpr_ros.fields import read_transform
from d2vpr_ros.geometry import Pose


class MountListener:
    """Listens to /tf_static and /tf; `lookup` never waits. One for each node: the buffer offers a service.

    Attributes:
        buffer: of tf2_ros; None where that is not installed.
    """

    def __init__(self, node: Node) -> None:
        self.buffer: Any = None
        if importlib.util.find_spec("tf2_ros") is not None:
            import tf2_ros

            # With the node's clock the buffer is cleared when simulated time jumps back, as in a recording that is
            # played again; by its own clock it would refuse every transform from then on as old.
            self.buffer = tf2_ros.Buffer(node=node)
            if not hasattr(self.buffer, "jump_handle"):  # Humble's does not look at the clock
                back = JumpThreshold(min_forward=None, min_backward=Duration(seconds=-1), on_clock_change=True)
                self._jump = node.get_clock().create_jump_callback(back, post_callback=lambda jump: self.buffer.clear())
            self._listener = tf2_ros.TransformListener(self.buffer, node)

    @property
    def can_know(self) -> bool:
        """Whether tf2 is installed."""
        return self.buffer is not None

    def lookup(self, base_frame: str, camera_frame: str) -> Pose | None:
        """T_base_cameraOptical at the newest time, or None as long as it is not known, or no pose."""
        if self.buffer is None or not self.buffer.can_transform(base_frame, camera_frame, Time()):
            return None
        try:
            return read_transform(self.buffer.lookup_transform(base_frame, camera_frame, Time()).transform)
        except ValueError:  # tf2 takes what it is given
            return None
