"""Header stamps held against the recording: where time begins anew, or two publishers mix, nothing is interpolated."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from d2vpr_ros.errors import UserError
from d2vpr_ros.fields import NANOSECONDS

if TYPE_CHECKING:  # nodes read GPS, too, and have no use for a bag's reader
    from d2vpr_ros.bags.reader import Bag

JUMP_BACK_NS = NANOSECONDS
"""Stamps of one topic that go back further are no messages out of order: time began anew. As live (`StampWatch`)."""


class RunWatch:
    """Follows the stamps of one topic in the order of the recording.

    A simulator that is reset stamps its second run like the first. Sorted by their stamps, poses of both would lie
    between each other.
    """

    def __init__(self, bag: Bag, topic: str) -> None:
        self._bag, self._topic = bag, topic
        self._newest_ns: int | None = None

    def see(self, stamp_ns: int, recorded_ns: int) -> None:
        """Take the next message into account.

        Args:
            recorded_ns: when it was recorded.

        Raises:
            UserError: its stamp is more than 1 s older than an earlier one.
        """
        newest_ns = stamp_ns if self._newest_ns is None else self._newest_ns
        if stamp_ns < newest_ns - JUMP_BACK_NS:
            at_ms = (recorded_ns - self._bag.start_ns + round(self._bag.start_s * NANOSECONDS)) / 1e6
            end_s, start_s = math.floor(at_ms) / 1e3, math.ceil(at_ms) / 1e3
            raise UserError(
                f"{self._bag.path}: time starts again {end_s:.3f} s into the recording: the stamps on {self._topic} go "
                f"back by {(newest_ns - stamp_ns) / NANOSECONDS:.3f} s, as after a reset of a simulator; choose one "
                f"run: --end {end_s:.3f} is the first run, --start {start_s:.3f} the second"
            )
        self._newest_ns = max(newest_ns, stamp_ns)


class FrameWatch:
    """Sees to it that all messages of a topic are in one frame and of one body.

    Attributes:
        frames: the frame's name and the body's, without the leading slash of ROS 1; empty where no message says it.
    """

    def __init__(self, path: Path, topic: str) -> None:
        self._path, self._topic = path, topic
        self.frames = ("", "")

    def see(self, frame_id: str, child_frame_id: str = "") -> None:
        """Take the next message into account; an empty name says nothing.

        Raises:
            UserError: another frame or body than before.
        """
        named = frame_id.lstrip("/"), child_frame_id.lstrip("/")
        for before, now in zip(self.frames, named, strict=True):
            if before and now and before != now:
                raise UserError(
                    f"{self._path}: {self._topic} mixes the frames '{before}' and '{now}': two nodes publish on it; "
                    "choose another topic, or record each on a topic of its own"
                )
        self.frames = (self.frames[0] or named[0], self.frames[1] or named[1])
