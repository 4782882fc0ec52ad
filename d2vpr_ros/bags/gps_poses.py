"""Poses of a robot that has GPS: headed along its track, or as its IMU says."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.transform import Rotation

from d2vpr_ros.bags.gps import GpsTrack
from d2vpr_ros.bags.order import FrameWatch, RunWatch
from d2vpr_ros.bags.trajectory import Array, Geo, PoseColumns, Stamps, Trajectory
from d2vpr_ros.fields import NANOSECONDS, stamp_ns
from d2vpr_ros.geodesy import LocalFrame
from d2vpr_ros.geometry import Pose

if TYPE_CHECKING:
    from d2vpr_ros.bags.reader import Bag

log = logging.getLogger(__name__)

# GPS noise turns a shorter or slower track into a random heading.
HEADING_BASE_M = 2.0
HEADING_SPEED_M_S = 0.5

LEVEL_SIGMA_RAD = np.radians(10.0)
"""A track says nothing of roll and pitch: level, give or take a steep street. Also an IMU's that does not say."""

MISALIGNED_RAD = np.radians(45.0)
"""An IMU this far off the way the robot drives, in the median, hardly counts its yaw from east (REP-145)."""

ANY_ANGLE = np.pi**2 / 3
"""Variance of an angle of which nothing is known, rad²."""


def poses_along(track: GpsTrack, arm: Array) -> Trajectory:
    """The poses of the base on a track: level, headed along it.

    The covariance of the position is the receiver's; that of the yaw is what a direction between two points
    HEADING_BASE_M apart is worth.

    Args:
        arm: (3,) metres, the antenna on the base (T_base_antenna's translation).
    """
    yaw = headings(track.stamps_ns, track.enu)
    if yaw is None:
        log.warning(
            "the GPS track never moves %.0f m at %.1f m/s: the heading is unknown and set to east",
            HEADING_BASE_M,
            HEADING_SPEED_M_S,
        )
    turned = Rotation.from_euler("z", np.zeros(len(track.enu)) if yaw is None else yaw)
    horizontal = (track.covariances[:, 0, 0] + track.covariances[:, 1, 1]) / 2
    yaw_variance = np.minimum(ANY_ANGLE if yaw is None else 2 * horizontal / HEADING_BASE_M**2, ANY_ANGLE)
    return _trajectory(track, _flat(track.enu - turned.apply(arm), track.has_altitude), turned, yaw_variance)


@dataclass(frozen=True, eq=False)
class GpsWithImu:
    """Poses of the base with the position of a GPS antenna and the orientation of an IMU, each at the time asked for.

    Attributes:
        antenna: the track; its rotations are not used, nor what its covariances say of them where the IMU says it.
        imu: T_enu_base's rotations over time; its positions are not used, its covariances have the rotation only.
        arm: (3,) metres, the antenna on the base.
    """

    antenna: Trajectory
    imu: Trajectory
    arm: Array

    @property
    def frame_id(self) -> str:
        return self.antenna.frame_id

    @property
    def origin(self) -> LocalFrame | None:
        return self.antenna.origin

    @property
    def span_ns(self) -> tuple[int, int]:
        (a0, a1), (b0, b1) = self.antenna.span_ns, self.imu.span_ns
        return max(a0, b0), min(a1, b1)

    def at(self, stamp_ns: int, max_gap_s: float) -> Pose | None:
        antenna, imu = self.antenna.at(stamp_ns, max_gap_s), self.imu.at(stamp_ns, max_gap_s)
        if antenna is None or imu is None:
            return None
        position = _flat(antenna.position - imu.rotation.apply(self.arm), self.antenna.has_altitude)
        return Pose(position, imu.quaternion)

    def covariance_at(self, stamp_ns: int) -> Array | None:
        covariance, imu = self.antenna.covariance_at(stamp_ns), self.imu.covariance_at(stamp_ns)
        if covariance is None:
            return None
        if imu is not None:
            covariance[3:, 3:] = imu[3:, 3:]
        return covariance

    def geo(self, position: Array) -> Geo | None:
        return self.antenna.geo(position)


