"""Find out how the images, poses, mounts and fixes of a bag belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from d2vpr_ros.bags.cameras import ImageTopic, cameras_in_tree, cameras_on_body, find_image_topics, given_mounts
from d2vpr_ros.bags.gps import GpsTrack, read_track
from d2vpr_ros.bags.pose_file import read_pose_file
from d2vpr_ros.bags.pose_topics import gps_with_imu, trajectory_from_bag
from d2vpr_ros.bags.reader import Bag
from d2vpr_ros.bags.stream import Drive
from d2vpr_ros.bags.topics import NAVSATFIX, TFMESSAGE, choose_topic, full_name, may_be_chosen
from d2vpr_ros.bags.trajectory import PoseOf, Poses
from d2vpr_ros.bags.transforms import BASE_FRAME, fixed_tree, plain, read_tf, static_transform
from d2vpr_ros.errors import UserError
from d2vpr_ros.fields import stamp_ns
from d2vpr_ros.geometry import Pose

MAX_GAP_S = 1.5
"""Poses further apart are not interpolated between. Above a second: GPS comes every second, not to the millisecond."""

MAP_FRAME = "map"
NO_TOPIC = "none"
"""Switches geo-tags off where a topic is asked for."""


@dataclass(frozen=True, eq=False)
class _Source:
    """Poses, what to call them, and the frame they are of: None if it is the first camera's."""

    poses: Poses
    name: str
    body: str | None
    geo: GpsTrack | None = None


def open_drive(
    bag: Bag,
    image_topic: str | Sequence[str] | None = None,
    pose_topic: str | None = None,
    mount: Pose | None = None,
    pose_of: PoseOf = "base",
    max_gap_s: float = MAX_GAP_S,
    *,
    mounts: Mapping[str, Pose] | None = None,
    pose_file: Path | None = None,
    pose_times: Path | None = None,
    imu_topic: str | None = None,
    geo_topic: str | None = None,
    map_frame: str | None = None,
    base_frame: str = BASE_FRAME,
    with_poses: bool = True,
) -> Drive:
    """The drive in a bag.

    Args:
        image_topic: one for each camera; None where the bag leaves no choice (`choose_topic`).
        pose_topic: also a tf topic such as /tf; None where the bag leaves no choice.
        mount, mounts: T_base_cameraOptical of the only camera, and of cameras by name. Others come from /tf_static,
            from the base, and from the frame the poses are of (Odometry's child_frame_id, else the base), to the frame
            of the images' headers; at last a level, forward-looking camera is assumed, which is logged.
        pose_of: whose poses the pose topic or a CSV file has: the base's or the first camera's. An Odometry whose
            child_frame_id is a camera's frame has that camera's, whatever is said here, TUM and KITTI the first's.
        max_gap_s: poses further apart are not interpolated between.
        pose_file, pose_times: poses from a file instead (`read_pose_file`).
        imu_topic: sensor_msgs/Imu, whose orientation goes with NavSatFix positions; None heads along the track.
        geo_topic: NavSatFix that tags images whose poses come from elsewhere; None is the only one the bag has, if it
            has one, NO_TOPIC is none.
        map_frame: of tf; what poses without a frame's name are said to be in. Default: `map`.
        base_frame: the robot's.
        with_poses: False reads images alone; every frame's pose is then the identity.

    Raises:
        UserError: a topic, file, frame or camera is missing, ambiguous or of another kind; no usable pose; no image.
    """
    if pose_times is not None and pose_file is None:
        raise UserError(f"--pose-times {pose_times} without --poses; it gives the times of a KITTI file")
    images = find_image_topics(bag, [image_topic] if isinstance(image_topic, str) else image_topic or [])
    given = given_mounts(images, mount, mounts or {})
    beside = images[0].topic
    static = fixed_tree(bag, base_frame, [image.frame_id for image in images if image.name not in given], beside)
    if not with_poses:
        cameras = cameras_on_body(bag, images, None, static, given, base_frame, base_frame)
        source = None
    elif pose_file is None and imu_topic is None and _is_tf(bag, topic := choose_topic(bag, pose_topic, "pose")):
        tree = read_tf(bag, topic, beside)
        cameras = cameras_in_tree(bag, images, tree, given, base_frame, map_frame or MAP_FRAME)
        poses = cameras[0].poses
        assert poses is not None
        source = _Source(poses, topic, base_frame)
    else:
        source = _find_poses(bag, images[0], pose_topic, pose_of, pose_file, pose_times, imu_topic, base_frame)
        cameras = cameras_on_body(bag, images, source.poses, static, given, base_frame, source.body)
    fixes = None
    if source is None or source.poses.origin is None:
        fixes = (source.geo if source and geo_topic is None else None) or _find_fixes(bag, geo_topic)
    return Drive(
        bag,
        {camera.name: camera for camera in cameras},
        "" if source is None else source.name,
        None if source is None else source.poses,
        _frame_id(bag, source, map_frame),
        fixes,
        max_gap_s,
        partial(_find_on_base, bag, beside, base_frame, {image.frame_id: given.get(image.name) for image in images}),
        base_frame,
    )


