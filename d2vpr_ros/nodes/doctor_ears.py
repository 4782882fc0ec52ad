"""What `d2vpr doctor` listens with: one topic, the tf tree, and who publishes what."""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections import deque
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSCompatibility, QoSProfile, qos_check_compatible

from d2vpr_ros.bags.transforms import TfTree, plain
from d2vpr_ros.fields import read_transform, stamp_ns
from d2vpr_ros.geometry import Pose
from d2vpr_ros.nodes.doctor_facts import Sender, Stream

TF_QOS = QoSProfile(depth=100)
_TF_STATIC_QOS = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Ear:
    """Keeps the newest message of a topic, or `kept` of them, and when each came."""

    def __init__(self, node: Node, kind: Any, topic: str, qos: QoSProfile, kept: int = 1) -> None:
        self.topic, self.qos = topic, qos
        self.messages: deque[Any] = deque(maxlen=kept)
        self._clock = node.get_clock()
        self._stamps: list[int] = []
        self._ages_s: list[float] = []
        self._arrivals_s: list[float] = []
        node.create_subscription(kind, topic, self._take, qos)

    def _take(self, message: Any) -> None:
        self._arrivals_s.append(time.monotonic())
        self._stamps.append(stamp_ns(message.header))
        self._ages_s.append((self._clock.now().nanoseconds - self._stamps[-1]) * 1e-9)
        self.messages.append(message)

    @property
    def newest(self) -> Any:
        """The last message; None before the first."""
        return self.messages[-1] if self.messages else None

    def stream(self, node: Node) -> Stream:
        types, senders = publishers(node, self.topic, self.qos)
        frame = str(self.newest.header.frame_id) if self.newest is not None else ""
        return Stream(
            self.topic, types, senders, tuple(self._stamps), tuple(self._ages_s), tuple(self._arrivals_s), frame
        )


class Transforms:
    """What /tf and /tf_static say, where their message type is installed (it is no part of the ROS 2 of PyPI)."""

    def __init__(self, node: Node) -> None:
        self.readable = importlib.util.find_spec("tf2_msgs") is not None
        self.edges: dict[str, tuple[str, Pose]] = {}
        if self.readable:
            kind = importlib.import_module("tf2_msgs.msg").TFMessage
            node.create_subscription(kind, "/tf", self._take, TF_QOS)
            node.create_subscription(kind, "/tf_static", self._take, _TF_STATIC_QOS)

    def _take(self, message: Any) -> None:
        for stamped in message.transforms:
            try:
                pose = read_transform(stamped.transform)
            except ValueError:
                continue  # tf2 leaves such ones out, too
            self.edges[plain(stamped.child_frame_id)] = (plain(stamped.header.frame_id), pose)

    def fixed(self, parent: str, child: str) -> Pose | None:
        return TfTree(self.edges).fixed(parent, child)

    def parent(self, frame: str) -> str:
        return self.edges.get(plain(frame), ("", None))[0]


def publishers(node: Node, topic: str, ours: QoSProfile) -> tuple[tuple[str, ...], tuple[Sender, ...]]:
    """A topic's types and who publishes it."""
    types, senders = [], []
    for end in node.get_publishers_info_by_topic(topic):
        compatible, reason = qos_check_compatible(end.qos_profile, ours)
        refused = reason.strip(" ;") if compatible == QoSCompatibility.ERROR else ""
        types.append(str(end.topic_type))
        senders.append(Sender(f"{end.node_namespace.rstrip('/')}/{end.node_name}", refused))
    return tuple(dict.fromkeys(types)), tuple(senders)
