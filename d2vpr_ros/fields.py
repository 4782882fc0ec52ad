"""Plain values out of the fields of ROS messages, whichever library made them: rclpy or rosbags."""

from __future__ import annotations

from typing import Any

from d2vpr_ros.geometry import Pose

NANOSECONDS = 1_000_000_000


def stamp_ns(header: Any) -> int:
    """The stamp of a std_msgs/Header, nanoseconds."""
    return int(header.stamp.sec) * NANOSECONDS + int(header.stamp.nanosec)


def read_pose(message: Any) -> Pose:
    """The pose of a geometry_msgs/Pose.

    Raises:
        ValueError: a number is not finite, or the quaternion is zero.
    """
    p, q = message.position, message.orientation
    return Pose.of(p.x, p.y, p.z, q.x, q.y, q.z, q.w)


def read_transform(message: Any) -> Pose:
    """The pose of a geometry_msgs/Transform.

    Raises:
        ValueError: as `read_pose`.
    """
    t, q = message.translation, message.rotation
    return Pose.of(t.x, t.y, t.z, q.x, q.y, q.z, q.w)


def one_line(text: str, most: int = 60) -> str:
    """A message's string for a line of a log: what is not printable ASCII escaped, and cut off."""
    escaped = text.encode("unicode_escape").decode("ascii")
    return escaped if len(escaped) <= most else f"{escaped[:most]}..."