def _find_on_base(bag: Bag, beside: str, base_frame: str, mounts: Mapping[str, Pose | None], frame: str) -> Pose | None:
    """T_base_frame by a camera's given mount or the fixed transforms."""
    return mounts.get(plain(frame)) or static_transform(bag, base_frame, frame, beside)


def _is_tf(bag: Bag, topic: str) -> bool:
    return bag.topics[topic].msgtype == TFMESSAGE


def _find_poses(
    bag: Bag,
    first: ImageTopic,
    pose_topic: str | None,
    pose_of: PoseOf,
    pose_file: Path | None,
    pose_times: Path | None,
    imu_topic: str | None,
    base_frame: str,
) -> _Source:
    if pose_file is not None:
        clash = next((o for o, v in (("--pose-topic", pose_topic), ("--imu-topic", imu_topic)) if v is not None), None)
        if clash:
            raise UserError(f"--poses {pose_file} and {clash}: give only one source of poses")
        read = read_pose_file(pose_file, pose_times, lambda: _stamps(bag, first.topic))
        of_camera = (read.pose_of or pose_of) == "camera_optical" and read.trajectory.origin is None
        return _Source(read.trajectory, str(pose_file), None if of_camera else base_frame, read.geo)
    topic = choose_topic(bag, pose_topic, "pose" if imu_topic is None or pose_topic else "geo")
    if imu_topic is not None:
        return _Source(gps_with_imu(bag, topic, full_name(bag, imu_topic), base_frame), topic, base_frame)
    trajectory = trajectory_from_bag(bag, topic, base_frame)
    of_camera = pose_of == "camera_optical" and trajectory.origin is None
    return _Source(trajectory, topic, None if of_camera else trajectory.child_frame_id or base_frame)


def _find_fixes(bag: Bag, geo_topic: str | None) -> GpsTrack | None:
    """The track that tags images, from the topic asked for or the only one there is."""
    if geo_topic == NO_TOPIC:
        return None
    fitting = [t.name for t in bag.topics.values() if t.msgtype == NAVSATFIX and may_be_chosen(t)]
    if geo_topic is None and not fitting:
        return None
    if geo_topic is None and len(fitting) > 1:
        raise UserError(
            f"{bag.path}: several NavSatFix topics could geo-tag the images; choose one with --geo-topic: "
            f"{', '.join(fitting)}, or {NO_TOPIC}"
        )
    topic = choose_topic(bag, geo_topic, "geo")
    fixes = read_track(bag, topic)
    if fixes is None and geo_topic is not None:
        raise UserError(
            f"{bag.path}: no message on {topic} has a fix; choose another with --geo-topic, or '{NO_TOPIC}'"
        )
    return fixes


def _frame_id(bag: Bag, source: _Source | None, map_frame: str | None) -> str:
    """What the map frame is called. GPS and files do not say."""
    stated = None if source is None or source.name not in bag.topics or source.poses.origin else source.poses.frame_id
    if stated and map_frame and plain(stated) != plain(map_frame):
        raise UserError(
            f"{bag.path}: the poses on {source.name if source else ''} are in the frame {stated}, not in {map_frame} "
            "as --map-frame says; leave it out, or choose other poses"
        )
    return plain(stated or map_frame or MAP_FRAME)


def _stamps(bag: Bag, topic: str) -> list[int]:
    return [stamp_ns(message.header) for _, _, message in bag.messages([topic])]
