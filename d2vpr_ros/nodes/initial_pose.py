"""The topic `initialpose`: each message resets AMCL, so they come one at a time."""

from __future__ import annotations

import threading
from typing import Any

from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.node import Node

from d2vpr_ros.localize import Estimate
from d2vpr_ros.nodes import messages

NEVER, WHEN_RECOVERED, ON_REQUEST = MODES = ("never", "when_lost_recovered", "on_request")


class InitialPose:
    """From construction to `destroy`; called from any thread."""

    def __init__(self, node: Node, mode: str, frame: str) -> None:
        """
        Args:
            mode: one of MODES.
            frame: of the poses.
        """
        self._node, self._mode, self._frame = node, mode, frame
        self._is_due = True
        self._lock = threading.Lock()
        self._publisher = self._create(mode)

    def use(self, mode: str) -> None:
        """Change the mode."""
        if mode != self._mode:
            self.destroy()
            self._mode, self._publisher = mode, self._create(mode)

    def _create(self, mode: str) -> Any:
        return None if mode == NEVER else self._node.create_publisher(PoseWithCovarianceStamped, "initialpose", 10)

    def destroy(self) -> None:
        if self._publisher is not None:
            self._node.destroy_publisher(self._publisher)

    def forget(self) -> None:
        """The belief was dropped."""
        with self._lock:
            self._is_due = True

    def see(self, estimate: Estimate) -> None:
        """Each answer, in turn. What nobody listens to stays due: AMCL may come up later, and takes no old message."""
        with self._lock:
            self._is_due |= estimate.anew
            if self._mode == WHEN_RECOVERED and self._is_due and estimate.pose is not None:
                self._is_due = not self._send(estimate)

    def answer_request(self, estimate: Estimate) -> str:
        """Publish an accepted answer that was asked for, where that is the mode; what became of it, in words."""
        if self._mode != ON_REQUEST or self._publisher is None:
            return ""
        topic = self._publisher.topic_name
        return f"; published on {topic}" if self._send(estimate) else f"; no subscriber on {topic}"

    def _send(self, estimate: Estimate) -> bool:
        if self._publisher is None or self._publisher.get_subscription_count() == 0:
            return False
        self._publisher.publish(messages.initial_pose(estimate, self._frame))
        return True
