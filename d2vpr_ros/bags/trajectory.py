"""Where the robot was at any time of a recorded drive."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation, Slerp

from d2vpr_ros.bags.reader import Bag, require_topic
from d2vpr_ros.bags.topics import TYPES
from d2vpr_ros.errors import UserError
from d2vpr_ros.fields import NANOSECONDS, read_pose, stamp_ns
from d2vpr_ros.geodesy import LocalFrame
from d2vpr_ros.geometry import Pose

log = logging.getLogger(__name__)

Array = npt.NDArray[np.float64]

# GPS noise turns a shorter or slower track into a random heading.
HEADING_BASE_M = 2.0
HEADING_SPEED_M_S = 0.5

NAVSATFIX = "sensor_msgs/msg/NavSatFix"


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Poses over time, in order.

    Attributes:
        stamps_ns: (N,) int64, strictly increasing.
        positions: (N, 3) float64, metres.
        quaternions: (N, 4) float64, unit, (x, y, z, w).
        frame_id: the frame the poses are in; of a NavSatFix track, the ENU frame of `origin`.
        child_frame_id: the frame they are poses of, where the source says it.
        origin: of the local ENU frame of a NavSatFix track, else None; altitude 0 where unknown.
        has_altitude: whether the heights of a NavSatFix track are known (else z is 0).
    """

    stamps_ns: npt.NDArray[np.int64]
    positions: Array
    quaternions: Array
    frame_id: str = "map"
    child_frame_id: str | None = None
    origin: LocalFrame | None = None
    has_altitude: bool = False

    def at(self, stamp_ns: int, max_gap_s: float) -> Pose | None:
        """The pose at a time: position linear, rotation by slerp between the two poses around it.

        None outside the trajectory's time, and between poses that are more than `max_gap_s` apart.
        """
        after = int(np.searchsorted(self.stamps_ns, stamp_ns))
        if after == len(self.stamps_ns):
            return None
        if self.stamps_ns[after] == stamp_ns:
            return Pose(self.positions[after], self.quaternions[after])
        if after == 0:
            return None
        pair = slice(after - 1, after + 1)
        # Differences first, in integers: a float64 cannot hold the nanoseconds of today's stamps.
        gap = int(self.stamps_ns[after]) - int(self.stamps_ns[after - 1])
        if gap > max_gap_s * NANOSECONDS:
            return None
        share = (int(stamp_ns) - int(self.stamps_ns[after - 1])) / gap
        before, behind = self.positions[pair]
        turned = Slerp([0.0, 1.0], Rotation.from_quat(self.quaternions[pair]))(share)
        return Pose(before + share * (behind - before), turned.as_quat())

    def geo(self, position: Array) -> tuple[float, float, float] | None:
        """(latitude, longitude, altitude) of a position (3,): degrees, metres above the ellipsoid or NaN; else None."""
        if self.origin is None:
            return None
        latitude, longitude, altitude = self.origin.to_geo(position[None])[0]
        return float(latitude), float(longitude), float(altitude) if self.has_altitude else float("nan")


def trajectory_from_bag(bag: Bag, topic: str) -> Trajectory:
    """All poses of a topic, by their header stamps.

    Args:
        topic: Odometry, PoseStamped, PoseWithCovarianceStamped, or NavSatFix (its track in the ENU frame of its first
            fix, headed along the track).

    Raises:
        UserError: the bag does not have the topic, it is of another type, or has no usable pose.
    """
    info = require_topic(bag, topic)
    types = [name for group in TYPES["pose"] for name in group]
    if info.msgtype not in types:
        raise UserError(f"{bag.path}: {topic} is {info.msgtype}, no pose; expected {' or '.join(types)}")
    messages = (message for _, _, message in bag.messages([topic]))
    track = _from_fixes(messages) if info.msgtype == NAVSATFIX else _from_poses(messages)
    if track is None:
        raise UserError(
            f"{bag.path}: none of the {info.count} messages on {topic} has a usable pose (finite numbers, a rotation, "
            "a fix); choose another topic with --pose-topic"
        )
    return track


