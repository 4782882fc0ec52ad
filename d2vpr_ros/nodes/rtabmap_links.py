"""The node `d2vpr_rtabmap_links`: gives the closures of the map builder to RTAB-Map, by its service add_link.

RTAB-Map names its nodes on `info`. A closure goes to the nodes nearest to its two images; RTAB-Map's own check
(RGBD/OptimizeMaxError) still judges it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node as RosNode

from d2vpr_ros.errors import UserError
from d2vpr_ros.fields import NANOSECONDS, one_line, read_pose, stamp_ns
from d2vpr_ros.loops.rtabmap import Link, Node, Nodes, link_between
from d2vpr_ros.nodes.parameters import Parameter, declare, read_values
from d2vpr_ros.nodes.poses import PoseWindow
from d2vpr_ros.nodes.spin import run

PARAMETERS = (
    Parameter(
        "detection_period_s",
        1.0,
        "Time between two nodes of RTAB-Map: 1 / Rtabmap/DetectionRate. A closure goes to nodes within half of it.",
        0.01,
        60.0,
    ),
)
USER_CLOSURE = 4
"""rtabmap::Link::kUserClosure."""

_MAX_GAP_S = 1.5
_QUEUE = 100
_ODOMETRY_NS, _ODOMETRY_KEPT = 50_000_000, 200_000  # 20 Hz is enough; 2.8 hours, 80 MB


class RtabmapLinks(RosNode):
    """Topics `odom`, `info` and `loop_closure` in, the service `add_link` out."""

    def __init__(self) -> None:
        super().__init__("d2vpr_rtabmap_links")
        declare(self, PARAMETERS)

    def start(self) -> None:
        """Subscribe.

        Raises:
            UserError: rtabmap_msgs is not installed.
        """
        info, service, self._link_type = _rtabmap_types()
        self._nodes = Nodes(read_values(self, PARAMETERS)["detection_period_s"] / 2)
        self._odometry = PoseWindow(_ODOMETRY_KEPT)
        self._waiting: list[PoseWithCovarianceStamped] = []
        self._request_type = service.Request
        self._client = self.create_client(service, "add_link")
        self.create_subscription(Odometry, "odom", self._take_odometry, _QUEUE)
        self.create_subscription(info, "info", self._take_info, _QUEUE)
        self.create_subscription(PoseWithCovarianceStamped, "loop_closure", self._take_closure, _QUEUE)
        self.get_logger().info("waiting for loop_closure, for RTAB-Map's info, and for odom")

    def stop(self) -> None:
        """Nothing is left open."""

    def _take_odometry(self, message: Odometry) -> None:
        stamp, newest = stamp_ns(message.header), self._odometry.newest_ns
        if newest is None or not 0 <= stamp - newest < _ODOMETRY_NS:
            self._odometry.add(stamp, read_pose(message.pose.pose))

    def _take_info(self, message: Any) -> None:
        stamp = stamp_ns(message.header)
        found = self._odometry.at(stamp, _MAX_GAP_S)
        if found is not None and message.ref_id > 0:
            self._nodes.add(Node(int(message.ref_id), stamp, found[0]))
            self._waiting = [one for one in self._waiting if not self._settle(one)]

    def _take_closure(self, message: PoseWithCovarianceStamped) -> None:
        try:
            old_stamp(message.header.frame_id)
        except ValueError as error:
            self.get_logger().error(str(error), throttle_duration_sec=10.0)
            return
        if not self._settle(message):
            self._waiting.append(message)

    def _settle(self, message: PoseWithCovarianceStamped) -> bool:
        """Send a closure once RTAB-Map has both nodes; True if nothing more is to be waited for."""
        stamps = old_stamp(message.header.frame_id), stamp_ns(message.header)
        if not self._nodes.reaches(stamps[1]):
            return False
        old, new = map(self._nodes.nearest, stamps)
        at_old, at_new = (self._odometry.at(stamp, _MAX_GAP_S) for stamp in stamps)
        if old is None or new is None or at_old is None or at_new is None:
            missing = "odometry" if at_old is None or at_new is None else "node of RTAB-Map"
            self.get_logger().warning(f"closure left out: no {missing} near its images; see detection_period_s")
            return True
        covariance = np.asarray(message.pose.covariance, np.float64).reshape(6, 6)
        pose = read_pose(message.pose.pose)
        link = link_between(old, new, at_old[0], at_new[0], pose, covariance)
        self._client.call_async(self._request_type(link=link_message(link, self._link_type)))
        self.get_logger().info(f"link from node {link.from_id} to node {link.to_id}")
        return True


def old_stamp(frame_id: str) -> int:
    """The old image's stamp in nanoseconds, of a frame like base_link@12.000000345.

    Raises:
        ValueError: it is no such frame.
    """
    seconds, dot, rest = frame_id.rpartition("@")[2].partition(".")
    if "@" not in frame_id or not dot or not (seconds + rest).isdigit() or len(rest) != len("123456789"):
        raise ValueError(
            f"loop_closure has the frame {one_line(frame_id)}; expected base_link@SECONDS.NANOSECONDS, as "
            "d2vpr_map_builder writes it; remap loop_closure to its ~/loop_closure"
        )
    return int(seconds) * NANOSECONDS + int(rest)


def link_message(link: Link, kind: Any) -> Any:
    """A rtabmap_msgs/Link, its type handed over."""
    message = kind()
    message.from_id, message.to_id, message.type = link.from_id, link.to_id, USER_CLOSURE
    at, turned = message.transform.translation, message.transform.rotation
    at.x, at.y, at.z, turned.x, turned.y, turned.z, turned.w = link.pose.numbers
    message.information = link.information.reshape(36)
    return message


def _rtabmap_types() -> tuple[Any, Any, Any]:
    """Info, AddLink and Link.

    Raises:
        UserError: rtabmap_msgs is not installed.
    """
    if importlib.util.find_spec("rtabmap_msgs") is None:
        raise UserError(
            "rtabmap_msgs is not installed here; it comes with RTAB-Map: apt install ros-$ROS_DISTRO-rtabmap-msgs, and "
            "source /opt/ros/$ROS_DISTRO/setup.bash"
        )
    # Not a dependency of the package: who has no RTAB-Map needs none of it.
    messages, services = (importlib.import_module(f"rtabmap_msgs.{part}") for part in ("msg", "srv"))
    return messages.Info, services.AddLink, messages.Link


def main() -> None:
    """Entry point of `ros2 run d2vpr_ros d2vpr_rtabmap_links`."""
    sys.exit(run(RtabmapLinks))


if __name__ == "__main__":
    main()
