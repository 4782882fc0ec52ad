"""Closures and corrected poses as ROS messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from geometry_msgs.msg import Point, PoseStamped, PoseWithCovarianceStamped
from nav_msgs.msg import Path
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import ColorRGBA, Float64MultiArray, Header
from visualization_msgs.msg import Marker, MarkerArray

from d2vpr_ros.fields import NANOSECONDS
from d2vpr_ros.geometry import Pose
from d2vpr_ros.loops.closure import BELIEVED, KINDS, Closure
from d2vpr_ros.nodes.messages import cloud, to_time

_SIGMAS = ["sigma_x", "sigma_y", "sigma_z", "sigma_rx", "sigma_ry", "sigma_rz"]
_WHOLE = ["inliers", "run", "old_id", "new_id", "old_sec", "old_nanosec", "new_sec", "new_nanosec"]
CLOSURE_POINT = np.dtype(
    {
        "names": ["x", "y", "z", "qx", "qy", "qz", "qw", *_SIGMAS, "probability", *_WHOLE, "kind", "accepted"],
        "formats": [*["<f4"] * 14, *["<u4"] * 8, "u1", "u1"],
        "offsets": [*range(0, 56, 4), *range(56, 88, 4), 88, 89],
        "itemsize": 92,
    }
)
"""One closure in `~/loop_closures`: T_old_new of the base."""

_GREEN, _RED = ColorRGBA(r=0.1, g=0.6, b=0.3, a=0.9), ColorRGBA(r=0.85, g=0.15, b=0.1, a=0.9)
_LINE_M = 0.1


def loop_closure(closure: Closure, stamps_ns: Mapping[int, int], base_frame: str) -> PoseWithCovarianceStamped:
    """T_old_new of the base, at the new image's stamp; the frame is named after the old image: base_link@SEC.NANOSEC.

    Args:
        stamps_ns: of the places, by id.
    """
    seconds, rest = divmod(stamps_ns[closure.old], NANOSECONDS)
    header = Header(stamp=to_time(stamps_ns[closure.new]), frame_id=f"{base_frame}@{seconds}.{rest:09d}")
    message = PoseWithCovarianceStamped(header=header)
    _fill(message.pose.pose, closure.pose)
    message.pose.covariance = closure.covariance.reshape(36)
    return message


def loop_stamps(closure: Closure, stamps_ns: Mapping[int, int]) -> Float64MultiArray:
    """[new, old], seconds: what LIO-SAM and LVI-SAM subscribe to."""
    return Float64MultiArray(data=[1e-9 * stamps_ns[closure.new], 1e-9 * stamps_ns[closure.old]])


def loop_closures(closures: Sequence[Closure], stamps_ns: Mapping[int, int], base_frame: str) -> PointCloud2:
    """All closures, with what the last solution made of them."""
    points = np.zeros(len(closures), CLOSURE_POINT)
    for point, one in zip(points, closures, strict=True):
        for name, value in zip(("x", "y", "z", "qx", "qy", "qz", "qw"), one.pose.numbers, strict=True):
            point[name] = value
        for name, variance in zip(_SIGMAS, one.covariance.diagonal(), strict=True):
            point[name] = np.sqrt(variance)
        point["probability"], point["inliers"], point["run"] = one.probability, one.inliers, one.run
        point["old_id"], point["new_id"] = one.old, one.new
        point["old_sec"], point["old_nanosec"] = divmod(stamps_ns[one.old], NANOSECONDS)
        point["new_sec"], point["new_nanosec"] = divmod(stamps_ns[one.new], NANOSECONDS)
        point["kind"], point["accepted"] = KINDS.index(one.kind), one.weight >= BELIEVED
    newest = max((stamps_ns[one.new] for one in closures), default=0)
    return cloud(points, Header(stamp=to_time(newest), frame_id=base_frame))


def path(stamps_ns: Sequence[int], poses: Sequence[Pose], frame: str) -> Path:
    """T_map_base of the places of the drive."""
    header = Header(stamp=to_time(stamps_ns[-1]), frame_id=frame)
    return Path(
        header=header,
        poses=[_stamped(stamp, pose, frame) for stamp, pose in zip(stamps_ns, poses, strict=True)],
    )


def markers(closures: Sequence[Closure], positions: Mapping[int, Any], stamp_ns: int, frame: str) -> MarkerArray:
    """A line for each closure: green, or red where the pose graph refused it.

    Args:
        positions: (3,) of the places by id; closures of others are left out.
    """
    lines = Marker(header=Header(stamp=to_time(stamp_ns), frame_id=frame), ns="loops", id=0, type=Marker.LINE_LIST)
    lines.pose.orientation.w, lines.scale.x = 1.0, _LINE_M
    for one in closures:
        if one.old in positions and one.new in positions:
            for place in (one.old, one.new):
                x, y, z = map(float, positions[place])
                lines.points.append(Point(x=x, y=y, z=z))
                lines.colors.append(_GREEN if one.weight >= BELIEVED else _RED)
    return MarkerArray(markers=[lines])


def _stamped(stamp_ns: int, pose: Pose, frame: str) -> PoseStamped:
    message = PoseStamped(header=Header(stamp=to_time(int(stamp_ns)), frame_id=frame))
    _fill(message.pose, pose)
    return message


def _fill(message: Any, pose: Pose) -> None:
    at, turned = message.position, message.orientation
    at.x, at.y, at.z, turned.x, turned.y, turned.z, turned.w = pose.numbers
