"""Recordings that are not quite bags: what is whole is read, the rest is called what it is, with a cure that works."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from recorded import SECOND, record
from test_bag_kinds import FILE, MCAP, NONE, SQLITE, copy_as_rosbag2, split

from d2vpr_ros.bags.messages import TYPESTORE, make, make_header, make_pose
from d2vpr_ros.bags.reader import open_bag
from d2vpr_ros.cli.main import main
from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import Pose

POSE = "geometry_msgs/msg/PoseStamped"
CHANNELS = {
    "cdr": ("/slam/pose", POSE, "ros2msg", b"# as text", "cdr"),
    "ros1": ("/slam/pose", "geometry_msgs/PoseStamped", "ros1msg", b"# as text", "ros1"),
    "json": ("/notes", "foxglove.Log", "jsonschema", b"{}", "json"),
    "protobuf": ("/pictures", "foxglove.CompressedImage", "protobuf", b"\x0a\xff\xfe\x80", "protobuf"),
}


def write_mcap(path: Path, profile: str, *kinds: str) -> Path:
    """An mcap file, by its specification: header, and for each kind a channel with three messages."""

    def text(value: str) -> bytes:
        return struct.pack("<I", len(value)) + value.encode()

    def data(value: bytes) -> bytes:
        return struct.pack("<I", len(value)) + value

    def made(operation: int, body: bytes) -> bytes:
        return bytes([operation]) + struct.pack("<Q", len(body)) + body

    pose = make(POSE, header=make_header(SECOND, "map"), pose=make_pose(Pose.planar(7, 0, 0)))
    message = bytes(TYPESTORE.serialize_cdr(pose, POSE))
    magic, described, messages = b"\x89MCAP0\r\n", b"", b""
    for number, kind in enumerate(kinds, start=1):
        topic, name, encoding, schema, message_encoding = CHANNELS[kind]
        described += made(3, struct.pack("<H", number) + text(name) + text(encoding) + data(schema))
        described += made(4, struct.pack("<HH", number, number) + text(topic) + text(message_encoding) + data(b""))
        for second in range(3):
            head = struct.pack("<HIQQ", number, second, second * SECOND, second * SECOND)
            messages += made(5, head + (message if kind == "cdr" else b'{"a": 1}'))
    whole = magic + made(1, text(profile) + text("some tool")) + described + messages + made(15, bytes(4))
    path.write_bytes(whole + made(2, bytes(20)) + magic)
    return path


@pytest.mark.parametrize("profile", ["ros2", "", "x", "a profile of a tool"])
def test_the_ros_2_channels_of_any_mcap_are_read_and_the_others_named(
    tmp_path: Path, profile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_mcap(tmp_path / "mixed.mcap", profile, "json", "cdr", "protobuf")
    with open_bag(path) as bag:
        assert list(bag.topics) == ["/slam/pose"]
        found = [message.pose.position.x for _, _, message in bag.messages(["/slam/pose"])]
    assert found == [7.0] * 3
    assert main(["bag", "info", str(path)]) == 0
    assert "left out, not ROS 2: /notes (json), /pictures (protobuf)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("profile", "kind", "said"),
    [
        ("ros1", "ros1", r"an mcap file of ROS 1, not ROS 2: /slam/pose \(ros1\); give the \.bag"),
        ("", "protobuf", r"a whole mcap file, but no channel of it is ROS 2's \(cdr\): /pictures \(protobuf\)"),
    ],
)
def test_an_mcap_of_something_else_is_called_what_it_is(tmp_path: Path, profile: str, kind: str, said: str) -> None:
    refused(write_mcap(tmp_path / "m.mcap", profile, kind), said)


def refused(path: Path, said: str) -> str:
    with pytest.raises(UserError, match=said) as caught, open_bag(path):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_mcap_whose_recorder_was_killed_is_sent_to_mcap_recover(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "m.mcap", "ros2", "cdr")
    path.write_bytes(path.read_bytes()[:-37])
    refused(path, rf"the recorder did not finish.*`mcap recover {path} -o whole\.mcap`")


@pytest.mark.parametrize("as_folder", [True, False])
def test_messages_in_the_log_of_a_killed_recorder_are_not_left_behind(tmp_path: Path, as_folder: bool) -> None:
    """As the sqlite3 plugin leaves it: committed to the log, and killed before it was folded in. The cure works."""
    folder = copy_as_rosbag2(record(tmp_path / "drive"), tmp_path / "bag", SQLITE, NONE)
    (file,) = folder.glob("*.db3")
    killed = os.fork()
    if killed == 0:
        connection: Any = sqlite3.connect(file, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(
            "INSERT INTO messages(topic_id, timestamp, data) SELECT topic_id, timestamp, data FROM messages"
        )
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(killed, 0)
    said = refused(folder if as_folder else file, r"was killed or still runs: 0\.\d MB of messages are only in")
    cure = said.split("add them to the file first: ")[1]
    subprocess.run(cure, shell=True, check=True)
    with open_bag(file) as bag:
        assert sum(topic.count for topic in bag.topics.values()) == 2 * (2 + 5 + 5)


def test_an_unfinished_bag_of_ros_1_is_sent_to_reindex(tmp_path: Path) -> None:
    active = tmp_path / "drive.bag.active"
    active.write_bytes(b"#ROSBAG V2.0\n")
    for path in (active, tmp_path):
        refused(path, rf"`rosbag reindex {active}`, then `mv {active} {tmp_path / 'drive.bag'}`")


def test_renamed_parts_are_named_with_how_to_name_them_back(tmp_path: Path) -> None:
    folder = split(record(tmp_path / "drive"), tmp_path / "bag", MCAP, NONE)
    parts = sorted(folder.glob("*.mcap"))
    for number, part in enumerate(parts):
        part.rename(folder / f"monday_{number}.mcap")
    said = refused(folder, "metadata.yaml names .* is there instead")
    subprocess.run(said.split("`")[1], shell=True, check=True)
    with open_bag(folder) as bag:
        assert bag.topics
    parts[0].unlink()
    refused(folder, f"metadata.yaml names {parts[0].name}, which is missing")


def test_compressed_parts_without_metadata_are_unpacked_by_hand(tmp_path: Path) -> None:
    folder = copy_as_rosbag2(record(tmp_path / "drive"), tmp_path / "bag", MCAP, FILE)
    (folder / "metadata.yaml").unlink()
    (packed,) = folder.glob("*.zstd")
    said = refused(folder, rf"unpack them with `zstd -d {packed}`, then give {packed.with_suffix('')} itself")
    assert "is not a bag" not in said


def test_a_bag_with_a_compression_or_storage_that_is_not_read_is_not_called_damaged(tmp_path: Path) -> None:
    folder = record(tmp_path / "drive")
    metadata = (folder / "metadata.yaml").read_text()
    for before, after, said in (
        ("storage_identifier: mcap", "storage_identifier: leveldb", "storage plugin 'leveldb' not supported"),
        ("version: 9", "version: 99", "Rosbag2 version 99 not supported.*update d2vpr_ros"),
        ("serialization_format: cdr", "serialization_format: json", r"some of its topics are json, not ROS 2's cdr"),
    ):
        assert before in metadata
        (folder / "metadata.yaml").write_text(metadata.replace(before, after))
        assert "damaged" not in refused(folder, said)
    shutil.rmtree(folder)
