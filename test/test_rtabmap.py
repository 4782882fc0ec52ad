"""What RTAB-Map gets: links between its own nodes, and the descriptor as its Python interface calls for it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rclpy
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from d2vpr_ros.describe import Extractor
from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import Array, Pose, distance, turn
from d2vpr_ros.loops.rtabmap import Node, Nodes, link_between
from d2vpr_ros.nodes.rtabmap_links import USER_CLOSURE, RtabmapLinks, link_message, old_stamp

SECOND = 1_000_000_000
SCRIPT = Path(__file__).resolve().parent.parent / "rtabmap" / "d2vpr_rtabmap_descriptor.py"


def some_pose(random: np.random.Generator) -> Pose:
    return Pose(random.normal(size=3), Rotation.random(random_state=random).as_quat())


def disturbed(pose: Pose, error: Array) -> Pose:
    """As covariances of ROS have it: the true rotation is Exp(error) times the stated one."""
    return Pose(pose.position + error[:3], (Rotation.from_rotvec(error[3:]) * pose.rotation).as_quat())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_link_joins_the_nodes_as_the_closure_joins_its_images(seed: int) -> None:
    random = np.random.default_rng(seed)
    at_old, at_new, closure = (some_pose(random) for _ in range(3))
    old_node, new_node = some_pose(random), some_pose(random)
    nodes = Node(3, 0, old_node), Node(8, SECOND, new_node)
    root = random.normal(size=(6, 6))
    covariance = root @ root.T + np.eye(6)
    link = link_between(*nodes, at_old, at_new, closure, covariance)
    assert (link.from_id, link.to_id) == (8, 3)
    # With the true world as the old image's frame: both nodes hang on their images by odometry.
    in_old = at_old.inverse() @ old_node
    in_new = closure @ at_new.inverse() @ new_node
    expected = in_new.inverse() @ in_old
    assert distance(link.pose, expected) < 1e-9 and turn(link.pose, expected) < 1e-6
    # Errors of the closure come out as the link's covariance has them.
    errors = 1e-5 * np.eye(6)
    moved = [link_between(*nodes, at_old, at_new, disturbed(closure, error), covariance).pose for error in errors]
    jacobian = np.column_stack(
        [
            np.concatenate([one.position - link.pose.position, (one.rotation * link.pose.rotation.inv()).as_rotvec()])
            / 1e-5
            for one in moved
        ]
    )
    expected_covariance = jacobian @ covariance @ jacobian.T
    assert np.allclose(np.linalg.inv(link.information), expected_covariance, rtol=1e-3, atol=1e-3)


def test_a_closure_goes_to_the_nearest_node_or_to_none() -> None:
    nodes = Nodes(farthest_s=0.5)
    assert nodes.nearest(0) is None and not nodes.reaches(0)
    for number in range(3):
        nodes.add(Node(number + 1, number * SECOND, Pose.identity()))
    near = nodes.nearest(round(1.4 * SECOND))
    assert near is not None and near.id == 2
    assert nodes.nearest(3 * SECOND) is None and not nodes.reaches(3 * SECOND)
    nodes.add(Node(1, 0, Pose.identity()))  # RTAB-Map was started anew
    assert len(nodes) == 1


def test_the_old_image_is_read_from_the_frame_of_a_closure() -> None:
    assert old_stamp("base_link@12.000000345") == 12 * SECOND + 345
    for wrong in ("base_link", "base_link@12", "base_link@12.5", "base_link@x.000000001"):
        with pytest.raises(ValueError, match=r"expected base_link@SECONDS\.NANOSECONDS"):
            old_stamp(wrong)


def test_the_message_has_the_fields_of_rtabmaps_link() -> None:
    """The definition: from_id, to_id, type, transform (geometry_msgs/Transform), information[36]."""

    def kind() -> Any:
        return SimpleNamespace(transform=SimpleNamespace(translation=SimpleNamespace(), rotation=SimpleNamespace()))

    nodes = Node(1, 0, Pose.identity()), Node(2, SECOND, Pose.identity())
    still = Pose.identity()
    link = link_between(*nodes, still, still, Pose.planar(1.0, 0.0, 0.0), 0.01 * np.eye(6))
    message = link_message(link, kind)
    assert (message.from_id, message.to_id, message.type) == (2, 1, USER_CLOSURE)
    assert message.transform.translation.x == pytest.approx(-1.0)
    assert len(message.information) == 36 and message.information[0] > 0


def test_without_rtabmap_the_node_says_what_to_install(domain_id: int) -> None:
    if importlib.util.find_spec("rtabmap_msgs") is not None:
        pytest.skip("rtabmap_msgs is installed")
    rclpy.init(args=[])
    node = RtabmapLinks()
    with pytest.raises(UserError, match="rtabmap_msgs is not installed here; it comes with RTAB-Map"):
        node.start()
    node.destroy_node()
    rclpy.try_shutdown()


@pytest.mark.parametrize("numbers", [0, 128])
def test_rtabmap_gets_our_descriptor_of_its_image(numbers: int) -> None:
    spec = importlib.util.spec_from_file_location("d2vpr_rtabmap_descriptor", SCRIPT)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.init(numbers)
    rgb = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    handed_over = np.ascontiguousarray(rgb[:, :, ::-1]).view(np.int8)  # NPY_BYTE, blue first
    descriptor = script.extract(handed_over)
    ours = Extractor.open("nano").describe([rgb])[0]
    ours = ours[: numbers or None] / np.linalg.norm(ours[: numbers or None])
    assert descriptor.dtype == np.float32 and descriptor.shape == (1, len(ours))
    assert np.allclose(descriptor[0], ours, atol=1e-5)
    assert script.extract(handed_over[:, :, :1]).shape == descriptor.shape
