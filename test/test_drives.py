"""Recorded drives: where the robot was at any time, and the images with their poses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import LEFT_MOUNT, RGB, SECOND, record
from scipy.spatial.transform import Rotation

from d2vpr_ros.bags.drive import open_drive
from d2vpr_ros.bags.gps_poses import headings
from d2vpr_ros.bags.messages import make, make_header, make_pose, make_vector
from d2vpr_ros.bags.pose_topics import trajectory_from_bag
from d2vpr_ros.bags.reader import open_bag
from d2vpr_ros.bags.trajectory import Trajectory
from d2vpr_ros.bags.transforms import static_transform
from d2vpr_ros.bags.writer import BagWriter
from d2vpr_ros.errors import UserError
from d2vpr_ros.geodesy import LocalFrame
from d2vpr_ros.geometry import FORWARD_MOUNT, Pose, distance, turn


@pytest.fixture
def drive_bag(tmp_path):
    return record(tmp_path / "drive")


def close(a, b):
    return distance(a, b) < 1e-9 and turn(a, b) < 1e-6


# Trajectories

UNIT = st.floats(-1, 1)
COORDINATE = st.floats(-1e4, 1e4)


@st.composite
def trajectories(draw):
    count = draw(st.integers(2, 6))
    gaps = draw(st.lists(st.integers(1, 2 * SECOND), min_size=count - 1, max_size=count - 1))
    stamps = np.cumsum([draw(st.integers(0, 2**62)), *gaps])
    positions = np.array(draw(st.lists(st.tuples(COORDINATE, COORDINATE, COORDINATE), min_size=count, max_size=count)))
    vectors = draw(st.lists(st.tuples(UNIT, UNIT, UNIT), min_size=count, max_size=count))
    return Trajectory(stamps, positions, Rotation.from_rotvec(vectors).as_quat())


@settings(max_examples=60, deadline=None)
@given(trajectories(), st.floats(0, 1))
def test_between_two_poses_the_robot_is_between_them(trajectory, share):
    for i, (start, end) in enumerate(zip(trajectory.stamps_ns[:-1], trajectory.stamps_ns[1:], strict=True)):
        stamp = int(start) + int(share * int(end - start))
        before, after = (Pose(trajectory.positions[k], trajectory.quaternions[k]) for k in (i, i + 1))
        pose = trajectory.at(stamp, max_gap_s=2.0)
        assert distance(before, pose) + distance(pose, after) == pytest.approx(distance(before, after), abs=1e-6)
        assert turn(before, pose) + turn(pose, after) == pytest.approx(turn(before, after), abs=1e-5)
        assert np.linalg.norm(pose.quaternion) == pytest.approx(1.0)


@settings(max_examples=30, deadline=None)
@given(trajectories())
def test_at_a_stamp_the_pose_is_that_one_and_outside_there_is_none(trajectory):
    for stamp, position, quaternion in zip(
        trajectory.stamps_ns, trajectory.positions, trajectory.quaternions, strict=True
    ):
        assert close(trajectory.at(int(stamp), max_gap_s=0.0), Pose(position, quaternion))
    assert trajectory.at(int(trajectory.stamps_ns[0]) - 1, max_gap_s=1e9) is None
    assert trajectory.at(int(trajectory.stamps_ns[-1]) + 1, max_gap_s=1e9) is None


def test_a_gap_is_not_interpolated_over():
    trajectory = Trajectory(np.array([0, 5 * SECOND]), np.zeros((2, 3)), np.tile([0.0, 0, 0, 1], (2, 1)))
    assert trajectory.at(SECOND, max_gap_s=4.9) is None
    assert trajectory.at(SECOND, max_gap_s=5.0) is not None


def test_poses_out_of_order_doubled_or_unusable_still_make_a_trajectory(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        for stamp, x in [(2, 2.0), (1, 1.0), (2, 2.0), (3, float("nan")), (4, 4.0)]:
            # The message's own stamp and the time it was recorded at differ, as in every real bag.
            pose = make_pose(Pose.identity())
            pose.position.x = x
            message = make("geometry_msgs/msg/PoseStamped", header=make_header(stamp * SECOND, "world"), pose=pose)
            bag.write("/slam/pose", 9 * SECOND, message)
    with open_bag(tmp_path / "bag") as bag:
        trajectory = trajectory_from_bag(bag, "/slam/pose")
    assert trajectory.stamps_ns.tolist() == [SECOND, 2 * SECOND, 4 * SECOND]
    assert trajectory.positions[:, 0].tolist() == [1.0, 2.0, 4.0]
    assert trajectory.frame_id == "world"


@pytest.mark.parametrize("number", [0.0, float("nan"), float("inf"), 1e300])
def test_a_rotation_without_a_direction_is_no_pose(number):
    with pytest.raises(ValueError, match="not a pose"):
        Pose.of(0, 0, 0, number, 0, 0, 0)


def test_a_pose_topic_without_a_usable_pose_and_one_that_is_none_are_refused(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        bag.fix("/gps/fix", 0, "gps", float("nan"), 13.2, 0.0, 1.0)
        bag.text("/words", 0, "hello")
    with open_bag(tmp_path / "bag") as bag:
        with pytest.raises(UserError, match="none of the 1 messages on /gps/fix has a usable pose"):
            trajectory_from_bag(bag, "/gps/fix")
        with pytest.raises(UserError, match="/words is std_msgs/msg/String, no pose"):
            trajectory_from_bag(bag, "/words")


def test_gps_becomes_metres_east_and_north_headed_along_the_track(tmp_path):
    lund = LocalFrame(55.7, 13.2, 40.0)
    track = np.array([[3.0 * i, 0, 1.0] for i in range(5)] + [[12.0, 3.0 * i, 1.0] for i in range(1, 5)])
    with BagWriter(tmp_path / "bag") as bag:
        bag.fix("/gps/fix", 0, "gps", float("nan"), float("nan"), 0.0, None)
        for i, (lat, lon, alt) in enumerate(lund.to_geo(track)):
            bag.fix("/gps/fix", (i + 1) * SECOND, "gps", lat, lon, alt, 1.0)
    with open_bag(tmp_path / "bag") as bag:
        trajectory = trajectory_from_bag(bag, "/gps/fix")
    assert np.abs(trajectory.positions - (track - track[0])).max() < 1e-3
    yaw = Rotation.from_quat(trajectory.quaternions).as_euler("zyx")[:, 0]
    assert yaw == pytest.approx([0] * 5 + [np.pi / 2] * 4, abs=1e-3)
    assert trajectory.origin.altitude == pytest.approx(41.0)
    assert trajectory.geo(trajectory.positions[3]) == pytest.approx(tuple(lund.to_geo(track)[3]), abs=1e-6)


def test_an_unknown_altitude_is_zero_in_the_pose_and_nan_in_the_geo_tag(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        for i in range(3):
            bag.fix("/gps/fix", i * SECOND, "gps", 55.7 + i * 0.001, 13.2, float("nan") if i == 1 else 30.0, 1.0)
    with open_bag(tmp_path / "bag") as bag:
        trajectory = trajectory_from_bag(bag, "/gps/fix")
    assert trajectory.positions[:, 2].tolist() == [0.0, 0.0, 0.0]
    latitude, _, altitude = trajectory.geo(trajectory.positions[2])
    assert latitude == pytest.approx(55.702, abs=1e-6)
    assert np.isnan(altitude)


def test_a_robot_that_stands_keeps_its_heading():
    seconds = np.arange(40)
    driven = np.minimum(seconds, 10).astype(float)
    noise = np.random.default_rng(2).normal(0, 0.3, (40, 2)) * (seconds > 10)[:, None]
    positions = np.column_stack([np.zeros(40), driven, np.zeros(40)])
    positions[:, :2] += noise
    yaw = headings(seconds * SECOND, positions)
    assert yaw[:11] == pytest.approx(np.pi / 2)
    assert np.abs(yaw - np.pi / 2).max() < 0.5
    assert headings(seconds * SECOND, positions * 0.01) is None


# Drives


def test_each_image_gets_the_cameras_pose_at_its_own_stamp(drive_bag):
    with open_bag(drive_bag) as bag:
        drive = open_drive(bag)
        frames = list(drive.frames())
    assert close(drive.mount, LEFT_MOUNT)
    assert (drive.images, drive.unposed, drive.unreadable, drive.skipped) == (5, 1, 0, 0)
    assert [f.frame.stamp_ns for f in frames] == [i * SECOND + SECOND // 2 for i in range(4)]
    assert all(close(f.pose, Pose.planar(i + 0.5, 0, 0) @ LEFT_MOUNT) for i, f in enumerate(frames))
    assert np.array_equal(frames[0].frame.rgb, RGB)
    assert (frames[0].frame.camera, frames[0].geo) == ("camera", None)


def test_images_that_are_not_wanted_are_left_out_by_their_pose(drive_bag):
    with open_bag(drive_bag) as bag:
        drive = open_drive(bag, mount=FORWARD_MOUNT)
        kept = [f.pose.position[0] for f in drive.frames(keep=lambda camera, pose, stamp: pose.position[0] > 2)]
    assert kept == [2.5, 3.5]
    assert drive.skipped == 2


def test_poses_of_the_camera_are_taken_as_they_are(drive_bag):
    with open_bag(drive_bag) as bag:
        drive = open_drive(bag, pose_of="camera_optical")
        assert close(next(drive.frames()).pose, Pose.planar(0.5, 0, 0))
        assert close(drive.mount, LEFT_MOUNT)  # still needed to say where the base is


def test_odometry_of_the_cameras_own_frame_is_the_cameras(tmp_path):
    with BagWriter(tmp_path / "bag", compressed=True) as bag:
        bag.odometry("/visual_odom", 0, "odom", "camera_optical_frame", Pose.planar(1, 2, 0))
        bag.image("/camera/image", 0, RGB, "camera_optical_frame")
    with open_bag(tmp_path / "bag") as bag:
        drive = open_drive(bag)
        assert drive.image_topic == "/camera/image/compressed"
        assert close(next(drive.frames()).pose, Pose.planar(1, 2, 0))
        assert drive.frame_id == "odom"


def test_an_unknown_mount_is_level_and_forward_and_it_is_said(tmp_path, caplog):
    with BagWriter(tmp_path / "bag") as bag:
        bag.pose("/slam/pose", 0, "map", Pose.identity())
        bag.image("/camera/image", 0, RGB, "somewhere")
    with open_bag(tmp_path / "bag") as bag:
        assert close(open_drive(bag).mount, FORWARD_MOUNT)
    assert "has no mount of somewhere on base_link" in caplog.text


def test_images_have_geo_tags_where_the_poses_come_from_gps(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        for i in range(3):
            bag.fix("/gps/fix", i * SECOND, "gps", 55.7 + i * 1e-4, 13.2, 40.0, 1.0)
            bag.image("/camera/image", i * SECOND, RGB, "cam")
    with open_bag(tmp_path / "bag") as bag:
        drive = open_drive(bag)
        tags = [f.geo for f in drive.frames()]
    assert drive.origin == LocalFrame(55.7, 13.2, 40.0)
    assert tags[2] == pytest.approx((55.7002, 13.2, 40.0), abs=1e-6)


def test_poses_that_do_not_cover_the_images_time_are_said_with_both_times(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        for i in range(3):
            bag.pose("/slam/pose", (100 + i) * SECOND, "map", Pose.identity())
            bag.image("/camera/image", i * SECOND, RGB, "cam")
    both = r"from 0\.000 s to 2\.000 s, /slam/pose from 100\.000 s to 102\.000 s"
    with open_bag(tmp_path / "bag") as bag, pytest.raises(UserError, match=both) as caught:
        list(open_drive(bag).frames())
    assert "\n" not in str(caught.value)


def test_an_unreadable_image_is_counted_and_a_drive_of_nothing_else_refused(tmp_path, caplog):
    with BagWriter(tmp_path / "bag") as bag:
        bag.pose("/slam/pose", 0, "map", Pose.identity())
        bag.encoded_image("/good", 0, b"no picture", "cam")
        bag.encoded_image("/bad", 0, b"no picture", "cam")
    with BagWriter(tmp_path / "mixed", compressed=True) as bag:
        for i in range(2):
            bag.pose("/slam/pose", i, "map", Pose.identity())
        bag.encoded_image("/camera", 0, b"no picture", "cam")
        bag.image("/camera", 1, RGB, "cam")
    with open_bag(tmp_path / "bag") as bag, pytest.raises(UserError, match="none of the images on /bad/compressed"):
        list(open_drive(bag, image_topic="/bad/compressed").frames())
    with open_bag(tmp_path / "mixed") as bag:
        drive = open_drive(bag)
        assert len(list(drive.frames())) == 1
        assert drive.unreadable == 1
    assert "no JPEG or PNG header" in caplog.text


IMAGES = "/camera/image"


def write_robot(bag, namespace, prefix, mount):
    """A robot in a namespace, with poses and an image, and a camera that looks to its left."""
    pose = make("geometry_msgs/msg/TransformStamped", header=make_header(0, f"{prefix}base_link"),
                child_frame_id=f"{prefix}cam",
                transform=make("geometry_msgs/msg/Transform", translation=make_vector(mount.position),
                               rotation=make_pose(mount).orientation))  # fmt: skip
    bag.write(f"{namespace}/tf_static", 0, make("tf2_msgs/msg/TFMessage", transforms=[pose]))
    bag.pose(f"{namespace}/slam/pose", 0, "map", Pose.planar(7, 0, 0))
    bag.image(f"{namespace}/camera/image", 0, RGB, f"{prefix}cam")


@pytest.mark.parametrize("prefix", ["", "r1/"])
@pytest.mark.parametrize("namespace", ["", "/r1"])
def test_the_fixed_transforms_of_a_robot_in_a_namespace_are_its_own(tmp_path, namespace, prefix):
    with BagWriter(tmp_path / "bag") as bag:
        write_robot(bag, namespace, prefix, LEFT_MOUNT)
    with open_bag(tmp_path / "bag") as bag:
        assert close(open_drive(bag).mount, LEFT_MOUNT)


def test_of_several_robots_in_one_bag_the_one_that_the_images_are_of_counts(tmp_path, caplog):
    with BagWriter(tmp_path / "bag") as bag:
        write_robot(bag, "/r1", "", LEFT_MOUNT)
        write_robot(bag, "/r2", "", FORWARD_MOUNT)
        bag.image("/shared/image", 0, RGB, "cam")
    with open_bag(tmp_path / "bag") as bag:
        first, second = (open_drive(bag, f"/{name}/camera/image", f"/{name}/slam/pose") for name in ("r1", "r2"))
        assert close(first.mount, LEFT_MOUNT) and close(second.mount, FORWARD_MOUNT)
        assert caplog.text == ""
        open_drive(bag, "/shared/image", "/r1/slam/pose")
    assert "/r1/tf_static and /r2/tf_static are of several robots and none is in the namespace of /shared/image" in (
        caplog.text
    )


def test_static_transforms_are_found_across_a_tree(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        bag.transform(0, "base_link", "mast", Pose.planar(0, 0, 0, z=1.0), static=True)
        bag.transform(0, "/mast", "/left", Pose.planar(0, 0.2, np.pi / 2), static=True)
        bag.transform(0, "mast", "right", Pose.planar(0, -0.2, 0), static=True)
        bag.transform(0, "a", "b", Pose.identity(), static=True)
        bag.transform(0, "b", "a", Pose.identity(), static=True)
        broken = make(
            "geometry_msgs/msg/Transform",
            translation=make_vector([0, 0, 0]),
            rotation=make_pose(Pose.identity()).orientation,
        )
        broken.rotation.w = 0.0
        stamped = make(
            "geometry_msgs/msg/TransformStamped", header=make_header(0, "mast"), child_frame_id="bad", transform=broken
        )
        bag.write("/tf_static", 0, make("tf2_msgs/msg/TFMessage", transforms=[stamped]))
    with open_bag(tmp_path / "bag") as bag:
        assert close(static_transform(bag, "base_link", "left", IMAGES), Pose.planar(0, 0.2, np.pi / 2, z=1.0))
        assert close(static_transform(bag, "right", "mast", IMAGES), Pose.planar(0, 0.2, 0))
        assert close(
            static_transform(bag, "left", "right", IMAGES),
            Pose.planar(0, 0.2, np.pi / 2).inverse() @ Pose.planar(0, -0.2, 0),
        )
        assert static_transform(bag, "base_link", "a", IMAGES) is None
        assert static_transform(bag, "mast", "bad", IMAGES) is None
