"""What the map builder says of itself on /diagnostics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node

from d2vpr_ros.mapping.counts import BuildCounts
from d2vpr_ros.nodes import messages
from d2vpr_ros.nodes.status import own_name


@dataclass(frozen=True)
class BuilderReport:
    """Attributes:
    paused: by its service.
    problem: why nothing becomes a place, in one line; empty while it does.
    to_describe, waiting_for_pose: images that wait.
    lost: share of each camera's images that did not arrive.
    loops: of loop closure; empty without it.
    """

    path: Path
    paused: bool
    problem: str
    counts: BuildCounts
    to_describe: int
    waiting_for_pose: int
    input_hz: object
    lost: Sequence[float]
    loops: Mapping[str, object]

    def message(self, node: Node) -> DiagnosticArray:
        state = "PAUSED" if self.paused else "WAITING" if self.problem else "MAPPING"
        values = {
            "state": state,
            "map": self.path,
            "places": self.counts.places,
            "to_describe": self.to_describe,
            "waiting_for_pose": self.waiting_for_pose,
            "input_hz": self.input_hz,
            "input_lost": ", ".join(f"{share:.0%}" for share in self.lost),
            **self.loops,
            **{f"left out: {reason}": images for reason, images in dict(self.counts.left_out).items()},
        }
        text = f"{state}: {self.problem}" if self.problem else f"{state}: {self.counts}"
        now_ns = node.get_clock().now().nanoseconds
        return messages.status(f"{own_name(node)}: mapping", state == "MAPPING", text, values, now_ns)
