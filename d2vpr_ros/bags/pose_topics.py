"""Poses from a topic of a bag, whatever its type."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import numpy as np

from d2vpr_ros.bags.gps import GpsTrack, read_track
from d2vpr_ros.bags.gps_poses import GpsWithImu, mounted, orientations, poses_along, with_imu
from d2vpr_ros.bags.order import FrameWatch, RunWatch
from d2vpr_ros.bags.reader import Bag, require_topic
from d2vpr_ros.bags.topics import IMU, NAVSATFIX, PATH, TFMESSAGE, TYPES
from d2vpr_ros.bags.trajectory import Array, PoseColumns, Trajectory
from d2vpr_ros.bags.transforms import BASE_FRAME, plain, static_transform
from d2vpr_ros.errors import UserError
from d2vpr_ros.fields import stamp_ns
from d2vpr_ros.geometry import Pose

log = logging.getLogger(__name__)


def trajectory_from_bag(bag: Bag, topic: str, base_frame: str = BASE_FRAME) -> Trajectory:
    """All poses of a topic, by their header stamps.

    Args:
        topic: Odometry, PoseStamped, PoseWithCovarianceStamped; Path, of which the last message counts (a SLAM system
            publishes its whole optimised way anew); or NavSatFix (its track in the ENU frame of its first fix, headed
            along the track).
        base_frame: where on it the NavSatFix antenna is mounted is read from /tf_static; elsewhere it is at its origin.

    Raises:
        UserError: the bag does not have the topic, it is of another type, or has no usable pose.
    """
    info = require_topic(bag, topic)
    types = [name for group in TYPES["pose"] for name in group if name != TFMESSAGE]
    if info.msgtype not in types:
        raise UserError(f"{bag.path}: {topic} is {info.msgtype}, no pose; expected {' or '.join(types)}")
    if info.msgtype == NAVSATFIX:
        track = read_track(bag, topic)
        poses = None if track is None else poses_along(track, _arm(bag, base_frame, track, topic))
    elif info.msgtype == PATH:
        poses = _from_path(message for _, _, message in bag.messages([topic]))
    else:
        poses = _from_poses(bag, topic)
    if poses is None:
        raise _no_pose(bag, topic)
    if info.msgtype == PATH and len(poses.stamps_ns) == 1:
        raise UserError(
            f"{bag.path}: the last message on {topic} has one stamp for all of its poses; poses need their own stamps; "
            "choose another topic with --pose-topic"
        )
    return poses


def gps_with_imu(bag: Bag, topic: str, imu_topic: str, base_frame: str = BASE_FRAME) -> GpsWithImu:
    """Positions from a NavSatFix topic, orientations from a sensor_msgs/Imu one, both mounted as /tf_static says.

    Raises:
        UserError: as `trajectory_from_bag`, or for the Imu.
    """
    for name, msgtype, option in ((topic, NAVSATFIX, "--pose-topic"), (imu_topic, IMU, "--imu-topic")):
        found = require_topic(bag, name).msgtype
        if found != msgtype:
            raise UserError(f"{bag.path}: {name} is {found}; beside --imu-topic, {option} has to be {msgtype}")
    track = read_track(bag, topic)
    if track is None:
        raise _no_pose(bag, topic)
    imu, frame = orientations(bag, imu_topic)
    mount = _mount(bag, base_frame, frame, imu_topic)
    if mount is None:
        log.warning("%s: /tf_static has no mount of the IMU %s on %s; assumed: aligned", bag.path, frame, base_frame)
    if imu is None:
        raise UserError(
            f"{bag.path}: no message on {imu_topic} has an orientation; leave --imu-topic out: the heading is then the "
            "direction of travel"
        )
    return with_imu(track, mounted(imu, mount or Pose.identity()), _arm(bag, base_frame, track, topic))


def _from_poses(bag: Bag, topic: str) -> Trajectory | None:
    """Of PoseStamped, which holds a Pose, and the others, which hold a PoseWithCovariance around one."""
    columns, run, frames = PoseColumns(), RunWatch(bag, topic), FrameWatch(bag.path, topic)
    for _, recorded_ns, message in bag.messages([topic]):
        run.see(stamp_ns(message.header), recorded_ns)
        frames.see(message.header.frame_id, getattr(message, "child_frame_id", ""))
        covariance = getattr(message.pose, "covariance", None)
        pose = message.pose if covariance is None else message.pose.pose
        columns.add(stamp_ns(message.header), _numbers(pose), covariance)
    columns.check_one_way(f"{bag.path}: {topic}")
    frame_id, child_frame_id = frames.frames
    return columns.trajectory(frame_id or "map", child_frame_id or None)


def _from_path(messages: Iterable[Any]) -> Trajectory | None:
    columns, last = PoseColumns(), None
    for message in messages:
        last = message
    for stamped in () if last is None else last.poses:
        columns.add(stamp_ns(stamped.header), _numbers(stamped.pose))
    return None if last is None else columns.trajectory(last.header.frame_id or "map")


def _numbers(pose: Any) -> tuple[float, ...]:
    p, q = pose.position, pose.orientation
    return p.x, p.y, p.z, q.x, q.y, q.z, q.w


def _mount(bag: Bag, base_frame: str, frame: str, topic: str) -> Pose | None:
    """T_base_frame; what has no frame, or stands at the base's origin by its name, is taken at its word."""
    if plain(frame) in ("", plain(base_frame)):
        return Pose.identity()
    return static_transform(bag, base_frame, frame, topic)


def _arm(bag: Bag, base_frame: str, track: GpsTrack, topic: str) -> Array:
    """Where the antenna is on the base, metres; at its origin where /tf_static does not say."""
    mount = _mount(bag, base_frame, track.frame_id, topic)
    return np.zeros(3) if mount is None else mount.position


def _no_pose(bag: Bag, topic: str) -> UserError:
    return UserError(
        f"{bag.path}: none of the {bag.topics[topic].count} messages on {topic} has a usable pose (finite numbers, a "
        "rotation, a fix); choose another topic with --pose-topic"
    )
