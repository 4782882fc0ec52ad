"""Bags: written, read back, and refused when damaged or foreign."""

from __future__ import annotations

import argparse
import resource
import sqlite3

import numpy as np
import pytest
from recorded import RGB, SECOND, record
from rosbags import rosbag2

from d2vpr_ros.bags.messages import TYPESTORE
from d2vpr_ros.bags.reader import open_bag
from d2vpr_ros.bags.topics import choose_topic
from d2vpr_ros.bags.writer import BagWriter
from d2vpr_ros.cli import bag_info
from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import Pose


@pytest.fixture
def drive_bag(tmp_path):
    return record(tmp_path / "drive")


# Writing


def test_a_bag_holds_what_ros_itself_reads(tmp_path):
    serialization = pytest.importorskip("rclpy.serialization", reason="needs rclpy")
    import geometry_msgs.msg as geometry
    import nav_msgs.msg as navigation
    import sensor_msgs.msg as sensors

    types = {
        "/camera/image": sensors.Image,
        "/camera/camera_info": sensors.CameraInfo,
        "/odom": navigation.Odometry,
        "/slam/pose": geometry.PoseStamped,
        "/gps/fix": sensors.NavSatFix,
    }
    pose = Pose.planar(1.0, -2.0, 0.5, z=3.0)
    with BagWriter(tmp_path / "bag") as bag:
        bag.image("/camera/image", 7 * SECOND + 5, RGB, "cam")
        bag.camera_info("/camera/camera_info", 7 * SECOND, "cam", np.diag([500.0, 501.0, 1.0]), 32, 24)
        bag.odometry("/odom", 7 * SECOND, "odom", "base_link", pose, (1, 0, 0, 0, 0, 0.1), np.eye(6) * 0.2)
        bag.pose("/slam/pose", 7 * SECOND, "map", pose)
        bag.fix("/gps/fix", 7 * SECOND, "gps", 55.7, 13.2, float("nan"), 2.0)
    with open_bag(tmp_path / "bag") as bag:
        assert {t.name: t.count for t in bag.topics.values()} == dict.fromkeys(types, 1)
        got = {t: serialization.deserialize_message(cdr, types[t]) for t, _, _, cdr in bag.raw(list(types))}
    image, info, odometry = got["/camera/image"], got["/camera/camera_info"], got["/odom"]
    assert (image.header.stamp.sec, image.header.stamp.nanosec, image.header.frame_id) == (7, 5, "cam")
    assert (image.height, image.width, image.step, image.encoding) == (24, 32, 96, "rgb8")
    assert bytes(image.data) == RGB.tobytes()
    assert (info.k[0], info.p[5], info.width, info.distortion_model) == (500.0, 501.0, 32, "plumb_bob")
    assert (odometry.child_frame_id, odometry.twist.twist.angular.z) == ("base_link", 0.1)
    assert odometry.pose.covariance.reshape(6, 6).tolist() == (np.eye(6) * 0.2).tolist()
    assert got["/slam/pose"].pose.orientation.z == pytest.approx(np.sin(0.25))
    assert (got["/gps/fix"].latitude, got["/gps/fix"].position_covariance[0]) == (55.7, 4.0)
    assert np.isnan(got["/gps/fix"].altitude)


def test_a_bag_that_exists_is_not_overwritten(drive_bag):
    with pytest.raises(UserError, match="exists already"), BagWriter(drive_bag):
        pass
    with open_bag(drive_bag) as bag:
        assert bag.topics["/camera/image"].count == 5


def test_an_unfinished_bag_is_not_left_behind(tmp_path):
    with pytest.raises(KeyboardInterrupt), BagWriter(tmp_path / "bag") as bag:
        bag.image("/camera/image", 0, RGB, "cam")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write a bag here"), BagWriter(tmp_path / "file" / "bag"):
        pass


@pytest.mark.parametrize("images", [1, 1000])
def test_a_full_disk_is_said_and_leaves_nothing_behind(tmp_path, images):
    # A limit on the size of files stands for the end of the disk: it stops the first chunk at close, or a later write.
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(UserError, match=r"cannot write any more: .*free some space"):
            record(tmp_path / "bag", images=images)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert not (tmp_path / "bag").exists()


# Reading


