"""Poses from whatever the robot has, each at the image's own stamp."""

from __future__ import annotations

import numpy as np
import pytest
from recorded import RGB, SECOND
from scipy.spatial.transform import Rotation

from d2vpr_ros.bags.covariance import larger, moved, usable
from d2vpr_ros.bags.drive import MAX_GAP_S, open_drive
from d2vpr_ros.bags.messages import make, make_covariance, make_header, make_pose
from d2vpr_ros.bags.reader import open_bag
from d2vpr_ros.bags.writer import BagWriter
from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import FORWARD_MOUNT, Pose, distance, turn

CAMERA = Pose.planar(0.5, 0.2, 0.3, z=1.0) @ FORWARD_MOUNT


def close(a, b, metres=1e-6):
    return distance(a, b) < metres and turn(a, b) < 1e-6


def way(second):
    """A robot that drives a curve and climbs."""
    return Pose.planar(2.0 * second, 0.3 * second**2, 0.2 * second, z=0.1 * second)


def between(first, second, share):
    """What linear interpolation and slerp say, by another road: the half angle of a turn about z."""
    a, b = way(first), way(second)
    yaw = 0.2 * (first + share * (second - first))
    return Pose.planar(*((1 - share) * a.position + share * b.position)[:2], yaw, z=0.1 * (first + share))


def record_images(bag, stamps):
    bag.transform(0, "base_link", "cam", CAMERA, static=True)
    for stamp in stamps:
        bag.image("/front/image", round(stamp * SECOND), RGB, "cam")


def stamped(second):
    return make(
        "geometry_msgs/msg/PoseStamped", header=make_header(second * SECOND, "map"), pose=make_pose(way(second))
    )


def write_odometry(bag, second):
    bag.odometry("/poses", second * SECOND, "map", "base_link", way(second))


def write_pose(bag, second):
    bag.write("/poses", second * SECOND, stamped(second))


def write_pose_with_covariance(bag, second):
    pose = make("geometry_msgs/msg/PoseWithCovariance", pose=make_pose(way(second)), covariance=make_covariance(None))
    header = make_header(second * SECOND, "map")
    bag.write("/poses", second * SECOND, make("geometry_msgs/msg/PoseWithCovarianceStamped", header=header, pose=pose))


def write_path(bag, second):
    # Each message repeats the way so far; only the last one has no error in it.
    poses = [stamped(s) for s in range(second + 1)]
    if second < 4:
        poses[0].pose.position.x = 99.0
    bag.write("/poses", second * SECOND, make("nav_msgs/msg/Path", header=make_header(0, "map"), poses=poses))


@pytest.mark.parametrize("write", [write_odometry, write_pose, write_pose_with_covariance, write_path])
def test_each_kind_of_pose_topic_is_interpolated_at_the_images_stamp(tmp_path, write):
    with BagWriter(tmp_path / "bag") as bag:
        for second in range(5):
            write(bag, second)
        record_images(bag, [0.0, 0.5, 2.25])
    with open_bag(tmp_path / "bag") as bag:
        drive = open_drive(bag, pose_topic="/poses")
        poses = [posed.pose for posed in drive.frames()]
    expected = [way(0), between(0, 1, 0.5), between(2, 3, 0.25)]
    assert all(close(pose, base @ CAMERA) for pose, base in zip(poses, expected, strict=True))
    assert drive.frame_id == "map"


