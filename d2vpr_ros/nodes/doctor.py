"""Listens to a living ROS system for `d2vpr doctor`: a few seconds, and it says nothing itself."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import rclpy
from nav_msgs.msg import Odometry
from rclpy.exceptions import InvalidTopicNameException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from rclpy.validate_topic_name import validate_topic_name
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, NavSatFix

from d2vpr_ros.bags.calibration import calibration_of, camera_namespace
from d2vpr_ros.bags.gps import is_jump, is_null_island
from d2vpr_ros.errors import UserError
from d2vpr_ros.fields import read_pose, stamp_ns
from d2vpr_ros.geometry import Pose
from d2vpr_ros.images.decode import decode_image
from d2vpr_ros.images.deep import Range
from d2vpr_ros.localize.gps import ground_distance, read_fix
from d2vpr_ros.localize.odometry import MotionBuffer
from d2vpr_ros.mapping.database import connect
from d2vpr_ros.mapping.place_map import read_header
from d2vpr_ros.nodes import settings
from d2vpr_ros.nodes.doctor_checks import COMPRESSED_IMAGE, IMAGE, NAVSATFIX, ODOMETRY
from d2vpr_ros.nodes.doctor_ears import TF_QOS, Ear, Transforms, publishers
from d2vpr_ros.nodes.doctor_facts import (
    CameraInfoFacts,
    GpsFacts,
    ImageFacts,
    MountFacts,
    OdometryFacts,
    Stream,
    SystemFacts,
)
from d2vpr_ros.nodes.localizer import NEWEST_ONLY, ODOMETRY_QOS
from d2vpr_ros.nodes.robot_cameras import RobotCamera, mount_parameters, robot_cameras

_DISCOVERY_S = (0.5, 3.0)  # at least, so that all topics are known; at most


def rmw() -> str:
    """The middleware's name."""
    return str(rclpy.get_rmw_implementation_identifier())


def defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """The localizer's parameters, with those that the names of its cameras add."""
    names = given.get("cameras", [])
    of_cameras = mount_parameters([str(name) for name in names]) if isinstance(names, list) else []
    return {parameter.name: parameter.default for parameter in (*settings.PARAMETERS, *of_cameras)}


def observe(topics: Sequence[str], odometry: str | None, parameters: Mapping[str, Any], seconds: float) -> SystemFacts:
    """Listen for so many seconds.

    Args:
        topics: of images; none takes those of the cameras that have names.
        odometry: its topic; None takes /odom, or the only one there is.
        parameters: the localizer's, every one; also `use_sim_time`.

    Raises:
        UserError: the cameras make no sense, or a topic's name is none.
    """
    cameras = robot_cameras(parameters)
    suffix = "/compressed" if parameters["image_transport"] == "compressed" else ""
    topics = topics or [camera.topic(f"image{suffix}") for camera in cameras if camera.name]
    context = rclpy.Context()
    # Ctrl-C is Python's: it ends the waiting by KeyboardInterrupt.
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    try:
        sim_time = Parameter("use_sim_time", value=bool(parameters.get("use_sim_time", False)))
        node = Node("d2vpr_doctor", context=context, parameter_overrides=[sim_time])
        try:
            return _Observer(node, _image_range_of(str(parameters.get("map", "")))).observe(
                topics, odometry, parameters, cameras, seconds
            )
        finally:
            node.destroy_node()
    finally:
        context.try_shutdown()


