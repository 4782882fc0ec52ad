"""Open a recorded drive: rosbag2 (mcap, sqlite3; a directory or one file) and rosbag1, without ROS."""

from __future__ import annotations

import errno
import math
import struct
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
from rosbags import rosbag1, rosbag2
from rosbags.serde import SerdeError

from d2vpr_ros.bags.messages import TYPESTORE
from d2vpr_ros.bags.storage import Reader, profile_of
from d2vpr_ros.bags.unreadable import KINDS, check_logs, explain, foreign, unfinished_rosbag1, without_metadata
from d2vpr_ros.errors import UserError
from d2vpr_ros.fields import NANOSECONDS

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdError
else:
    from backports.zstd import ZstdError  # comes with rosbags

# How a bag file of each kind begins.
MAGIC = {".mcap": b"\x89MCAP0\r\n", ".db3": b"SQLite format 3\x00", ".bag": b"#ROSBAG V"}

# What the parsers raise on bytes that were cut off or changed.
DAMAGE = (
    rosbag1.ReaderError,
    rosbag2.ReaderError,
    SerdeError,
    ZstdError,
    apsw.Error,  # rosbags reads .db3 with it
    struct.error,
    OSError,
    EOFError,
    MemoryError,  # a length that was overwritten
    RuntimeError,  # lz4's
    ValueError,
    TypeError,
    LookupError,
    AssertionError,
    OverflowError,
)


Part = tuple[float, float]
"""What is read of a recording: from and up to so many seconds after its first message."""
WHOLE: Part = (0.0, math.inf)

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# Types of old ROS 1 bags that are today's, byte for byte, under another name.
RENAMED = {"tf/msg/tfMessage": "tf2_msgs/msg/TFMessage"}


@dataclass(frozen=True)
class TopicInfo:
    """One topic of a bag: its name, its type such as ``sensor_msgs/msg/Image``, how many messages it has."""

    name: str
    msgtype: str
    count: int


class Bag:
    """An open bag, made by `open_bag`.

    Attributes:
        path: where it lies.
        topics: by name.
        foreign: channels of other middleware beside ROS 2's, which are left out, with their encodings.
        start_ns, end_ns: times of the first and last recorded message, nanoseconds; 0 in an empty bag. Where a part
            is asked for, its ends instead.
        start_s: seconds of the recording before that part.
    """

    def __init__(self, path: Path, reader: Any, part: Part = WHOLE) -> None:
        self.path = path
        self._reader = reader
        self._is_ros1 = isinstance(reader, rosbag1.Reader)
        own = [connection for connection in reader.connections if self._is_ros1 or encoding_of(connection) == "cdr"]
        self.foreign = {c.topic: encoding_of(c) for c in reader.connections if c not in own}
        self._connections = own
        self.topics = {
            name: TopicInfo(name, type_of(found[0]), sum(connection.msgcount for connection in found))
            for name in reader.topics
            if (found := [connection for connection in own if connection.topic == name])
        }
        empty = reader.message_count == 0
        self.start_ns = 0 if empty else int(reader.start_time)
        self.end_ns = 0 if empty else int(reader.end_time) - 1  # rosbags gives the nanosecond after the last
        self.start_s, until_s = part
        if math.isfinite(until_s):
            self.end_ns = min(self.end_ns, self.start_ns + round(until_s * NANOSECONDS) - 1)
        self.start_ns += round(self.start_s * NANOSECONDS)
        if not empty and self.start_ns > self.end_ns:
            length_s = (int(reader.end_time) - int(reader.start_time)) / NANOSECONDS
            raise UserError(
                f"{path}: the chosen part is empty: the recording is {length_s:.2f} s long, the part is from "
                f"{self.start_s:g} s to {until_s:g} s"
            )

    def raw(self, topics: Sequence[str], *, latched: bool = False) -> Iterator[tuple[str, int, str, bytes]]:
        """(topic, time of recording in ns, type, CDR bytes) of every message on the topics, in order of time.

        Args:
            latched: what was published once holds for all of the recording, so messages before the part count, too.

        Raises:
            UserError: a topic is not in the bag or has a type that is not one of ROS's own, or the bag is damaged.
        """
        for topic in topics:
            msgtype = require_topic(self, topic).msgtype
            if msgtype not in TYPESTORE.fielddefs:
                raise UserError(
                    f"{self.path}: {topic} has the type {msgtype}, which is not in the common interfaces of ROS; "
                    "choose another topic"
                )
        connections = [c for c in self._connections if c.topic in topics]
        if not connections:  # rosbags would take it for all of them
            return
        try:
            start_ns = None if latched else self.start_ns
            for connection, time_ns, data in self._reader.messages(connections, start_ns, self.end_ns + 1):
                msgtype = type_of(connection)
                cdr = TYPESTORE.ros1_to_cdr(data, msgtype) if self._is_ros1 else data
                yield connection.topic, int(time_ns), msgtype, bytes(cdr)
        except DAMAGE as error:
            raise explain(self.path, error) from error

    def messages(self, topics: Sequence[str], *, latched: bool = False) -> Iterator[tuple[str, int, Any]]:
        """(topic, time of recording in ns, message) of every message on the topics, in order of time.

        Args:
            latched: as for `raw`.

        Raises:
            UserError: as `raw`.
        """
        for topic, time_ns, msgtype, data in self.raw(topics, latched=latched):
            try:
                message = TYPESTORE.deserialize_cdr(data, msgtype)
            except DAMAGE as error:
                raise explain(self.path, error) from error
            yield topic, time_ns, message