def test_a_path_is_used_only_when_it_is_named_and_has_stamps_of_its_own(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        poses = [stamped(0), stamped(0)]
        bag.write("/plan", 0, make("nav_msgs/msg/Path", header=make_header(0, "map"), poses=poses))
        record_images(bag, [0.0])
    with open_bag(tmp_path / "bag") as bag:
        with pytest.raises(UserError, match="no pose topic was found"):
            open_drive(bag)
        with pytest.raises(UserError, match="one stamp for all of its poses"):
            open_drive(bag, pose_topic="/plan")


def test_images_before_the_first_pose_after_the_last_and_in_a_gap_are_counted(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        for second in (1, 2, 5, 6):
            write_pose(bag, second)
        record_images(bag, [0.0, 0.5, 1.5, 3.0, 4.0, 4.5, 5.5, 7.0])
    with open_bag(tmp_path / "bag") as bag:
        drive = open_drive(bag)
        assert len(list(drive.frames())) == 2
        assert (drive.outside, drive.in_gaps, drive.unposed) == (3, 3, 6)
        patient = open_drive(bag, max_gap_s=3.0)
        assert len(list(patient.frames())) == 5
    assert MAX_GAP_S < 3.0


def test_images_out_of_order_or_with_equal_stamps_get_the_pose_of_their_own_stamp(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        for second in (3, 1, 2, 2, 0):
            write_pose(bag, second)
        bag.transform(0, "base_link", "cam", CAMERA, static=True)
        for i, stamp in enumerate((0.5, 2.5, 1.5, 1.5)):
            image = make(
                "sensor_msgs/msg/Image",
                header=make_header(round(stamp * SECOND), "cam"),
                height=24, width=32, encoding="rgb8", is_bigendian=0, step=96, data=RGB.reshape(-1),
            )  # fmt: skip
            bag.write("/front/image", i * SECOND, image)
    with open_bag(tmp_path / "bag") as bag:
        drive = open_drive(bag)
        frames = list(drive.frames())
    assert [posed.frame.stamp_ns / SECOND for posed in frames] == [0.5, 2.5, 1.5, 1.5]
    bases = [between(0, 1, 0.5), between(2, 3, 0.5), between(1, 2, 0.5), between(1, 2, 0.5)]
    assert all(close(posed.pose, base @ CAMERA) for posed, base in zip(frames, bases, strict=True))
    assert drive.out_of_order == 2


# tf


def record_tf(path, camera_moves=False):
    """map -> odom jumps at 2 s, odom -> base drives, base -> mast -> cam stands or turns; gaps at different times."""
    with BagWriter(path) as bag:
        for second in range(5):
            bag.transform(second * SECOND, "map", "odom", Pose.planar(0, 10.0 * (second > 1), 0), static=False)
            bag.transform(second * SECOND + 1, "odom", "base_link", way(second), static=False)
            if camera_moves:
                bag.transform(second * SECOND, "base_link", "mast", Pose.planar(0, 0, 0.5 * second), static=False)
        if not camera_moves:
            bag.transform(0, "base_link", "mast", Pose.identity(), static=True)
        bag.transform(0, "/mast", "/cam", CAMERA, static=True)
        for stamp in (0.0, 1.5, 3.25, 4.5):
            bag.image("/front/image", round(stamp * SECOND), RGB, "cam")
    return path


def test_poses_from_the_tf_tree_are_interpolated_edge_by_edge(tmp_path):
    with open_bag(record_tf(tmp_path / "bag")) as bag:
        drive = open_drive(bag)  # there is nothing but tf
        frames = list(drive.frames())
    assert (drive.pose_source, drive.frame_id) == ("/tf", "map")
    corrections = [Pose.planar(0, 5, 0), Pose.planar(0, 10, 0)]
    bases = [between(1, 2, 0.5), between(3, 4, 0.25)]
    assert all(
        close(posed.pose, jump @ base @ CAMERA, metres=1e-5)
        for posed, jump, base in zip(frames, corrections, bases, strict=True)
    )
    assert close(drive.cameras["front"].mount, CAMERA)
    assert (drive.outside, drive.in_gaps) == (2, 0)  # odom -> base begins a nanosecond late


def test_a_camera_that_pans_is_where_tf_says(tmp_path):
    with open_bag(record_tf(tmp_path / "bag", camera_moves=True)) as bag:
        drive = open_drive(bag, pose_topic="/tf")
        poses = [posed.pose for posed in drive.frames()]
    expected = Pose.planar(0, 5, 0) @ between(1, 2, 0.5) @ Pose.planar(0, 0, 0.75) @ CAMERA
    assert close(poses[0], expected, metres=1e-5)


def test_a_camera_that_is_not_in_tf_stands_on_the_base_by_its_mount(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        for second in range(3):
            bag.transform(second * SECOND, "world", "base", way(second), static=False)
        bag.image("/image", SECOND, RGB, "nowhere")
    with open_bag(tmp_path / "bag") as bag:
        with pytest.raises(UserError, match=r"does not connect map to nowhere or base_link; .* are base, world"):
            open_drive(bag)
        drive = open_drive(bag, mount=CAMERA, map_frame="world", base_frame="base")
        assert close(next(drive.frames()).pose, way(1) @ CAMERA)


def test_fixed_transforms_that_ros_1_repeats_on_tf_are_mounts_too(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        for second in range(3):
            write_pose(bag, second)
            bag.transform(second * SECOND, "base_link", "cam", CAMERA, static=False)
            bag.image("/front/image", second * SECOND, RGB, "cam")
    with open_bag(tmp_path / "bag") as bag:
        assert close(open_drive(bag).mount, CAMERA)


def test_of_two_parents_of_a_frame_the_one_heard_more_often_counts(tmp_path, caplog):
    with BagWriter(tmp_path / "bag") as bag:
        bag.transform(0, "elsewhere", "base_link", Pose.identity(), static=False)
        for second in range(2):
            bag.transform(second * SECOND, "map", "base_link", way(second), static=False)
        record_images(bag, [1.0])
    with open_bag(tmp_path / "bag") as bag:
        assert close(next(open_drive(bag).frames()).pose, way(1) @ CAMERA)
    assert "has elsewhere and map as its parent: elsewhere is left out" in caplog.text


# Covariance


def test_covariance_is_carried_from_the_base_to_the_camera(tmp_path):
    covariance = np.diag([0.1, 0.2, 0.3, 0.01, 0.02, 0.03])
    with BagWriter(tmp_path / "bag") as bag:
        for second in range(3):
            scale = 1.0 + (second == 1)
            bag.odometry("/odom", second * SECOND, "map", "base_link", way(second), covariance=covariance * scale)
        record_images(bag, [0.5, 2.0])
    with open_bag(tmp_path / "bag") as bag:
        between_two, at_one = (posed.covariance for posed in open_drive(bag).frames())
    assert np.allclose(between_two, spread(2 * covariance, between(0, 1, 0.5)), rtol=0.02, atol=0.005)
    assert np.allclose(at_one, spread(covariance, way(2)), rtol=0.02, atol=0.005)


def spread(covariance, base):
    """The covariance of the camera's pose by drawing errors of the base's: fixed axes, as ROS means it."""
    errors = np.random.default_rng(0).multivariate_normal(np.zeros(6), covariance * 1e-4, 200_000)
    arm = base.rotation.apply(CAMERA.position)
    moved_by = Rotation.from_rotvec(errors[:, 3:]).apply(arm) - arm
    return np.cov(np.hstack([errors[:, :3] + moved_by, errors[:, 3:]]).T) * 1e4


def test_what_says_nothing_of_an_error_is_no_covariance():
    good = np.diag([1.0, 1, 0, 0, 0, 1])
    assert np.array_equal(usable(good.reshape(36)), good)
    for nothing in (np.zeros(36), np.full(36, np.nan), -good, np.diag([-1.0, 0, 0, 0, 0, 0])):
        assert usable(nothing.reshape(36)) is None
    assert larger(good, None) is None
    assert larger(good, 2 * good) is not good
    assert np.array_equal(moved(good, np.zeros(3)), good)