def orientations(bag: Bag, topic: str) -> tuple[Trajectory | None, str]:
    """T_enu_imu over time from sensor_msgs/Imu, as rotations at the origin, and the IMU's frame; None if no message has
    an orientation.

    An IMU's orientation is its own in east-north-up (REP-145); a first covariance of -1 says that there is none.

    Raises:
        UserError: time begins anew on the topic, or it mixes two IMUs.
    """
    columns, run, frames = PoseColumns(), RunWatch(bag, topic), FrameWatch(bag.path, topic)
    for _, recorded_ns, message in bag.messages([topic]):
        run.see(stamp_ns(message.header), recorded_ns)
        frames.see(message.header.frame_id)
        stated = np.asarray(message.orientation_covariance, dtype=np.float64).reshape(3, 3)
        if stated[0, 0] == -1:
            continue
        covariance = np.full((6, 6), np.nan)
        if stated.any():
            covariance[:] = 0.0
            covariance[3:, 3:] = stated
        q = message.orientation
        columns.add(stamp_ns(message.header), (0.0, 0.0, 0.0, q.x, q.y, q.z, q.w), covariance.reshape(36))
    return columns.trajectory("enu"), frames.frames[0]


def mounted(imu: Trajectory, mount: Pose) -> Trajectory:
    """T_enu_base over time, of `orientations` of an IMU with this T_base_imu."""
    turned = Rotation.from_quat(imu.quaternions) * mount.rotation.inv()
    return replace(imu, quaternions=turned.as_quat().reshape(-1, 4))


def with_imu(track: GpsTrack, imu: Trajectory, arm: Array) -> GpsWithImu:
    """The poses of the base on a track, turned as its IMU says (`mounted`); `arm` as in `poses_along`."""
    still = Rotation.from_quat(np.tile([0.0, 0.0, 0.0, 1.0], (len(track.enu), 1)))
    antenna = _trajectory(track, track.enu, still, np.full(len(track.enu), LEVEL_SIGMA_RAD**2))
    _check_alignment(track, imu)
    return GpsWithImu(antenna, imu, arm)


def _check_alignment(track: GpsTrack, imu: Trajectory) -> None:
    yaw = headings(track.stamps_ns, track.enu)
    turned = [imu.at(int(stamp), math.inf) for stamp in track.stamps_ns]
    if yaw is None or not any(turned):
        return
    axes = [(y, pose.rotation.apply([1.0, 0.0, 0.0])) for y, pose in zip(yaw, turned, strict=True) if pose is not None]
    off = np.median([np.angle(np.exp(1j * (y - np.arctan2(axis[1], axis[0])))) for y, axis in axes])
    if abs(off) > MISALIGNED_RAD:
        log.warning(
            "the direction of travel is %.0f degrees off the heading of the IMU; its orientation must be ENU (0 is "
            "east, REP-145) and its mount on /tf_static; else leave --imu-topic out",
            np.degrees(off),
        )


def _trajectory(track: GpsTrack, positions: Array, turned: Rotation, yaw_variance: Array) -> Trajectory:
    covariances = np.zeros((len(positions), 6, 6))
    covariances[:, :3, :3] = track.covariances
    covariances[:, 3, 3] = covariances[:, 4, 4] = LEVEL_SIGMA_RAD**2
    covariances[:, 5, 5] = yaw_variance
    return Trajectory(
        track.stamps_ns,
        positions,
        turned.as_quat().reshape(-1, 4),
        origin=track.origin,
        has_altitude=track.has_altitude,
        covariances=covariances.reshape(-1, 36),
    )


def _flat(positions: Array, has_altitude: bool) -> Array:
    """Heights of (N, 3) or (3,) positions that nobody knows are 0."""
    return positions if has_altitude else positions * (1.0, 1.0, 0.0)


def headings(stamps_ns: Stamps, positions: Array) -> Array | None:
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
