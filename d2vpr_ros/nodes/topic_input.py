"""One topic that a node reads: subscribed as its publishers offer it, with a count of what is lost on the way."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from d2vpr_ros.nodes.doctor_inspect import profile_variable
from d2vpr_ros.nodes.robot_cameras import RobotCamera
from d2vpr_ros.nodes.status import COMPRESSED, type_name
from d2vpr_ros.share import share_folder

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError

AUTO, BEST_EFFORT, RELIABLE = RELIABILITIES = ("auto", "best_effort", "reliable")

_LOST_SHARE = 0.1  # of what was sent: more is worth a change, and worth a warning
_COUNTED = 20  # sent messages, at least, before their share is believed


class TopicInput:
    """From construction to `destroy`. Used by the executor's thread only.

    `auto` begins at best effort, which every publisher can be heard by, and changes to reliable once messages are lost
    and every publisher offers it; for a topic of which nothing may be lost (`prefer_reliable`) it begins there. It goes
    back to best effort where a publisher offers no more than that.

    Attributes:
        subscription: the present one; None as long as nobody says which of several types the topic has.
        topic_name: resolved.
    """

    def __init__(
        self,
        node: Node,
        kinds: tuple[Any, ...],
        topic: str,
        take: Callable[[Any], object],
        depth: int,
        reliability: str = AUTO,
        *,
        prefer_reliable: bool = False,
    ) -> None:
        """
        Args:
            kinds: the message types that are understood. Of several, that of the first publisher is subscribed to: a
                topic has one type in a node.
            reliability: one of RELIABILITIES.
        """
        self._node, self._topic, self._take, self._depth = node, topic, take, depth
        self._kinds: Mapping[str, Any] = {type_name(kind): kind for kind in kinds}
        self._wanted, self._prefer_reliable = reliability, prefer_reliable
        self._reliable = reliability == RELIABLE or (reliability == AUTO and prefer_reliable)
        self._received = self._lost = 0  # since the last `watch` that judged them
        self._lost_before = 0  # the middleware counts from the subscription on
        self.lost_share = 0.0
        self.topic_name = node.resolve_topic_name(topic)
        self.subscription: Any = None
        if len(kinds) == 1:
            self._subscribe(kinds[0])
        else:
            self.watch()

    @property
    def type_names(self) -> tuple[str, ...]:
        """Of the message types that are understood."""
        return tuple(self._kinds)

    @property
    def reliability(self) -> str:
        """Of the present subscription."""
        return RELIABLE if self._reliable else BEST_EFFORT

    def watch(self) -> str:
        """Look at the publishers and at what was lost, and subscribe anew where that helps; call it each second.

        Returns:
            One line to warn of; empty while there is nothing.
        """
        publishers = self._node.get_publishers_info_by_topic(self.topic_name)
        known = [kind for info in publishers if (kind := self._kinds.get(info.topic_type)) is not None]
        if known and (self.subscription is None or all(kind is not self.subscription.msg_type for kind in known)):
            self._subscribe(known[0])
        all_reliable = bool(publishers) and all(
            info.qos_profile.reliability == ReliabilityPolicy.RELIABLE for info in publishers
        )
        if self._wanted == AUTO and publishers and not all_reliable and self._reliable:
            self._change(reliable=False)
        return self._judge_losses(all_reliable)

    def destroy(self) -> None:
        if self.subscription is not None:
            self._node.destroy_subscription(self.subscription)
            self.subscription = None

    def _judge_losses(self, all_reliable: bool) -> str:
        sent = self._received + self._lost
        if sent < _COUNTED:
            return ""
        self.lost_share = self._lost / sent
        self._received = self._lost = 0
        if self.lost_share <= _LOST_SHARE:
            return ""
        if self._wanted == AUTO and all_reliable and not self._reliable:
            self._change(reliable=True)
            return (
                f"{self.lost_share:.0%} of the messages on {self.topic_name} were lost with best effort; now "
                f"subscribed as reliable; to lose none with less delay, {_cure()}"
            )
        return f"{self.lost_share:.0%} of the messages on {self.topic_name} are lost; {_cure()}"

    def _change(self, *, reliable: bool) -> None:
        self._reliable = reliable
        if self.subscription is not None:
            self._subscribe(self.subscription.msg_type)

    def _subscribe(self, kind: Any) -> None:
        self.destroy()
        self._received = self._lost = self._lost_before = 0
        policy = ReliabilityPolicy.RELIABLE if self._reliable else ReliabilityPolicy.BEST_EFFORT
        arguments = kind, self._topic, self._arrived, QoSProfile(depth=self._depth, reliability=policy)
        try:
            events = SubscriptionEventCallbacks(message_lost=self._lost_some)
            self.subscription = self._node.create_subscription(*arguments, event_callbacks=events)
        except UnsupportedEventTypeError:  # a middleware that does not count
            self.subscription = self._node.create_subscription(*arguments)

    def _arrived(self, message: Any) -> None:
        self._received += 1
        self._take(message)

    def _lost_some(self, event: Any) -> None:
        total = int(event.total_count)
        self._lost += max(0, total - self._lost_before)
        self._lost_before = total


def _cure() -> str:
    """What helps, in the words of a command."""
    variable = profile_variable(os.environ.get("ROS_DISTRO", ""))
    if os.environ.get(variable):
        return "lower the image rate, send smaller or compressed images, or free the network and the processor"
    profile = share_folder() / "config" / "fastdds.xml"
    return f"set in every process that sends or receives images: export {variable}={profile}"


def image_input(
    node: Node, camera: RobotCamera, transport: str, take: Callable[[Any], object], depth: int, reliability: str
) -> TopicInput:
    """The images of a camera.

    Compressed ones come on `image/compressed`, or beside the topic that `image` is remapped to, as image_transport has
    it: whoever remaps `image` means both.
    """
    topic = camera.topic("image")
    if transport != "compressed":
        return TopicInput(node, (Image,), topic, take, depth, reliability)
    own = topic + COMPRESSED
    if node.resolve_topic_name(own) == node.resolve_topic_name(own, only_expand=True):
        own = node.resolve_topic_name(topic).removesuffix(COMPRESSED) + COMPRESSED
    return TopicInput(node, (CompressedImage,), own, take, depth, reliability)
