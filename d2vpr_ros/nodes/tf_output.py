"""map -> odom on /tf, if asked for and as long as nobody else says where the odometry's frame is."""

from __future__ import annotations

import importlib.util
import time
from collections import deque
from functools import partial
from typing import Any

from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Header

from d2vpr_ros.errors import UserError
from d2vpr_ros.fields import NANOSECONDS, one_line, stamp_ns
from d2vpr_ros.geometry import Pose
from d2vpr_ros.localize import Estimate
from d2vpr_ros.localize.map_odom import MapOdom
from d2vpr_ros.localize.odometry import MotionBuffer
from d2vpr_ros.nodes.messages import to_time
from d2vpr_ros.nodes.settings import Settings
from d2vpr_ros.nodes.side_inputs import SideInputs
from d2vpr_ros.nodes.status import STEADY

_LISTEN_S = 2.0  # for others, before the first transform of our own
_PERIOD_S = 0.05
_TOPIC, _QOS = "/tf", QoSProfile(depth=100)
_STATIC_TOPIC, _STATIC_QOS = "/tf_static", QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class TfOutput:
    """From construction to `stop`.

    Attributes:
        status: for /diagnostics.
        refused: somebody else publishes the transform; this does not, until it is made anew.
    """

    def __init__(self, node: Node, settings: Settings, inputs: SideInputs, motion: MotionBuffer) -> None:
        """
        Args:
            motion: of the session that answers.

        Raises:
            UserError: tf2 is not installed.
        """
        self._node, self._settings, self._inputs, self._motion = node, settings, inputs, motion
        message_type = tf_message()
        self.status = "listening for other publishers"
        self.refused = False
        self._map_odom = MapOdom()
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

    def forget(self) -> None:
        """The belief was dropped."""
        self._map_odom.forget()

    def see(self, estimate: Estimate) -> None:
        """Each answer, in turn; called by the worker."""
        motion = self._motion
        self._map_odom.see(estimate, motion.at(estimate.stamp_ns), motion.epoch, time.monotonic())

    def _take(self, topic: str, message: Any) -> None:
        """What others say, and on /tf our own transforms."""
        odom = self._settings.odom_frame
        for stamped in message.transforms:
            if stamped.child_frame_id.lstrip("/") == odom and stamp_ns(stamped.header) not in self._sent:
                self._refuse(topic, one_line(stamped.header.frame_id))
                return

    def _refuse(self, topic: str, parent: str) -> None:
        if self.refused:
            return
        self.refused = True
        infos = self._node.get_publishers_info_by_topic(topic)
        others = ", ".join(sorted({info.node_name for info in infos} - {self._node.get_name()}))
        self.status = (
            f"refused: {topic} carries {parent} -> {self._settings.odom_frame} from one of {others}; a frame has only "
            "one parent: stop that publisher (tf_broadcast: false for AMCL) or set publish_tf to false"
        )
        self._node.get_logger().error(f"tf {self.status}")

    def _broadcast(self) -> None:
        now_s, motion = time.monotonic(), self._motion
        if self.refused or now_s - self._started_s < _LISTEN_S:
            return
        transform, newest = self._map_odom.at(motion.epoch, now_s), motion.newest
        self.status = self._obstacle(transform is not None and newest is not None)
        if transform is None or newest is None or self.status:
            return
        self.status = f"{self._settings.map_frame} -> {self._settings.odom_frame}"
        stamp = newest[0] + round(self._settings.tf_tolerance_s * NANOSECONDS)
        if not self._sent or stamp != self._sent[-1]:  # tf2 warns of a transform that is repeated
            self._sent.append(stamp)
            self._publisher.publish(tf_message()(transforms=[self._stamped(stamp, transform)]))

    def _obstacle(self, is_known: bool) -> str:
        """Why there is no transform; empty if there is one."""
        if self._motion.newest is None:
            return "no odometry arrives: map -> odom needs it"
        heard = self._inputs.odometry_frames
        wanted = self._settings.odom_frame, self._settings.base_frame
        if any(frame and frame != other for frame, other in zip(heard, wanted, strict=True)):
            odom, base = map(one_line, heard)
            return f"the odometry is that of {base} in {odom}; odom_frame and base_frame are {wanted}"
        return "" if is_known else "not localized"

    def _stamped(self, stamp: int, transform: Pose) -> TransformStamped:
        header = Header(stamp=to_time(stamp), frame_id=self._settings.map_frame)
        message = TransformStamped(header=header, child_frame_id=self._settings.odom_frame)
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
            "(ros-$ROS_DISTRO-tf2-msgs); or set publish_tf to false and use ~/pose_prior"
        )
    from tf2_msgs.msg import TFMessage

    return TFMessage
