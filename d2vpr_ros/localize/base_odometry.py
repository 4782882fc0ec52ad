"""Odometry as the motion of the robot's base, whichever frame on the robot it is of.

A camera's or an IMU's odometry turns about other axes: taken for the base's, a robot that drives ahead seems to drive
sideways or down, and answers are wrong at high probability.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from d2vpr_ros.fields import one_line, read_pose, stamp_ns
from d2vpr_ros.geometry import Pose
from d2vpr_ros.localize.motion import MotionBuffer

FindOnBase = Callable[[str], "Pose | None"]
"""T_base_frame by the name of a frame on the robot; None as long as it is not known."""

_BASES = ("base_link", "base_footprint")  # REP-120: the same point and heading, one on the ground
_FARTHEST_M = 1e7  # beyond, positions differ by rounding alone
_SILENT_S = 5.0  # after which another publisher may have taken over


def is_base(frame: str, base_frame: str) -> bool:
    """Whether a frame is the base by its name: without the namespace, and base_footprint for base_link."""
    name, base = frame.split("/")[-1], base_frame.split("/")[-1]
    return frame == "" or name == base or {name, base} == set(_BASES)


class BaseOdometry:
    """Takes nav_msgs/Odometry of one topic.

    Attributes:
        motion: T_odom_base by stamp.
        frames: the frame the messages are in, and the frame they move.
        moved: whether that is another frame than the base, from which they are moved to it.
    """

    def __init__(self, base_frame: str, find: FindOnBase) -> None:
        """
        Args:
            find: asked for a frame that is not the base by its name, until it is known.
        """
        self.motion = MotionBuffer()
        self.frames = ("", "")
        self.moved = False
        self._base_frame, self._find = base_frame.lstrip("/"), find
        self._on_base: Pose | None = None  # T_child_base of the frames
        self._heard_s = float("-inf")

    def take(self, message: Any, now_s: float) -> str:
        """Take a message into account.

        Args:
            now_s: by a steady clock, or that of the recording.

        Returns:
            What is wrong with it, in words; empty if nothing is. It is left out then, unless time or place jumped.
        """
        try:
            pose = self._base_pose(message, now_s)
        except ValueError as error:
            return str(error)
        return self.motion.add(stamp_ns(message.header), pose)

    def _base_pose(self, message: Any, now_s: float) -> Pose:
        """T_odom_base.

        Raises:
            ValueError: it is no pose, or nobody knows that of the base by it.
        """
        frames = str(message.header.frame_id).lstrip("/"), str(message.child_frame_id).lstrip("/")
        if frames != self.frames and now_s - self._heard_s < _SILENT_S:
            (a, b), (c, d) = ([one_line(name) for name in names] for names in (self.frames, frames))
            raise ValueError(f"two nodes publish it, as {a} -> {b} and as {c} -> {d}: give each its own topic")
        if frames != self.frames:
            if self.motion.newest is not None:
                self.motion.begin_anew()
            self.frames, self._on_base, self.moved = frames, None, False
        self._heard_s = now_s
        pose = read_pose(message.pose.pose)
        if np.abs(pose.position).max() > _FARTHEST_M:
            raise ValueError(f"not a pose: {pose.numbers[:3]}")
        if self._on_base is None:
            self._on_base = self._inverse_mount(frames[1])
        return pose @ self._on_base if self.moved else pose

    def _inverse_mount(self, frame: str) -> Pose:
        found = None if frame in ("", self._base_frame) else self._find(frame)
        if found is not None:
            self.moved = True
            return found.inverse()
        if is_base(frame, self._base_frame):
            return Pose.identity()
        raise ValueError(
            f"left out: it moves {one_line(frame)}, and tf does not say where that is on {self._base_frame}; publish "
            "that transform, or set child_frame_id or base_frame right"
        )
