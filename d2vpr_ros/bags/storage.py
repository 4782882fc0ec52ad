"""mcap files as they are found, for the reader of rosbags, which takes none but those that ROS 2 alone wrote.

Tools that merge or add to recordings leave the profile empty, and put channels of other middleware (json, protobuf)
beside those of ROS 2. Such a file is whole, and its ROS 2 channels can be read.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any, ClassVar

from rosbags import rosbag2
from rosbags.rosbag2 import reader as rosbag2_reader
from rosbags.rosbag2 import storage_mcap

_MAGIC = 8  # bytes
_PROFILE = b"ros2"
_KNOWN = ("ros2msg", "ros2idl", "omgidl", "")


def _read_string(file: Any) -> str:
    return bytes(storage_mcap.read_bytes(file)).decode(errors="replace")


# Schemas of protobuf are no text, and rosbags reads every schema as one. Pinned with its version.
storage_mcap.read_string = _read_string


class _Schemas(dict[int, Any]):
    """Those whose encoding rosbags does not know are of channels that are left out: they say nothing."""

    def __setitem__(self, key: int, schema: Any) -> None:
        super().__setitem__(key, schema if schema.encoding in _KNOWN else schema._replace(encoding="", data=""))


class _AsRos2(io.BufferedReader):
    """An mcap file, with its header's profile read as that of ROS 2; every byte stays at its place."""

    def __init__(self, path: Path, head: bytes) -> None:
        super().__init__(io.FileIO(path))
        self._head = head

    def read(self, size: int | None = -1, /) -> bytes:
        at = self.tell()
        data = super().read(size)
        return self._head[at : at + len(data)] + data[max(0, len(self._head) - at) :] if at < len(self._head) else data


class Mcap(storage_mcap.McapReader):
    """Of a file with any profile and any channels."""

    def __init__(self, path: Any) -> None:
        super().__init__(_Openable(Path(path)))
        self.schemas = _Schemas()


class _Openable:
    """What rosbags asks of a path."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    def open(self, mode: str) -> Any:
        head = _head_as_ros2(self._path)
        return self._path.open(mode) if head is None else _AsRos2(self._path, head)


def profile_of(path: Path) -> str:
    """What the header of an mcap file says that it is of: ros2, ros1, or nothing."""
    with path.open("rb") as file:
        start = file.read(_MAGIC + 9 + 4)
        if len(start) < _MAGIC + 9 + 4:
            return ""
        (length,) = struct.unpack("<I", start[-4:])
        return file.read(min(length, 100)).decode(errors="replace")


def _head_as_ros2(path: Path) -> bytes | None:
    """The file's beginning, up to the end of its header, with the profile of ROS 2; None if it has that, or no room.

    mcap, "Header (op=0x01)": the record's length, then profile and library, each with its length before it.
    """
    with path.open("rb") as file:
        start = file.read(_MAGIC + 9)
        if len(start) < _MAGIC + 9 or start[_MAGIC] != 1:
            return None
        (length,) = struct.unpack("<Q", start[-8:])
        header = file.read(length) if length < 1 << 20 else b""
    room = length - 8 - len(_PROFILE)
    if len(header) < length or room < 0 or header[4 : 4 + len(_PROFILE)] == _PROFILE:
        return None
    return start + struct.pack("<I", len(_PROFILE)) + _PROFILE + struct.pack("<I", room) + b" " * room


class _Directory(rosbag2_reader.DirectoryReader):
    STORAGE_PLUGINS: ClassVar[Any] = {**rosbag2_reader.DirectoryReader.STORAGE_PLUGINS, "mcap": Mcap}


class Reader(rosbag2.Reader):
    """Of a directory or a single file."""

    STORAGE_PLUGINS: ClassVar[Any] = {**rosbag2.Reader.STORAGE_PLUGINS, "dir": _Directory, ".mcap": Mcap}
