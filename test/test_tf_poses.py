"""A live map from the tf tree: with tf2 where it is installed, else with a stand-in that does what is asked of it here.

The ROS 2 that PyPI carries has no tf2; everything but its buffer is the real thing.
"""

from __future__ import annotations

import importlib.util
import sys
from bisect import bisect_left
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import rclpy
from geometry_msgs.msg import PoseStamped, TransformStamped
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage
from test_map_builder_node import IMAGES, MOUNT, POSES, drives

from d2vpr_ros.bags.reader import open_bag
from d2vpr_ros.fields import read_pose, read_transform, stamp_ns
from d2vpr_ros.geometry import Pose, distance, interpolate, turn
from d2vpr_ros.mapping import read_map
from d2vpr_ros.mapping.counts import NO_POSE, TOO_CLOSE
from d2vpr_ros.nodes.map_builder import MapBuilderNode
from d2vpr_ros.nodes.messages import to_time
from d2vpr_ros.nodes.mount import MountListener
from d2vpr_ros.nodes.poses import TfPoses
from d2vpr_ros.sim.render import CAMERA_MOUNT

__all__ = ["drives"]  # a fixture

SECOND = 1_000_000_000


class Buffer:
    """Of tf2_ros: one moving transform between two frames, interpolated, never beyond what is known."""

    def __init__(self, node: Node) -> None:
        self._samples: dict[tuple[str, str], list[tuple[int, Pose]]] = {}

    def clear(self) -> None:
        self._samples.clear()

    def set_transform(self, stamped: TransformStamped, authority: str) -> None:
        frames = stamped.header.frame_id, stamped.child_frame_id
        self._samples.setdefault(frames, []).append((stamp_ns(stamped.header), read_transform(stamped.transform)))

    def can_transform(self, target: str, source: str, time: Any) -> bool:
        samples = self._samples.get((target, source), [])
        if time.nanoseconds == 0:  # the newest
            return bool(samples)
        return bool(samples) and samples[0][0] <= time.nanoseconds <= samples[-1][0]

    def lookup_transform(self, target: str, source: str, time: Any) -> TransformStamped:
        samples = self._samples[target, source]
        after = bisect_left(samples, time.nanoseconds, key=lambda sample: sample[0])
        (t1, b), (t0, a) = samples[after], samples[max(0, after - 1)]
        return stamped(time.nanoseconds, interpolate(a, b, (time.nanoseconds - t0) / (t1 - t0)) if t1 > t0 else b)


