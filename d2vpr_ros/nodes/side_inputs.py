"""What comes in beside the images; each sharpens the answer, and none has to come or to make sense."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from d2vpr_ros.fields import NANOSECONDS, read_pose, stamp_ns
from d2vpr_ros.geometry import Pose
from d2vpr_ros.localize.motion import MotionBuffer

_REPORTED_S = 5.0  # so that /diagnostics, once a second, misses no passing problem
_FARTHEST_M = 1e7  # beyond, positions differ by rounding alone


class SideInputs:
    """Filled by callbacks, read by the worker.

    Attributes:
        motion: the odometry.
        odometry_frames: the frame it is in, and the frame it moves.
    """

    def __init__(self, say: Callable[[str], object]) -> None:
        """
        Args:
            say: takes one line about input that is left out; may be called often.
        """
        self.motion = MotionBuffer()
        self.odometry_frames = ("", "")
        self._say = say
        self._epoch = 0
        self._problem, self._problem_s = "", float("-inf")

    def take_odometry(self, message: Any, now_s: float) -> None:
        """A nav_msgs/Odometry, and the steady clock's time."""
        try:
            pose = read_pose(message.pose.pose)
            if np.abs(pose.position).max() > _FARTHEST_M:
                raise ValueError(f"not a pose: {pose.numbers[:3]}")
            problem = self.motion.add(stamp_ns(message.header), pose)
        except ValueError as error:
            problem = str(error)
        self.odometry_frames = str(message.header.frame_id).lstrip("/"), str(message.child_frame_id).lstrip("/")
        if problem:
            self._problem, self._problem_s = problem, now_s
            self._say(f"odometry: {problem}")

    def odometry_at(self, stamp: int) -> Pose | None:
        """T_odom_base at an image's stamp; None where it is not known, and once where the odometry began anew.

        The motion since the last image is then not known, which to the belief is an image without odometry.
        """
        epoch, pose = self.motion.epoch, self.motion.at(stamp)
        continues, self._epoch = epoch == self._epoch, epoch
        return pose if continues else None

    def odometry_status(self, image_ns: int | None, now_s: float) -> str:
        """For /diagnostics: ok, none, or what is wrong.

        Args:
            image_ns: the newest image's stamp.
            now_s: as above.
        """
        newest = self.motion.newest
        if now_s - self._problem_s < _REPORTED_S:
            return self._problem
        if newest is None:
            return "none"
        if image_ns is not None and self.motion.at(image_ns) is None:
            return f"stale: the newest is {(image_ns - newest[0]) / NANOSECONDS:.1f} s older than the image"
        return "ok"