def test_a_bag_says_its_topics_and_its_time(drive_bag, capsys):
    with open_bag(drive_bag) as bag:
        assert bag.topics["/slam/pose"].msgtype == "geometry_msgs/msg/PoseStamped"
        assert (bag.start_ns, bag.end_ns) == (0, 4 * SECOND + SECOND // 2)
        times = [time_ns for _, time_ns, _ in bag.messages(["/camera/image", "/slam/pose"])]
    assert times == [i * SECOND // 2 for i in range(10)]
    assert bag_info.main(argparse.Namespace(bag=drive_bag)) == 0
    shown = capsys.readouterr().out
    assert "12 messages over 4.5 s" in shown
    assert "sensor_msgs/msg/Image" in shown


def test_a_single_mcap_file_is_a_bag_too(drive_bag):
    with open_bag(drive_bag / "drive.mcap") as bag:
        assert len(list(bag.messages(["/camera/image"]))) == 5


def test_an_empty_bag_has_no_topics_and_no_time(tmp_path):
    with BagWriter(tmp_path / "bag"):
        pass
    with open_bag(tmp_path / "bag") as bag:
        assert (bag.topics, bag.start_ns, bag.end_ns) == ({}, 0, 0)
        with pytest.raises(UserError, match="no topics at all"):
            choose_topic(bag, None, "image")


def read_all(path):
    with open_bag(path) as bag:
        return sum(1 for _ in bag.messages(list(bag.topics)))


def one_line(caught):
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_truncated_bag_is_named_in_one_line(drive_bag, share):
    part = drive_bag / "drive.mcap"
    whole = part.read_bytes()
    part.write_bytes(whole[: 8 + int(share * (len(whole) - 8))])
    for path in (drive_bag, part):
        with pytest.raises(UserError, match=r"cut off or damaged.*mcap recover") as caught:
            read_all(path)
        assert str(path) in one_line(caught)


def test_a_damaged_bag_is_named_whatever_byte_was_changed(drive_bag):
    part = drive_bag / "drive.mcap"
    whole = part.read_bytes()
    for at in np.random.default_rng(0).integers(8, len(whole), 60):
        changed = bytearray(whole)
        changed[at] ^= 0xFF
        part.write_bytes(bytes(changed))
        try:
            read_all(part)
        except UserError as error:
            assert "\n" not in str(error)  # a changed pixel is no error, but nothing else may be raised


def test_a_truncated_sqlite_bag_is_named_in_one_line(tmp_path):
    file = tmp_path / "bag.db3"
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE topics (id INTEGER)")
    database.close()
    with pytest.raises(UserError, match="cut off or damaged") as caught:
        read_all(file)
    one_line(caught)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("drive.mp4", b"film", "not a bag"),
        ("drive.mcap", b"", "it is empty"),
        ("drive.mcap", b"PK\x03\x04 a zip", "not a .mcap bag"),
        ("drive.db3", b"something else", "not a .db3 bag"),
        ("drive.bag", b"something else", "not a .bag bag"),
    ],
)
def test_a_foreign_file_is_refused_by_name(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=says) as caught:
        read_all(tmp_path / name)
    assert name in one_line(caught)


def test_a_foreign_directory_a_missing_path_and_a_broken_metadata_file_are_refused(tmp_path, drive_bag):
    with pytest.raises(UserError, match="no such bag"):
        read_all(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"without metadata\.yaml is not a bag"):
        read_all(tmp_path)
    (drive_bag / "metadata.yaml").write_text("just a line")
    with pytest.raises(UserError, match="damaged") as caught:
        read_all(drive_bag)
    one_line(caught)
    (drive_bag / "metadata.yaml").unlink()
    with pytest.raises(UserError, match=r"ros2 bag reindex.*or give .*drive\.mcap itself"):
        read_all(drive_bag)


def test_a_missing_topic_is_answered_with_those_that_are_there(drive_bag):
    with open_bag(drive_bag) as bag, pytest.raises(UserError, match="no topic /front; the bag has") as caught:
        list(bag.messages(["/front"]))
    assert "/camera/image (sensor_msgs/msg/Image, 5)" in one_line(caught)


def test_definitions_inside_a_bag_are_not_used(tmp_path):
    with rosbag2.Writer(tmp_path / "bag", version=9, storage_plugin=rosbag2.StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/own", "own_msgs/msg/Thing", msgdef="int32 value\n", rihs01="RIHS01_0")
        writer.write(connection, 0, b"\x00\x01\x00\x00\x05\x00\x00\x00")
    with open_bag(tmp_path / "bag") as bag, pytest.raises(UserError, match="not in the common interfaces of ROS"):
        list(bag.messages(["/own"]))
    assert "own_msgs/msg/Thing" not in TYPESTORE.fielddefs


# Choosing topics


def test_topics_are_found_where_the_bag_leaves_no_choice(tmp_path):
    with open_bag(record(tmp_path / "bag", poses=("/slam/pose", "/ground_truth/pose", "/goal_pose"))) as bag:
        assert choose_topic(bag, None, "image") == "/camera/image"
        assert choose_topic(bag, None, "pose") == "/slam/pose"
        assert choose_topic(bag, "ground_truth/pose", "pose") == "/ground_truth/pose"
        with pytest.raises(UserError, match="is geometry_msgs/msg/PoseStamped, no image"):
            choose_topic(bag, "/slam/pose", "image")


def test_the_truth_is_never_chosen_by_itself(tmp_path):
    record(tmp_path / "bag", poses=("/ground_truth/pose",))
    with open_bag(tmp_path / "bag") as bag, pytest.raises(UserError, match="no pose topic was found; name one with"):
        choose_topic(bag, None, "pose")


def test_equal_choices_are_listed(tmp_path):
    record(tmp_path / "bag", poses=("/slam/pose", "/lidar/pose"))
    several = r"several pose topics; .*--pose-topic: /lidar/pose .*, /slam/pose"
    with open_bag(tmp_path / "bag") as bag, pytest.raises(UserError, match=several):
        choose_topic(bag, None, "pose")


def test_a_pose_in_the_map_is_preferred_to_odometry_and_odometry_to_gps(tmp_path):
    def best(*kinds):
        path = tmp_path / "_".join(kinds)
        with BagWriter(path) as bag:
            if "pose" in kinds:
                bag.pose("/slam/pose", 0, "map", Pose.identity())
            if "odom" in kinds:
                bag.odometry("/odom", 0, "odom", "base_link", Pose.identity())
            bag.fix("/gps/fix", 0, "gps", 55.7, 13.2, 0.0, 1.0)
        with open_bag(path) as bag:
            return choose_topic(bag, None, "pose")

    assert [best("pose", "odom"), best("odom"), best("gps")] == ["/slam/pose", "/odom", "/gps/fix"]