@pytest.fixture(autouse=True)
def tf2(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("tf2_ros") is None:
        module = ModuleType("tf2_ros")
        module.__spec__ = ModuleSpec("tf2_ros", None)
        vars(module).update(Buffer=Buffer, TransformListener=lambda buffer, node: None)
        monkeypatch.setitem(sys.modules, "tf2_ros", module)


def stamped(at_ns: int, pose: Pose, parent: str = "map", child: str = "base_link") -> TransformStamped:
    message = TransformStamped(child_frame_id=child)
    message.header.stamp, message.header.frame_id = to_time(at_ns), parent
    moved, turned = message.transform.translation, message.transform.rotation
    moved.x, moved.y, moved.z, turned.x, turned.y, turned.z, turned.w = pose.numbers
    return message


def test_a_pose_is_interpolated_and_waited_for(domain_id: int) -> None:
    rclpy.init()
    node = rclpy.create_node("asks")
    poses = TfPoses(MountListener(node), "map", "base_link")
    assert poses.at(SECOND, 1.5) is None
    assert poses.problem().startswith("tf does not connect map -> base_link; publish it, or set map_frame")
    for second in (1, 2):
        pose = Pose.planar(float(second), 0.0, 0.2 * second)
        poses._buffer.set_transform(stamped(second * SECOND, pose), "test")
    assert poses.problem() == ""
    assert [poses.is_settled(at * SECOND // 2) for at in (1, 2, 3, 4, 5)] == [False, True, True, True, False]
    found = poses.at(3 * SECOND // 2, 1.5)
    assert found is not None and found[1] is None
    middle = Pose.planar(1.5, 0.0, 0.3)
    assert distance(found[0], middle) < 1e-9 and turn(found[0], middle) < 1e-6
    node.destroy_node()
    rclpy.try_shutdown()


def test_the_node_makes_the_map_from_tf_that_the_command_makes_from_poses(
    drives: Path, tmp_path: Path, domain_id: int
) -> None:
    words = ["--ros-args"]
    parameters = (f"map:={tmp_path / 'tf.d2map'}", "image_transport:=compressed", "spacing_m:=2.0", "pose_source:=tf")
    for parameter in (*parameters, MOUNT):
        words += ["-p", parameter]
    rclpy.init(args=words)
    node = MapBuilderNode()
    node.start()
    with open_bag(drives / "noon") as bag:
        for _, _, _, cdr in bag.raw([POSES]):
            message = deserialize_message(cdr, PoseStamped)
            transform = stamped(stamp_ns(message.header), read_pose(message.pose))
            node._pose_input.poses._buffer.set_transform(transform, "slam")  # type: ignore[attr-defined]
        for _, _, _, cdr in bag.raw([IMAGES]):
            node._take_image(0, deserialize_message(cdr, CompressedImage))
    node.stop()
    node.destroy_node()
    rclpy.try_shutdown()
    built, verb = read_map(tmp_path / "tf.d2map"), read_map(drives / "verb.d2map")
    assert built.stamps_ns.tolist() == verb.stamps_ns.tolist()
    assert np.allclose(built.positions, verb.positions, atol=1e-9)
    assert np.allclose(np.abs((built.quaternions * verb.quaternions).sum(axis=1)), 1.0)


def test_a_recording_that_is_played_again_is_a_run_of_its_own(drives: Path, tmp_path: Path, domain_id: int) -> None:
    """tf2 refuses transforms older than what it has: of the second run every image would lack a pose."""
    words = ["--ros-args"]
    for parameter in (f"map:={tmp_path / 'tf.d2map'}", "image_transport:=compressed", "pose_source:=tf", MOUNT):
        words += ["-p", parameter]
    rclpy.init(args=words)
    node = MapBuilderNode()
    node.start()
    poses = node._pose_input.poses
    assert isinstance(poses, TfPoses)
    later = PoseStamped()
    later.header.stamp = to_time(2_000_000_000 * SECOND)
    with open_bag(drives / "noon") as bag:
        recorded = [deserialize_message(cdr, PoseStamped) for _, _, _, cdr in bag.raw([POSES])]
        images = [deserialize_message(cdr, CompressedImage) for _, _, _, cdr in bag.raw([IMAGES])]
    poses._buffer.set_transform(stamped(stamp_ns(later.header), Pose.identity()), "slam")
    node._take_image(0, CompressedImage(header=later.header, data=images[0].data))
    node._take_image(0, images[0])  # time has begun anew
    for message in recorded:
        poses._buffer.set_transform(stamped(stamp_ns(message.header), read_pose(message.pose)), "slam")
    for image in images[1:]:
        node._take_image(0, image)
    assert node._builder is not None and NO_POSE not in node._builder.counts.left_out
    node.stop()
    node.destroy_node()
    rclpy.try_shutdown()
    assert len(read_map(tmp_path / "tf.d2map")) > 5


def test_images_wait_until_it_is_known_where_the_camera_sits(drives: Path, tmp_path: Path, domain_id: int) -> None:
    words = ["-p", f"map:={tmp_path / 'tf.d2map'}", "-p", "image_transport:=compressed"]
    rclpy.init(args=["--ros-args", *words])
    node = MapBuilderNode()
    node.start()
    with open_bag(drives / "noon") as bag:
        for topic, _, _, cdr in bag.raw([POSES, IMAGES]):
            if topic == POSES:
                node._pose_input._take(deserialize_message(cdr, PoseStamped))
            else:
                node._take_image(0, deserialize_message(cdr, CompressedImage))
    assert len(node._waiting) == 20
    node._cameras[0]._mount = CAMERA_MOUNT  # tf has said it
    node._settle()
    node.stop()
    node.destroy_node()
    rclpy.try_shutdown()
    assert len(read_map(tmp_path / "tf.d2map")) > 10
    assert node._builder is not None and [*node._builder.counts.left_out] == [TOO_CLOSE]


def test_simulated_time_that_jumps_back_clears_tf(domain_id: int) -> None:
    rclpy.init(args=["--ros-args", "-p", "use_sim_time:=true"])
    node = rclpy.create_node("asks")
    poses = TfPoses(MountListener(node), "map", "base_link")
    publisher = node.create_publisher(Clock, "/clock", 10)
    for second in (1_000, 2):  # a recording, and its beginning again
        while node.get_clock().now().nanoseconds != second * SECOND:
            publisher.publish(Clock(clock=to_time(second * SECOND)))
            rclpy.spin_once(node, timeout_sec=0.05)
        assert not poses.is_settled(second * SECOND)
        poses._buffer.set_transform(stamped(second * SECOND, Pose.identity()), "slam")
        assert poses.is_settled(second * SECOND)
    node.destroy_node()
    rclpy.try_shutdown()