def encoding_of(connection: Any) -> str:
    """How a rosbag2 connection's messages are written: cdr is ROS 2's."""
    return str(connection.ext.serialization_format)


def type_of(connection: Any) -> str:
    """The type of a connection's messages, by today's name."""
    return RENAMED.get(connection.msgtype, connection.msgtype)


@contextmanager
def open_bag(path: str | Path, part: Part = WHOLE) -> Iterator[Bag]:
    """A recorded drive, for reading.

    Message definitions inside the bag are not registered: types are those of ROS 2 Jazzy.

    Args:
        path: the directory of a rosbag2, a single .mcap or .db3 file, or a rosbag1 .bag.
        part: see `Part`.

    Raises:
        UserError: there is nothing, no bag, or a damaged one.
    """
    path = Path(path)
    check_is_bag(path)
    try:
        reader = rosbag1.Reader(path) if path.suffix == ".bag" else Reader(path)
        reader.open()
    except PermissionError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; check its permissions") from error
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:  # a compressed bag is unpacked whole
            raise UserError(
                f"{path}: no space to unpack it in {tempfile.gettempdir()}; free some space or set TMPDIR"
            ) from error
        raise explain(path, error) from error
    try:
        bag = Bag(path, reader, part)
        if bag.foreign and not bag.topics:
            raise foreign(path, list(bag.foreign.items()), profile_of(path) if path.suffix == ".mcap" else "")
        yield bag
    finally:
        reader.close()


def check_is_bag(path: Path) -> None:
    """Refuse what is not a bag by its outside, before a parser sees it.

    Raises:
        UserError: with what was found instead.
    """
    if not path.exists():
        raise UserError(f"{path}: no such bag; expected {KINDS}")
    if path.is_dir() and not (path / "metadata.yaml").exists():
        raise without_metadata(path, list(MAGIC))
    check_logs(path)
    if path.is_dir():
        return
    if path.name.endswith(".bag.active"):
        raise unfinished_rosbag1(path)
    magic = MAGIC.get(path.suffix)
    if path.suffix == ".zstd":
        raise UserError(f"{path}: a compressed part of a bag; give the directory that holds it and its metadata.yaml")
    if magic is None:
        raise UserError(f"{path}: not a bag; expected {KINDS}")
    try:
        with path.open("rb") as file:
            begins = file.read(len(magic))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; check its permissions") from error
    if begins != magic:
        found = f"it begins with {begins!r}" if begins else "it is empty"
        raise UserError(f"{path}: not a {path.suffix} bag ({found}); expected {KINDS}")


def require_topic(bag: Bag, topic: str) -> TopicInfo:
    """What the bag says of a topic.

    Raises:
        UserError: the bag does not have it; lists what it has.
    """
    if topic not in bag.topics:
        raise UserError(f"{bag.path}: no topic {topic}; the bag has {list_topics(bag)}")
    return bag.topics[topic]


def list_topics(bag: Bag) -> str:
    """All topics of a bag with types and counts, in one line."""
    return ", ".join(f"{t.name} ({t.msgtype}, {t.count})" for t in bag.topics.values()) or "no topics at all"
