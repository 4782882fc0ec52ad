"""Plays a recorded drive in real time, restamped to now, so that a live node cannot tell it from a robot."""

from __future__ import annotations

import importlib
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rclpy.node import Node

from d2vpr_ros.bags.reader import Bag
from d2vpr_ros.errors import UserError

Message = tuple[str, int, str, bytes]  # topic, time of recording, type, CDR

_STAMP = struct.Struct("<iI")
_STAMP_AT = 4  # behind the CDR encapsulation: every type played begins with its header, and a header with its stamp
_LITTLE_ENDIAN_CDR = b"\x00\x01"
_FORBIDDEN = "/ground_truth/"


class BagPlayer(Node):
    """Publishes the topics of a bag; `start` returns at once, `done` is set at the end."""

    def __init__(self, bag: Bag, topics: Sequence[str], keep: Callable[[str, int], bool] = lambda *_: True) -> None:
        """
        Args:
            topics: names in the bag, published under the same names.
            keep: asked with (topic, its how manyth message) whether to play it.

        Raises:
            UserError: a topic holds the truth, which a localizer must not see, or has no header.
        """
        forbidden = [topic for topic in topics if topic.startswith(_FORBIDDEN)]
        if forbidden:
            raise UserError(f"{', '.join(forbidden)}: topics under {_FORBIDDEN} are for scoring and are never played")
        super().__init__("d2vpr_bag_player")
        self._outputs = {topic: self.create_publisher(_class(bag.topics[topic].msgtype), topic, 10) for topic in topics}
        self._bag, self._keep = bag, keep
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._play, name="play")
        self.done = threading.Event()
        self.offset_ns = 0
        self.sent_ns: dict[str, list[int]] = {topic: [] for topic in topics}

    def listeners(self, topic: str) -> int:
        """Subscribers that discovery has matched with a topic."""
        return int(self._outputs[topic].get_subscription_count())

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End before the end of the bag; safe to call at any time."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _play(self) -> None:
        try:
            began = time.monotonic_ns()
            first_ns: int | None = None
            for topic, recorded_ns, _, cdr in self._kept():
                if first_ns is None:
                    first_ns = recorded_ns
                    self.offset_ns = time.time_ns() - recorded_ns
                wait_s = (recorded_ns - first_ns - (time.monotonic_ns() - began)) * 1e-9
                if self._stop.wait(max(0.0, wait_s)):
                    return
                stamp_ns, restamped = restamp(cdr, self.offset_ns)
                self._outputs[topic].publish(restamped)
                self.sent_ns[topic].append(stamp_ns)
        finally:
            self.done.set()

    def _kept(self) -> Iterator[Message]:
        counts = dict.fromkeys(self._outputs, 0)
        for message in self._bag.raw(list(self._outputs)):
            number = counts[message[0]]
            counts[message[0]] += 1
            if self._keep(message[0], number):
                yield message


def restamp(cdr: bytes, offset_ns: int) -> tuple[int, bytes]:
    """The original stamp of a serialised message with a header, and the message with that stamp moved by `offset_ns`.

    Raises:
        UserError: the message is not little-endian CDR.
    """
    if cdr[:2] != _LITTLE_ENDIAN_CDR:
        raise UserError("a message in the bag is not little-endian CDR; record it again on a common machine")
    seconds, nanoseconds = _STAMP.unpack_from(cdr, _STAMP_AT)
    stamp_ns = seconds * 1_000_000_000 + nanoseconds
    moved = bytearray(cdr)
    _STAMP.pack_into(moved, _STAMP_AT, *divmod(stamp_ns + offset_ns, 1_000_000_000))
    return stamp_ns, bytes(moved)


def _class(msgtype: str) -> Any:
    package, _, name = msgtype.split("/")
    message = getattr(importlib.import_module(f"{package}.msg"), name)
    if "header" not in message.get_fields_and_field_types():
        raise UserError(f"messages of type {msgtype} have no header to restamp, so they cannot be played")
    return message
