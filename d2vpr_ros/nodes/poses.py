"""Where live poses come from, asked like those of a recorded drive: the pose before and the pose after an image."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any, Protocol

import numpy as np
from rclpy.time import Time

from d2vpr_ros.bags.covariance import larger, usable
from d2vpr_ros.bags.trajectory import Array, bracket
from d2vpr_ros.errors import UserError
from d2vpr_ros.fields import NANOSECONDS, read_transform
from d2vpr_ros.geometry import Pose, interpolate
from d2vpr_ros.nodes.mount import MountListener

_KEPT = 2000  # poses; 20 s at 100 Hz
JUMP_NS = NANOSECONDS  # a stamp so much older than the last one is of another run

Posed = tuple[Pose, "Array | None"]


class LivePoses(Protocol):
    """T_map_body over the last seconds."""

    def is_settled(self, stamp_ns: int) -> bool:
        """Whether no better answer for this time is to be waited for."""

    def at(self, stamp_ns: int, max_gap_s: float) -> Posed | None:
        """The pose at a time and its covariance (`bags.covariance`), where they are known."""


class PoseWindow:
    """The newest poses of a topic."""

    def __init__(self, kept: int = _KEPT) -> None:
        self._kept = kept
        self._stamps: list[int] = []
        self._samples: list[tuple[Pose, Array | None]] = []

    def add(self, stamp_ns: int, pose: Pose, covariance: Any | None = None) -> None:
        """One pose, and its (36,) covariance as the message has it; after a jump back in time all start anew."""
        if self._stamps and stamp_ns < self._stamps[-1] - JUMP_NS:
            self._stamps.clear()
            self._samples.clear()
        at = bisect_left(self._stamps, stamp_ns)
        if at < len(self._stamps) and self._stamps[at] == stamp_ns:
            return
        known = None if covariance is None else usable(np.asarray(covariance, np.float64))
        self._stamps.insert(at, stamp_ns)
        self._samples.insert(at, (pose, known))
        del self._stamps[: -self._kept], self._samples[: -self._kept]

    @property
    def newest_ns(self) -> int | None:
        """The newest stamp; None before the first pose."""
        return self._stamps[-1] if self._stamps else None

    def is_settled(self, stamp_ns: int) -> bool:
        return bool(self._stamps) and self._stamps[-1] >= stamp_ns

    def at(self, stamp_ns: int, max_gap_s: float) -> Posed | None:
        """As `bags.trajectory.Trajectory.at` and `covariance_at`, to the last bit."""
        found = bracket(np.asarray(self._stamps, np.int64), stamp_ns)
        if found is None or found.gap_ns > max_gap_s * NANOSECONDS:
            return None
        (before, known), (after, known_after) = self._samples[found.before], self._samples[found.after]
        pose = before if found.before == found.after else interpolate(before, after, found.share)
        return pose, larger(known, known_after)


class TfPoses:
    """The tf tree, where tf2 is installed (it is no part of the ROS 2 that PyPI carries); it has no covariances."""

    def __init__(self, listener: MountListener, map_frame: str, body_frame: str) -> None:
        """
        Args:
            listener: to tf.

        Raises:
            UserError: tf2 is not installed.
        """
        if not listener.can_know:
            raise UserError(
                "parameter 'pose_source' is 'tf', but tf2_ros is not installed here; it comes with a ROS 2 "
                "installation (ros-$ROS_DISTRO-tf2-ros); or use poses from a topic: pose or odom"
            )
        self._frames = map_frame, body_frame
        self._buffer = listener.buffer

    def problem(self) -> str:
        """That tf knows nothing of the two frames; empty where it does."""
        if self._buffer.can_transform(*self._frames, Time()):
            return ""
        wanted, body = self._frames
        return (
            f"tf does not connect {wanted} -> {body}; publish it, or set map_frame and base_frame to connected frames"
        )

    def begin_anew(self) -> None:
        """Time jumped back: tf2 would refuse what comes as older than what it has. Fixed transforms stay."""
        self._buffer.clear()

    def is_settled(self, stamp_ns: int) -> bool:
        return bool(self._buffer.can_transform(*self._frames, Time(nanoseconds=stamp_ns)))

    def at(self, stamp_ns: int, max_gap_s: float) -> Posed | None:
        """Interpolated by tf2, over gaps of any length."""
        if not self.is_settled(stamp_ns):
            return None
        found = self._buffer.lookup_transform(*self._frames, Time(nanoseconds=stamp_ns))
        return read_transform(found.transform), None
