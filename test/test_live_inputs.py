"""What a live map is built from, as robots publish it: any type and reliability of poses, and GPS."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from mapped import build_map
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, NavSatFix
from test_map_builder_node import IMAGES, MOUNT, POSES, drives

from d2vpr_ros.bags.pose_topics import trajectory_from_bag
from d2vpr_ros.bags.reader import open_bag
from d2vpr_ros.errors import UserError
from d2vpr_ros.fields import stamp_ns
from d2vpr_ros.geometry import distance
from d2vpr_ros.mapping import PlaceMap, read_map
from d2vpr_ros.nodes.live_gps import GpsPoses, LiveFixes
from d2vpr_ros.nodes.map_builder import MapBuilderNode
from d2vpr_ros.nodes.status import STEADY
from d2vpr_ros.nodes.topic_input import TopicInput

__all__ = ["drives"]  # a fixture

WAIT_S = 20.0
FIXES = "/gps/fix"
KINDS = {POSES: PoseStamped, FIXES: NavSatFix, IMAGES: CompressedImage}
RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT


@pytest.fixture
def node(domain_id: int) -> Iterator[Node]:
    rclpy.init()
    node = rclpy.create_node("reads")
    yield node
    node.destroy_node()
    rclpy.try_shutdown()


@pytest.mark.parametrize(
    ("kind", "offered"),
    [(PoseStamped, BEST_EFFORT), (PoseWithCovarianceStamped, RELIABLE), (PoseWithCovarianceStamped, BEST_EFFORT)],
)
def test_a_pose_is_heard_whatever_its_type_and_reliability(node: Node, kind: Any, offered: ReliabilityPolicy) -> None:
    heard: list[Any] = []
    kinds = (PoseStamped, PoseWithCovarianceStamped)
    read = TopicInput(node, kinds, "pose", heard.append, 50, prefer_reliable=True)
    assert read.subscription is None  # nobody has said of which type it is
    publisher = node.create_publisher(kind, "pose", QoSProfile(depth=5, reliability=offered))
    node.create_timer(0.02, lambda: read.watch() or publisher.publish(kind()), clock=STEADY)
    until_s = time.monotonic() + WAIT_S
    while not heard and time.monotonic() < until_s:
        rclpy.spin_once(node, timeout_sec=0.1)
    assert isinstance(heard[0], kind)
    assert read.reliability == ("reliable" if offered is RELIABLE else "best_effort")


def test_a_type_that_is_no_pose_is_not_subscribed_to(node: Node) -> None:
    read = TopicInput(node, (PoseStamped, PoseWithCovarianceStamped), "pose", lambda message: None, 50)
    node.create_publisher(Odometry, "pose", 10)
    read.watch()
    assert read.subscription is None


def build(drive: Path, path: Path, *parameters: str, covariance: bool = False) -> PlaceMap:
    """What the node makes of the drive's images, poses and fixes, handed to its callbacks in the recorded order."""
    words = ["--ros-args"]
    for parameter in (f"map:={path}", "image_transport:=compressed", "spacing_m:=2.0", MOUNT, *parameters):
        words += ["-p", parameter]
    rclpy.init(args=words)
    node = MapBuilderNode()
    by_gps = "pose_source:=gps" in parameters
    try:
        node.start()
        with open_bag(drive) as bag:
            for topic, _, _, cdr in bag.raw([POSES, FIXES, IMAGES]):
                message = deserialize_message(cdr, KINDS[topic])
                if topic == IMAGES:
                    node._take_image(0, message)
                elif topic == FIXES and node._fixes is not None:
                    node._fixes.add(message)
                elif (topic == FIXES) == by_gps:
                    node._pose_input._take(with_covariance(message) if covariance else message)
    finally:
        node.stop()
        node.destroy_node()
        rclpy.try_shutdown()
    return read_map(path)


def with_covariance(message: PoseStamped) -> PoseWithCovarianceStamped:
    """As slam_toolbox, AMCL and RTAB-Map publish it."""
    found = PoseWithCovarianceStamped(header=message.header)
    found.pose.pose = message.pose
    found.pose.covariance = np.diag([0.04, 0.04, 0.01, 1e-4, 1e-4, 0.01]).reshape(36)
    return found


def test_poses_with_covariance_make_the_same_map_and_their_covariance_goes_into_it(
    drives: Path, tmp_path: Path, domain_id: int
) -> None:
    built = build(drives / "noon", tmp_path / "town.d2map", "use_gps:=true", covariance=True)
    verb = read_map(drives / "verb.d2map")
    assert built.stamps_ns.tolist() == verb.stamps_ns.tolist()
    assert np.allclose(built.positions, verb.positions, atol=1e-9)
    assert np.allclose(built.geo, verb.geo, atol=1e-9, equal_nan=True) and np.isfinite(built.geo[0]).all()
    assert built.header.geo_tagged
    _, covariances = built.base_poses()
    assert covariances is not None and np.isfinite(covariances).all()


def test_a_map_from_gps_is_that_of_the_command_once_the_heading_is_known(
    drives: Path, tmp_path: Path, domain_id: int
) -> None:
    built = build(drives / "noon", tmp_path / "live.d2map", "pose_source:=gps")
    build_map(drives / "noon", tmp_path / "verb.d2map", "--spacing", "2", "--pose-topic", FIXES)
    verb = read_map(tmp_path / "verb.d2map")
    assert built.header.origin == verb.header.origin is not None
    near = [np.linalg.norm(verb.positions - position, axis=1).min() for position in built.positions]
    assert len(built) >= len(verb) - 3 and max(near) < 2.0  # its first place is another, so the others are, too
    by_stamp = dict(zip(verb.stamps_ns.tolist(), verb.positions, strict=True))
    for stamp, position in zip(built.stamps_ns.tolist(), built.positions, strict=True):
        if stamp in by_stamp:
            assert np.allclose(position, by_stamp[stamp], atol=1e-9)


def test_poses_and_tags_of_live_fixes_are_those_of_the_recorded_track(drives: Path) -> None:
    poses, fixes = GpsPoses(None, lambda frame: None), LiveFixes()
    with open_bag(drives / "noon") as bag:
        recorded = trajectory_from_bag(bag, FIXES)
        messages = [deserialize_message(cdr, NavSatFix) for _, _, _, cdr in bag.raw([FIXES])]
    known = 0
    for before, message in itertools.pairwise(messages):
        for live in (poses, fixes):
            live.add(before)
            live.add(message)
        middle = (stamp_ns(before.header) + stamp_ns(message.header)) // 2
        assert fixes.is_settled(middle) and fixes.at(middle, 2.0) is not None
        found, expected = poses.at(middle, 2.0), recorded.at(middle, 2.0)
        if found is not None and expected is not None:
            known += 1
            assert distance(found[0], expected) < 1e-6
    assert known >= len(messages) - 4  # all but those before the first 2 m


def test_a_map_of_another_frame_takes_no_gps_poses(drives: Path, tmp_path: Path, domain_id: int) -> None:
    path = tmp_path / "town.d2map"
    path.write_bytes((drives / "verb.d2map").read_bytes())
    with pytest.raises(UserError, match="was not made from GPS poses; add to it with poses of the same source"):
        build(drives / "noon", path, "pose_source:=gps", "append:=true")
