"""The map builder's poses, from whichever topic or tree the parameter `pose_source` names."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from sensor_msgs.msg import NavSatFix

from d2vpr_ros.errors import UserError
from d2vpr_ros.fields import one_line, read_pose, stamp_ns
from d2vpr_ros.geodesy import LocalFrame
from d2vpr_ros.localize.odometry import is_base
from d2vpr_ros.nodes.live_gps import GpsPoses
from d2vpr_ros.nodes.mount import MountListener
from d2vpr_ros.nodes.poses import JUMP_NS, LivePoses, PoseWindow, TfPoses
from d2vpr_ros.nodes.status import InputStatus
from d2vpr_ros.nodes.topic_input import TopicInput

POSE, ODOM, TF, GPS = SOURCES = ("pose", "odom", "tf", "gps")

_TOPICS: dict[str, tuple[str, tuple[Any, ...]]] = {
    POSE: ("pose", (PoseStamped, PoseWithCovarianceStamped)),
    ODOM: ("odom", (Odometry,)),
    GPS: ("gps/fix", (NavSatFix,)),
}
_DEPTH = 50


class PoseInput:
    """From construction on.

    Attributes:
        poses: as they came so far.
        topic_name: resolved, or /tf with its frame.
    """

    def __init__(
        self,
        node: Node,
        source: str,
        frames: tuple[str, str],
        listener: MountListener,
        origin: LocalFrame | None,
        on_pose: Callable[[], object],
    ) -> None:
        """
        Args:
            source: one of SOURCES.
            frames: of the map, and of the robot's base.
            origin: of the map, where that is one of GPS poses and there already.
            on_pose: called after each.

        Raises:
            UserError: tf is asked for and not installed.
        """
        self._node, self._frames, self._on_pose = node, frames, on_pose
        self._status = InputStatus(
            "pose", f"{'gps_topic:=/fix' if source == GPS else 'pose_topic:=/slam/pose'}",
            f"set pose_source to one of {', '.join(SOURCES)}",
        )  # fmt: skip
        self._input: TopicInput | None = None
        self._images_ns: dict[int, int] = {}  # stamp of each camera's last image
        if source == TF:
            self.poses: LivePoses = TfPoses(listener, *frames)
            self.topic_name = f"/tf ({frames[0]})"
            return
        self.poses = (
            GpsPoses(origin, lambda frame: listener.lookup(frames[1], frame)) if source == GPS else PoseWindow()
        )
        topic, kinds = _TOPICS[source]
        self._input = TopicInput(node, kinds, topic, self._take, _DEPTH, prefer_reliable=True)
        self.topic_name = self._input.topic_name

    def see_image(self, camera: int, stamp: int) -> None:
        """Notice a recording that is played again: what tf has is then of another run."""
        before, self._images_ns[camera] = self._images_ns.get(camera, stamp), stamp
        if stamp < before - JUMP_NS and isinstance(self.poses, TfPoses):
            self._node.get_logger().warning("the stamps of the images jumped back: tf is cleared")
            self.poses.begin_anew()

    def watch(self) -> None:
        """Find the topic's publishers, as long as it is not known what they send; and follow them."""
        if self._input is not None:
            self._input.watch()

    def problem(self, now_s: float) -> str:
        """Why no poses come, in one line; empty while they do."""
        if isinstance(self.poses, TfPoses):
            return self.poses.problem()
        return "" if self._input is None else self._status.problem(self._node, self._input, now_s)

    def _take(self, message: Any) -> None:
        self._status.arrived(time.monotonic())
        if isinstance(self.poses, GpsPoses):
            self.poses.add(message)
        else:
            self._add(message)
        self._on_pose()

    def _add(self, message: Any) -> None:
        map_frame, frame = self._frames[0], message.header.frame_id.lstrip("/")
        if frame and frame != map_frame:
            raise UserError(
                f"{self.topic_name} has poses in the frame {frame}, the map is in {map_frame}; for a "
                f"map in that frame set map_frame: -p map_frame:={frame}, or remap to another topic"
            )
        covariance = getattr(message.pose, "covariance", None)
        try:
            pose = read_pose(message.pose if covariance is None else message.pose.pose)
            if isinstance(message, Odometry) and not is_base(message.child_frame_id.lstrip("/"), self._frames[1]):
                raise ValueError(
                    f"{self.topic_name} is that of {one_line(message.child_frame_id)}, not of {self._frames[1]}: set "
                    "base_frame to that, or use odometry of the base"
                )
        except ValueError as error:
            self._node.get_logger().warning(f"pose left out: {error}", throttle_duration_sec=10.0)
            return
        assert isinstance(self.poses, PoseWindow)
        self.poses.add(stamp_ns(message.header), pose, covariance)
