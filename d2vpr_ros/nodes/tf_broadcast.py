"""A transform on /tf, as long as nobody else says where its child frame is."""

from __future__ import annotations

import importlib.util
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Header

from d2vpr_ros.errors import UserError
from d2vpr_ros.fields import one_line, stamp_ns
from d2vpr_ros.geometry import Pose
from d2vpr_ros.nodes.messages import to_time
from d2vpr_ros.nodes.status import STEADY

_LISTEN_S = 2.0  # for others, before the first transform of our own
_PERIOD_S = 0.05
_TOPIC, _QOS = "/tf", QoSProfile(depth=100)
_STATIC_TOPIC, _STATIC_QOS = "/tf_static", QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)

Asked = Callable[[], "tuple[int, Pose] | str"]
"""The transform with its stamp in nanoseconds, or why there is none."""


class TfBroadcast:
    """From construction to `stop`.

    Attributes:
        status: for /diagnostics.
        refused: somebody else publishes the transform; this does not, until it is made anew.
    """

    def __init__(self, node: Node, frame: str, child_frame: str, ask: Asked) -> None:
        """
        Args:
            ask: called twenty times a second.

        Raises:
            UserError: tf2 is not installed.
        """
        message_type = tf_message()
        self._node, self._frame, self._child_frame, self._ask = node, frame, child_frame, ask
        self.status = "listening for other publishers"
        self.refused = False
        self._started_s = time.monotonic()
        self._sent: deque[int] = deque(maxlen=200)  # stamps, the newest last
        self._publisher = node.create_publisher(message_type, _TOPIC, _QOS)
        self._subscriptions = [
            node.create_subscription(message_type, topic, partial(self._take, topic), qos)
            for topic, qos in ((_TOPIC, _QOS), (_STATIC_TOPIC, _STATIC_QOS))
        ]
        self._timer = node.create_timer(_PERIOD_S, self._broadcast, clock=STEADY)

    def stop(self) -> None:
        self._node.destroy_timer(self._timer)
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._node.destroy_publisher(self._publisher)

    def _take(self, topic: str, message: Any) -> None:
        """What others say, and on /tf our own transforms."""
        for stamped in message.transforms:
            is_ours = stamp_ns(stamped.header) in self._sent
            if stamped.child_frame_id.lstrip("/") == self._child_frame and not is_ours:
                self._refuse(topic, one_line(stamped.header.frame_id))
                return

    def _refuse(self, topic: str, parent: str) -> None:
        if self.refused:
            return
        self.refused = True
        infos = self._node.get_publishers_info_by_topic(topic)
        names = {f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in infos}
        others = ", ".join(sorted(names - {self._node.get_fully_qualified_name()})) or "another node"
        self.status = (
            f"refused: {topic} already has {parent} -> {self._child_frame}, from one of {others}; a frame has only one "
            "parent: stop that publisher (tf_broadcast: false for AMCL), or set publish_tf to false. Two robots on one "
            "/tf need frames of their own, such as odom_frame:=robot1/odom"
        )
        self._node.get_logger().error(f"tf {self.status}")

    def _broadcast(self) -> None:
        if self.refused or time.monotonic() - self._started_s < _LISTEN_S:
            return
        found = self._ask()
        if isinstance(found, str):
            self.status = found
            return
        self.status = f"{self._frame} -> {self._child_frame}"
        stamp, transform = found
        if not self._sent or stamp != self._sent[-1]:  # tf2 warns of a transform that is repeated
            self._sent.append(stamp)
            self._publisher.publish(tf_message()(transforms=[self._stamped(stamp, transform)]))

    def _stamped(self, stamp: int, transform: Pose) -> TransformStamped:
        header = Header(stamp=to_time(stamp), frame_id=self._frame)
        message = TransformStamped(header=header, child_frame_id=self._child_frame)
        at, turned = message.transform.translation, message.transform.rotation
        at.x, at.y, at.z, turned.x, turned.y, turned.z, turned.w = transform.numbers
        return message


def tf_message() -> Any:
    """The type of /tf, which is no part of the ROS 2 that PyPI carries.

    Raises:
        UserError: tf2 is not installed.
    """
    if importlib.util.find_spec("tf2_msgs") is None:
        raise UserError(
            "parameter 'publish_tf' is true, but tf2_msgs is not installed here; it comes with a ROS 2 installation "
            "(ros-$ROS_DISTRO-tf2-msgs); or set publish_tf to false and use the poses that the node publishes"
        )
    from tf2_msgs.msg import TFMessage

    return TFMessage