def in_order(stamps: Sequence[int]) -> npt.NDArray[np.int64]:
    """Indices that sort the stamps and leave out all but the first of equal ones."""
    _, first = np.unique(np.asarray(stamps, dtype=np.int64), return_index=True)
    return np.asarray(first, dtype=np.int64)


def _from_poses(messages: Iterable[Any]) -> Trajectory | None:
    stamps: list[int] = []
    poses: list[Pose] = []
    unusable, frame_id, child_frame_id = 0, "", ""
    for message in messages:
        # PoseStamped holds a Pose, the others a PoseWithCovariance around one.
        inner = message.pose.pose if hasattr(message.pose, "covariance") else message.pose
        try:
            poses.append(read_pose(inner))
        except ValueError:
            unusable += 1
            continue
        stamps.append(stamp_ns(message.header))
        frame_id, child_frame_id = message.header.frame_id, getattr(message, "child_frame_id", "")
    if not poses:
        return None
    if unusable:
        log.warning("%d poses are not finite or have no rotation and are left out", unusable)
    order = in_order(stamps)
    return Trajectory(
        np.asarray(stamps, dtype=np.int64)[order],
        np.stack([p.position for p in poses])[order],
        np.stack([p.quaternion for p in poses])[order],
        frame_id=frame_id or "map",
        child_frame_id=child_frame_id or None,
    )


def _from_fixes(messages: Iterable[Any]) -> Trajectory | None:
    fixes = [
        (stamp_ns(m.header), m.latitude, m.longitude, m.altitude)
        for m in messages
        if m.status.status >= 0 and np.isfinite([m.latitude, m.longitude]).all()
    ]
    if not fixes:
        return None
    order = in_order([fix[0] for fix in fixes])
    stamps = np.array([fixes[i][0] for i in order], dtype=np.int64)
    geo = np.array([fixes[i][1:] for i in order], dtype=np.float64)
    has_altitude = bool(np.isfinite(geo[:, 2]).all())
    if not has_altitude:
        geo[:, 2] = 0.0
    origin = LocalFrame(*(float(v) for v in geo[0]))
    positions = origin.to_enu(geo)
    if not has_altitude:
        positions[:, 2] = 0.0  # else the earth's curvature shows
    yaw = headings(stamps, positions)
    if yaw is None:
        log.warning(
            "the GPS track never moves %.0f m at %.1f m/s: its heading is unknown and set to east",
            HEADING_BASE_M,
            HEADING_SPEED_M_S,
        )
        yaw = np.zeros(len(stamps))
    quaternions = Rotation.from_euler("z", yaw).as_quat()
    return Trajectory(stamps, positions, quaternions.reshape(-1, 4), origin=origin, has_altitude=has_altitude)


def headings(stamps_ns: npt.NDArray[np.int64], positions: Array) -> Array | None:
    """(N,) headings along a track, radians from its x axis; None where it never moves enough.

    The direction from the last point 2 m or more back, if the way from there took no longer than 0.5 m/s does; else
    the last heading is held. Points before the first heading take that one.
    """
    seconds = (stamps_ns - stamps_ns[0]) / NANOSECONDS
    slowest = HEADING_BASE_M / HEADING_SPEED_M_S
    yaw = np.full(len(stamps_ns), np.nan)
    for i in range(1, len(stamps_ns)):
        # At least one point back, however long ago: fixes may come seldom.
        start = min(int(np.searchsorted(seconds, seconds[i] - slowest)), i - 1)
        steps = positions[i, :2] - positions[start:i, :2]
        far = np.flatnonzero(np.hypot(steps[:, 0], steps[:, 1]) >= HEADING_BASE_M)
        yaw[i] = yaw[i - 1]
        if len(far):
            step, took = steps[far[-1]], seconds[i] - seconds[start + far[-1]]
            if np.hypot(*step) >= HEADING_SPEED_M_S * took:
                yaw[i] = np.arctan2(step[1], step[0])
    known = np.flatnonzero(np.isfinite(yaw))
    if len(known) == 0:
        return None
    yaw[: known[0]] = yaw[known[0]]
    return yaw
