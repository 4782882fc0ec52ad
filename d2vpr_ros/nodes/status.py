"""What a node's input does, for /diagnostics, and what to do when nothing comes in."""

from __future__ import annotations

from collections import deque
from typing import Any

from rclpy.node import Node

_SILENT_AFTER_S = 3.0


class InputStatus:
    """Rates, ages and times of the newest messages of one input."""

    def __init__(
        self,
        what: str = "image",
        remap: str = "image_topic:=/camera/image",
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

    def problem(self, node: Node, subscription: Any, now_s: float) -> str:
        """Why nothing comes in, in one line; empty while it does."""
        self._started_s = self._started_s or now_s
        if now_s - (self._arrivals[-1] if self._arrivals else self._started_s) < _SILENT_AFTER_S:
            return ""
        topic = str(subscription.topic_name)
        wanted = type_name(subscription.msg_type)
        publishers = node.get_publishers_info_by_topic(topic)
        if not publishers:
            return f"nobody publishes on {topic}; remap it, e.g. {self._remap}"
        others = sorted({info.topic_type for info in publishers} - {wanted})
        if others:
            return f"{topic} carries {', '.join(others)}, expected {wanted}; {self._other_type}"
        return f"{topic} has {len(publishers)} publisher(s) but no {self._what} has come in for {_SILENT_AFTER_S:.0f} s"


def type_name(message_class: Any) -> str:
    """`sensor_msgs/msg/Image` for the class of that message."""
    return f"{message_class.__module__.split('.')[0]}/msg/{message_class.__name__}"
