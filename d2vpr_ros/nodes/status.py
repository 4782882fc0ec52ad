"""What a node's input does, for /diagnostics, and what to do when nothing comes in."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy

if TYPE_CHECKING:
    from d2vpr_ros.nodes.topic_input import TopicInput

STEADY = Clock(clock_type=ClockType.STEADY_TIME)
"""For timers: those of a node's own clock never fire under use_sim_time as long as nothing comes on /clock."""

COMPRESSED = "/compressed"
"""What image_transport appends to the topic of the raw images."""

_SILENT_AFTER_S = 3.0


class InputStatus:
    """Rates, ages and times of the newest messages of one input."""

    def __init__(
        self,
        what: str = "image",
        remap: str = "",
        other_type: str = "set image_transport to raw or compressed",
    ) -> None:
        """
        Args:
            what: of the messages, in words.
            remap, other_type: the way out where nobody publishes, and where the topic carries another type.
        """
        self._what, self._remap, self._other_type = what, remap, other_type
        self.age_s = float("nan")
        self._arrivals: deque[float] = deque(maxlen=30)
        self._inference_s: deque[float] = deque(maxlen=30)
        self._started_s: float | None = None

    def arrived(self, now_s: float) -> None:
        self._arrivals.append(now_s)

    def answered(self, seconds: float) -> None:
        self._inference_s.append(seconds)

    def values(self, now_s: float) -> dict[str, object]:
        """`input_hz`, `input_age_s` (image stamp to processing) and `inference_ms` (median of decode to publish)."""
        arrivals = [at for at in self._arrivals if now_s - at < _SILENT_AFTER_S]
        span = arrivals[-1] - arrivals[0] if len(arrivals) > 1 else 0.0
        times = sorted(self._inference_s)
        return {
            "input_hz": f"{(len(arrivals) - 1) / span:.1f}" if span > 0 else "0.0",
            "input_age_s": f"{self.age_s:.3f}",
            "inference_ms": f"{1e3 * times[len(times) // 2]:.1f}" if times else "nan",
        }

    def problem(self, node: Node, source: TopicInput, now_s: float) -> str:
        """Why nothing comes in, in one line; empty while it does."""
        self._started_s = self._started_s or now_s
        if now_s - (self._arrivals[-1] if self._arrivals else self._started_s) < _SILENT_AFTER_S:
            return ""
        topic, wanted = source.topic_name, " or ".join(source.type_names)
        publishers = node.get_publishers_info_by_topic(topic)
        if not publishers:
            return f"no publisher on {topic}; {self._transport(node, topic) or f'remap it, e.g. {self._remap}'}"
        others = sorted({info.topic_type for info in publishers} - {*source.type_names})
        if others:
            return f"{topic} carries {', '.join(others)}, expected {wanted}; {self._other_type}"
        return (
            f"{topic} has {len(publishers)} publisher(s) but no {self._what} arrived for {_SILENT_AFTER_S:.0f} s"
            + self._refused(publishers, source)
        )

    @staticmethod
    def _transport(node: Node, topic: str) -> str:
        """That the images come the other way, raw or compressed; empty if they do not."""
        is_compressed = topic.endswith(COMPRESSED)
        other = topic.removesuffix(COMPRESSED) if is_compressed else topic + COMPRESSED
        way = "raw" if is_compressed else "compressed"
        return f"the images are on {other}: set image_transport to {way}" if node.count_publishers(other) else ""

    @staticmethod
    def _refused(publishers: Sequence[Any], source: TopicInput) -> str:
        """That the middleware does not connect a reliable subscription with a publisher that is not."""
        offered = {info.qos_profile.reliability for info in publishers}
        if source.reliability == "reliable" and offered == {ReliabilityPolicy.BEST_EFFORT}:
            return "; it is published at best effort: set image_reliability to auto"
        return ""


def clock_problem(node: Node) -> str:
    """That the node waits for a time that nobody tells, in one line; empty where it does not."""
    if not node.get_parameter("use_sim_time").value or node.get_clock().now().nanoseconds:
        return ""
    return (
        "use_sim_time is true, but nothing comes on /clock; play the recording with ros2 bag play --clock 100 ..., or "
        "set use_sim_time to false"
    )


def own_name(node: Node) -> str:
    """A node's name in /diagnostics: with its namespace, as two robots may have a localizer each."""
    return str(node.get_fully_qualified_name()).lstrip("/")


def type_name(message_class: Any) -> str:
    """`sensor_msgs/msg/Image` for the class of that message."""
    return f"{message_class.__module__.split('.')[0]}/msg/{message_class.__name__}"
