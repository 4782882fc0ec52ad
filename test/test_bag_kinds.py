"""Bags as people have them: every storage and compression, whole or split, of ROS 2 and ROS 1."""

from __future__ import annotations

import resource

import numpy as np
import pytest
import yaml
from recorded import RGB, SECOND, record
from rosbags import rosbag1, rosbag2

from d2vpr_ros.bags.drive import open_drive
from d2vpr_ros.bags.messages import TYPESTORE
from d2vpr_ros.bags.reader import open_bag
from d2vpr_ros.bags.transforms import read_tf
from d2vpr_ros.errors import UserError


@pytest.fixture
def drive_bag(tmp_path):
    return record(tmp_path / "drive")


def copy_as_rosbag2(source, path, storage, mode, first=0, last=2**63):
    """The messages of a bag recorded from `first` until before `last`, ns, as another kind of rosbag2."""
    writer = rosbag2.Writer(path, version=9, storage_plugin=storage)
    writer.set_compression(mode, rosbag2.CompressionFormat.ZSTD)
    with open_bag(source) as bag, writer:
        connections = {
            t.name: writer.add_connection(t.name, t.msgtype, typestore=TYPESTORE) for t in bag.topics.values()
        }
        for topic, time_ns, _, cdr in bag.raw(list(bag.topics)):
            if first <= time_ns < last:
                writer.write(connections[topic], time_ns, cdr)
    return path


def copy_as_rosbag1(source, path, compression):
    writer = rosbag1.Writer(path)
    if compression is not None:
        writer.set_compression(compression)
    with open_bag(source) as bag, writer:
        connections = {}
        for topic in bag.topics.values():
            # ROS 1 numbers its headers: four bytes more, in front.
            msgdef, md5sum = TYPESTORE.generate_msgdef(topic.msgtype, ros_version=1)
            connections[topic.name] = writer.add_connection(topic.name, topic.msgtype, msgdef=msgdef, md5sum=md5sum)
        for topic, time_ns, msgtype, cdr in bag.raw(list(bag.topics)):
            writer.write(connections[topic], time_ns, TYPESTORE.cdr_to_ros1(cdr, msgtype))
    return path


def split(source, path, storage, mode):
    """A bag in two files, as `ros2 bag record -b` leaves it."""
    halves = [copy_as_rosbag2(source, path.with_name(f"{path.name}_{i}"), storage, mode, *times)
              for i, times in enumerate([(0, 2 * SECOND), (2 * SECOND, 10 * SECOND)])]  # fmt: skip
    path.mkdir()
    both, *_ = abouts = [yaml.safe_load((half / "metadata.yaml").read_text()) for half in halves]
    first, second = (about["rosbag2_bagfile_information"] for about in abouts)
    for half in halves:
        for part in half.iterdir():
            part.rename(path / part.name)
    first["relative_file_paths"] += second["relative_file_paths"]
    first["files"] += second["files"]
    first["message_count"] += second["message_count"]
    end = second["starting_time"]["nanoseconds_since_epoch"] + second["duration"]["nanoseconds"]
    first["duration"]["nanoseconds"] = end - first["starting_time"]["nanoseconds_since_epoch"]
    for topic, more in zip(first["topics_with_message_count"], second["topics_with_message_count"], strict=True):
        topic["message_count"] += more["message_count"]
    (path / "metadata.yaml").write_text(yaml.safe_dump(both))
    return path


MCAP, SQLITE = rosbag2.StoragePlugin.MCAP, rosbag2.StoragePlugin.SQLITE3
NONE, FILE, MESSAGE, CHUNKS = (getattr(rosbag2.CompressionMode, n) for n in ("NONE", "FILE", "MESSAGE", "STORAGE"))


