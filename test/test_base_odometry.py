"""Odometry of other frames than the base: moved to it, or left out with the reason; never taken for the base's."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded import RGB
from scipy.spatial.transform import Rotation

from d2vpr_ros.bags.drive import open_drive
from d2vpr_ros.bags.messages import make_pose
from d2vpr_ros.bags.reader import open_bag
from d2vpr_ros.bags.writer import BagWriter
from d2vpr_ros.geometry import FORWARD_MOUNT, Pose, distance, turn
from d2vpr_ros.localize.odometry import BaseOdometry, is_base


def message(second: int, pose: Pose, child: str, frame: str = "odom") -> Any:
    stamp = SimpleNamespace(sec=second, nanosec=0)
    header = SimpleNamespace(stamp=stamp, frame_id=frame)
    return SimpleNamespace(header=header, child_frame_id=child, pose=SimpleNamespace(pose=make_pose(pose)))


@given(st.integers(0, 1000))
def test_odometry_of_any_frame_on_the_robot_moves_the_base_as_the_base_moves(seed: int) -> None:
    """A camera's odometry starts at its own zero, with its own axes."""
    random = np.random.default_rng(seed)
    mount = Pose(random.uniform(-2, 2, 3), Rotation.random(random_state=seed).as_quat())  # T_base_camera
    odometry = BaseOdometry("base_link", {"camera": mount}.get)
    bases, read = [Pose.planar(0.5 * second, 0.1 * second, 0.1 * second) for second in range(5)], []
    for second, base in enumerate(bases):
        read.append(odometry.read(message(second, mount.inverse() @ base @ mount, "camera"), float(second))[0])
    moved, true = read[0].inverse() @ read[-1], bases[0].inverse() @ bases[4]
    assert distance(moved, true) < 1e-6 and turn(moved, true) < 1e-6
    assert odometry.moved


def test_odometry_of_a_frame_that_nobody_knows_is_left_out_until_it_is_known() -> None:
    known: dict[str, Pose] = {}
    odometry = BaseOdometry("base_link", known.get)
    with pytest.raises(ValueError, match="it moves rear_camera, and tf does not say where that is on base_link"):
        odometry.read(message(0, Pose.identity(), "rear_camera"), 0.0)
    known["rear_camera"] = Pose.planar(-1.0, 0.0, np.pi)
    pose, _ = odometry.read(message(1, Pose.identity(), "rear_camera"), 1.0)
    assert pose.position[0] == pytest.approx(-1.0, abs=1e-9)


@pytest.mark.parametrize("child", ["", "base_link", "/base_link", "robot1/base_link", "base_footprint"])
def test_names_of_the_base_are_the_base(child: str) -> None:
    odometry = BaseOdometry("base_link", lambda frame: None)
    pose, anew = odometry.read(message(0, Pose.planar(1, 2, 3), child), 0.0)
    assert anew and pose.numbers == Pose.planar(1, 2, 3).numbers and not odometry.moved
    assert not is_base("imu_link", "base_link")


def test_two_publishers_on_one_topic_are_named_and_never_interleaved() -> None:
    odometry = BaseOdometry("base_link", lambda frame: None)
    odometry.read(message(0, Pose.identity(), "base_link"), 0.0)
    with pytest.raises(ValueError, match=r"^two nodes publish it, as odom -> base_link and as map -> base_link: give"):
        odometry.read(message(1, Pose.planar(500, 0, 0), "base_link", frame="map"), 0.1)
    assert not odometry.read(message(1, Pose.planar(1, 0, 0), "base_link"), 0.2)[1]
    # Where the first has fallen silent the other goes on, from the beginning.
    assert odometry.read(message(8, Pose.planar(500, 0, 0), "base_link", frame="map"), 8.0)[1]


def test_a_drive_knows_where_frames_are_on_its_base_by_tf_and_by_given_mounts(tmp_path: Path) -> None:
    imu = Pose.planar(0.1, 0.2, 1.0)
    with BagWriter(tmp_path / "bag") as bag:
        bag.transform(0, "base_link", "imu_link", imu, static=True)
        bag.pose("/slam/pose", 0, "map", Pose.identity())
        bag.image("/camera/image", 0, RGB, "camera_optical_frame")
    with open_bag(tmp_path / "bag") as bag:
        drive = open_drive(bag, mount=FORWARD_MOUNT)
        found = [drive.find_on_base(frame) for frame in ("imu_link", "camera_optical_frame", "rear")]
    assert found[0] is not None and distance(found[0], imu) < 1e-9
    assert found[1] is not None and turn(found[1], FORWARD_MOUNT) < 1e-9
    assert found[2] is None