class _Observer:
    def __init__(self, node: Node, image_range: Range | None) -> None:
        self._node, self._image_range = node, image_range
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)

    def observe(
        self,
        named: Sequence[str],
        odometry: str | None,
        parameters: Mapping[str, Any],
        cameras: Sequence[RobotCamera],
        seconds: float,
    ) -> SystemFacts:
        node = self._node
        topics = [self._full(topic) for topic in named]
        self._discover(topics)
        found = {name: types for name, types in node.get_topic_names_and_types() if node.count_publishers(name)}
        odometry_topics = tuple(sorted(name for name, types in found.items() if ODOMETRY in types))
        chosen = self._full(odometry) if odometry else _only(odometry_topics, "/odom")

        transforms = Transforms(node)
        images = {t: self._image_ear(t, found.get(t, [])) for t in topics}
        infos = {t: f"/{camera_namespace(t)}/camera_info".replace("//", "/") for t in topics}
        info_ears = {t: Ear(node, CameraInfo, topic, NEWEST_ONLY) for t, topic in infos.items()}
        odometry_ear = Ear(node, Odometry, chosen, ODOMETRY_QOS, kept=100_000) if chosen else None
        gps_topics = sorted(name for name, types in found.items() if NAVSATFIX in types)
        gps_topic = _only(gps_topics, "/gps/fix") if parameters["use_gps"] else None
        gps_ear = Ear(node, NavSatFix, gps_topic, NEWEST_ONLY, kept=10_000) if gps_topic else None
        if topics or odometry_ear or gps_ear or transforms.readable:
            self._spin(seconds)

        image_facts = tuple(self._image(t, ear) for t, ear in images.items())
        base, frame = str(parameters["base_frame"]), str(parameters.get("camera_frame", ""))
        reads_tf = importlib.util.find_spec("tf2_ros") is not None
        mounts = []
        for number, image in enumerate(image_facts):
            eye, camera = _camera_of(image.stream.topic, number, cameras), frame or image.stream.frame_id
            in_tf = transforms.fixed(base, camera) if camera else None
            mounts.append(
                MountFacts(
                    base, camera, eye.mount, in_tf, transforms.readable, reads_tf, eye.mount_parameter, len(cameras) > 1
                )
            )
        return SystemFacts(
            image_topics={
                name: types[0] for name, types in sorted(found.items()) if {IMAGE, COMPRESSED_IMAGE} & {*types}
            },
            odometry_topics=odometry_topics,
            clock="/clock" in found,
            images=image_facts,
            camera_infos=tuple(_camera_info(ear, topic) for topic, ear in info_ears.items()),
            odometry=_odometry(odometry_ear, node, mounts, partial(transforms.fixed, base)) if odometry_ear else None,
            gps=_gps(gps_ear, node) if gps_ear else None,
            mounts=tuple(mounts),
            tf_readable=transforms.readable,
            odom_parent=transforms.parent(str(parameters["odom_frame"])),
            tf_senders=tuple(sender.node for sender in publishers(node, "/tf", TF_QOS)[1]),
            tf_elsewhere=()
            if "/tf_static" in found
            else tuple(sorted(name for name in found if name.endswith("/tf_static"))),
        )

    def _full(self, topic: str) -> str:
        try:
            validate_topic_name(topic)
            return str(self._node.resolve_topic_name(topic))
        except InvalidTopicNameException:
            raise UserError(f"'{topic}' is no topic's name; `d2vpr doctor` lists the image topics") from None

    def _discover(self, topics: Sequence[str]) -> None:
        """Wait for the topics' publishers: discovery has no event for them."""
        began_s = time.monotonic()
        while (waited_s := time.monotonic() - began_s) < _DISCOVERY_S[1]:
            if waited_s >= _DISCOVERY_S[0] and topics and all(map(self._node.count_publishers, topics)):
                return
            self._executor.spin_once(timeout_sec=0.1)

    def _spin(self, seconds: float) -> None:
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            self._executor.spin_once(timeout_sec=0.1)

    def _image_ear(self, topic: str, types: Sequence[str]) -> Ear | None:
        """None where the topic carries something else, which has no image's subscription."""
        kind = {IMAGE: Image, COMPRESSED_IMAGE: CompressedImage}.get(types[0] if len(types) == 1 else "")
        return Ear(self._node, kind, topic, NEWEST_ONLY) if kind else None

    def _image(self, topic: str, ear: Ear | None) -> ImageFacts:
        if ear is None:
            types, senders = publishers(self._node, topic, NEWEST_ONLY)
            return ImageFacts(Stream(topic, types, senders))
        stream, message = ear.stream(self._node), ear.newest
        if message is None:
            return ImageFacts(stream)
        encoding = str(message.encoding if hasattr(message, "encoding") else message.format)
        try:
            height, width = decode_image(message, self._image_range).shape[:2]
        except UserError as error:
            return ImageFacts(stream, len(message.data), None, encoding, str(error))
        return ImageFacts(stream, len(message.data), (width, height), encoding)


def _image_range_of(path: str) -> Range | None:
    """What the map that is to be localized in takes of 16-bit images; None where it does not say it."""
    if not path:
        return None
    with suppress(UserError), connect(Path(path).expanduser()) as connection:  # what is wrong with it is said elsewhere
        return read_header(Path(path), connection).image_range
    return None


def _camera_of(topic: str, number: int, cameras: Sequence[RobotCamera]) -> RobotCamera:
    """Whose images are on a topic: by its name, else by the order."""
    named = (camera for camera in cameras if camera_namespace(topic).split("/")[-1] == camera.name)
    return next(named, cameras[min(number, len(cameras) - 1)])


def _only(topics: Sequence[str], usual: str) -> str | None:
    """The topic that is meant where none was named."""
    return usual if usual in topics else topics[0] if len(topics) == 1 else None


def _gps(ear: Ear, node: Node) -> GpsFacts:
    every = [(message, read_fix(message)) for message in ear.messages]
    null = sum(fix is None and is_null_island(message.latitude, message.longitude) for message, fix in every)
    fixes = [fix for _, fix in every if fix is not None]
    steps = [(ground_distance(a, b), (b.stamp_ns - a.stamp_ns) * 1e-9) for a, b in itertools.pairwise(fixes)]
    jumps_m = max((metres for metres, seconds in steps if is_jump(metres, seconds)), default=0.0)
    return GpsFacts(ear.stream(node), tuple(fixes), null, len(every) - len(fixes) - null, jumps_m)


def _odometry(ear: Ear, node: Node, mounts: Sequence[MountFacts], find: Callable[[str], Pose | None]) -> OdometryFacts:
    """
    Args:
        find: T_base_frame by tf.
    """
    if ear.newest is None:
        return OdometryFacts(ear.stream(node))
    child = str(ear.newest.child_frame_id).lstrip("/")
    on_base = find(child) is not None or any(mount.given and mount.camera_frame == child for mount in mounts)
    frames = [f"{m.header.frame_id} -> {m.child_frame_id}" for m in ear.messages]
    mixed = tuple(name for name in dict.fromkeys(frames) if name != frames[-1])
    motion, is_pose, speed_mps = MotionBuffer(), True, 0.0
    for message in ear.messages:
        try:
            motion.add(stamp_ns(message.header), read_pose(message.pose.pose))
            is_pose, speed_mps = True, max(speed_mps, motion.speed_mps)
        except ValueError:
            is_pose = False
    return OdometryFacts(ear.stream(node), child, on_base, mixed, is_pose, speed_mps)


def _camera_info(ear: Ear, image_topic: str) -> CameraInfoFacts:
    if ear.newest is None:
        return CameraInfoFacts(ear.topic)
    calibration = calibration_of(ear.newest, image_topic)
    return CameraInfoFacts(ear.topic, True, (calibration.width, calibration.height) if calibration else None)