@pytest.mark.parametrize(
    "copy",
    [
        pytest.param(lambda s, p: copy_as_rosbag2(s, p, MCAP, NONE), id="mcap"),
        pytest.param(lambda s, p: copy_as_rosbag2(s, p, MCAP, CHUNKS), id="mcap, zstd chunks"),
        pytest.param(lambda s, p: copy_as_rosbag2(s, p, MCAP, FILE), id="mcap, zstd file"),
        pytest.param(lambda s, p: copy_as_rosbag2(s, p, MCAP, MESSAGE), id="mcap, zstd messages"),
        pytest.param(lambda s, p: copy_as_rosbag2(s, p, SQLITE, NONE), id="sqlite3"),
        pytest.param(lambda s, p: next(copy_as_rosbag2(s, p, SQLITE, NONE).glob("*.db3")), id="a .db3 alone"),
        pytest.param(lambda s, p: copy_as_rosbag2(s, p, SQLITE, FILE), id="sqlite3, zstd file"),
        pytest.param(lambda s, p: copy_as_rosbag2(s, p, SQLITE, MESSAGE), id="sqlite3, zstd messages"),
        pytest.param(lambda s, p: split(s, p, MCAP, NONE), id="mcap, split"),
        pytest.param(lambda s, p: split(s, p, SQLITE, FILE), id="sqlite3, split, zstd files"),
        pytest.param(lambda s, p: copy_as_rosbag1(s, p.with_suffix(".bag"), None), id="rosbag1"),
        pytest.param(
            lambda s, p: copy_as_rosbag1(s, p.with_suffix(".bag"), rosbag1.Writer.CompressionFormat.LZ4),
            id="rosbag1, lz4",
        ),
    ],
)
def test_a_drive_is_read_the_same_from_every_kind_of_bag(drive_bag, tmp_path, copy):
    with open_bag(copy(drive_bag, tmp_path / "copy")) as bag:
        drive = open_drive(bag)
        frames = list(drive.frames())
        counts = {topic.name: topic.count for topic in bag.topics.values()}
        times = (bag.start_ns, bag.end_ns)
    assert counts == {"/tf_static": 2, "/slam/pose": 5, "/camera/image": 5}
    assert times == (0, 4 * SECOND + SECOND // 2)
    assert [posed.frame.stamp_ns for posed in frames] == [i * SECOND + SECOND // 2 for i in range(4)]
    assert [posed.pose.position[0] for posed in frames] == pytest.approx([0.8, 1.8, 2.8, 3.8])
    assert all(np.array_equal(posed.frame.rgb, RGB) for posed in frames)


def test_tf_of_an_old_ros_1_bag_is_read_under_its_old_name(tmp_path):
    record(tmp_path / "drive")
    with open_bag(tmp_path / "drive") as bag:
        _, _, msgtype, cdr = next(bag.raw(["/tf_static"]))
    msgdef, _ = TYPESTORE.generate_msgdef(msgtype, ros_version=1)
    with rosbag1.Writer(tmp_path / "old.bag") as writer:
        old = writer.add_connection("/tf", "tf/msg/tfMessage", msgdef=msgdef, md5sum="94810edda583a504dfda3829e70d7eec")
        writer.write(old, 0, TYPESTORE.cdr_to_ros1(cdr, msgtype))
    with open_bag(tmp_path / "old.bag") as bag:
        assert bag.topics["/tf"].msgtype == "tf2_msgs/msg/TFMessage"
        assert read_tf(bag, "/tf", "/camera/image").frames == ["base_link", "camera_link"]


def test_a_compressed_part_alone_is_sent_back_for_its_folder(drive_bag, tmp_path):
    part = next(copy_as_rosbag2(drive_bag, tmp_path / "copy", MCAP, FILE).glob("*.zstd"))
    with (
        pytest.raises(UserError, match=r"copy\.mcap\.zstd: a compressed part of a bag; give the directory"),
        open_bag(part),
    ):
        pass


def test_a_compressed_bag_that_is_cut_off_or_finds_no_room_is_said(drive_bag, tmp_path):
    folder = copy_as_rosbag2(drive_bag, tmp_path / "copy", SQLITE, FILE)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with (
            pytest.raises(UserError, match=r"no space to unpack it in .*; free some space or set TMPDIR"),
            open_bag(folder),
        ):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    part = next(folder.glob("*.zstd"))
    part.write_bytes(part.read_bytes()[:200])
    with pytest.raises(UserError, match="cut off or damaged") as caught, open_bag(folder):
        pass
    assert "\n" not in str(caught.value)
