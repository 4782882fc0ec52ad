"""The robot's odometry: that of its base, at an image's stamp, what is wrong with it, and where it begins anew.

A camera's or an IMU's odometry turns about other axes: taken for the base's, a robot that drives ahead seems to drive
sideways or down, and answers are wrong at high probability. Odometry that begins anew tells no motion since before.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from d2vpr_ros.fields import NANOSECONDS, one_line, read_pose
from d2vpr_ros.geometry import Pose, distance, interpolate, turn
from d2vpr_ros.mapping import PlaceMap

_MAX_GAP_NS = 500_000_000  # further apart, nothing is known of the motion between
_STEADY_NS = 100_000_000  # over so much of it the motion is known well enough to go on with
_KEPT = 500  # messages; 10 s at 50 Hz
_JUMP_BACK_NS = NANOSECONDS

# A step is no motion if it is longer than these allow. Relative to how the robot moved lately, so that there is nothing
# to set: a robot at walking pace may not gain 10 m/s from one message to the next, a car on a motorway has them.
_SLACK_M, _SLACK_RAD = 0.3, 0.5
_FIRST_MPS, _GAIN_MPS, _TIMES_LATELY = 100.0, 10.0, 2.0
_MOST_RAD_PER_S = 20.0
_LATELY = 50  # messages

# Over a pause nobody saw the robot start again or drive faster: this much more than it did lately, or it began anew.
_PAUSED_TIMES_LATELY, _PAUSED_MPS2 = 1.2, 3.0
# How near to its zero odometry is heard first: the first messages may be missed, as while nodes find each other. And
# how far from its zero it has to have been.
_ZERO_M, _MISSED_S, _AWAY_M = 0.1, 2.0, 1.0


class MotionBuffer:
    """Poses T_odom_base by stamp, oldest forgotten first; filled by one thread and read by another.

    Where the odometry begins anew, what was before it is dropped: a motion across that would be none.

    Attributes:
        epoch: how many times it began anew.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self._lock = threading.Lock()
        self._samples: deque[tuple[int, Pose]] = deque(maxlen=_KEPT)
        self._speeds: deque[float] = deque(maxlen=_LATELY)

    @property
    def newest(self) -> tuple[int, Pose] | None:
        """The last stamp and its pose."""
        with self._lock:
            return self._samples[-1] if self._samples else None

    @property
    def speed_mps(self) -> float:
        """Over the last half second and more of samples; 0 where there are not so many."""
        with self._lock:
            newest_ns, newest = self._samples[-1] if self._samples else (0, None)
            for stamp_ns, pose in reversed(self._samples):
                if newest is not None and newest_ns - stamp_ns >= _MAX_GAP_NS:
                    return distance(pose, newest) * NANOSECONDS / (newest_ns - stamp_ns)
        return 0.0

    def begin_anew(self) -> None:
        """Drop what was before: what comes next does not go on from it."""
        with self._lock:
            self.epoch += 1
            self._samples.clear()
            self._speeds.clear()

    def add(self, stamp_ns: int, pose: Pose) -> str:
        """Append a sample; what is wrong with it in words, empty if nothing is.

        One that is up to 1 s older than the last is left out. A jump further back in time, a step that no robot makes,
        and a start at zero after a pause elsewhere begin anew.
        """
        with self._lock:
            if not self._samples:
                self._samples.append((stamp_ns, pose))
                return ""
            last_ns, last = self._samples[-1]
            if last_ns - _JUMP_BACK_NS <= stamp_ns <= last_ns:
                return "" if stamp_ns == last_ns else "out of order"
            seconds, metres = (stamp_ns - last_ns) / NANOSECONDS, distance(last, pose)
            wrong = self._discontinuity(seconds, metres, last, pose)
            if wrong:
                self.epoch += 1
                self._samples.clear()
                self._speeds.clear()
            else:
                self._speeds.append(metres / seconds)
            self._samples.append((stamp_ns, pose))
            return wrong

    def _discontinuity(self, seconds: float, metres: float, last: Pose, pose: Pose) -> str:
        if seconds < 0:
            return f"went back in time by {-seconds:.1f} s"
        lately = max(self._speeds) if self._speeds else None
        paused = seconds * NANOSECONDS > _MAX_GAP_NS
        fastest = _FIRST_MPS if lately is None else _GAIN_MPS + _TIMES_LATELY * lately
        furthest = _SLACK_M + fastest * seconds
        if paused and lately is not None:
            furthest = _SLACK_M + _PAUSED_TIMES_LATELY * lately * seconds + _PAUSED_MPS2 * seconds**2 / 2
        angle = turn(last, pose)
        if metres > furthest or angle > _SLACK_RAD + _MOST_RAD_PER_S * seconds:
            return f"jumped by {metres:.1f} m and {angle:.1f} rad in {seconds:.2f} s"
        if paused:
            zero, missed_m = Pose.identity(), _ZERO_M + _MISSED_S * (lately or 0.0)
            here, before = distance(pose, zero), distance(last, zero)
            if here < missed_m and before > _AWAY_M and before - here > missed_m:
                return f"started again at its zero after {seconds:.1f} s"
        return ""

    def at(self, stamp_ns: int) -> Pose | None:
        """T_odom_base at the stamp: between two samples, or at most 0.5 s beyond an end; else None.

        After the newest sample the robot goes on as it did: an image is often a few milliseconds ahead of the odometry.
        """
        with self._lock:
            samples = list(self._samples)
        after = bisect_left(samples, stamp_ns, key=lambda sample: sample[0])
        if after < len(samples) and samples[after][0] == stamp_ns:
            return samples[after][1]
        if 0 < after < len(samples):
            (t0, a), (t1, b) = samples[after - 1], samples[after]
            return interpolate(a, b, (stamp_ns - t0) / (t1 - t0)) if t1 - t0 <= _MAX_GAP_NS else None
        if not samples or abs(samples[min(after, len(samples) - 1)][0] - stamp_ns) > _MAX_GAP_NS:
            return None
        if after == 0:
            return samples[0][1]
        newest_ns, newest = samples[-1]
        before = next((sample for sample in reversed(samples) if newest_ns - sample[0] >= _STEADY_NS), None)
        if before is None or newest_ns - before[0] > _MAX_GAP_NS:
            return newest
        share = (stamp_ns - newest_ns) / (newest_ns - before[0])
        motion = before[1].inverse() @ newest
        turned = Rotation.from_rotvec(share * motion.rotation.as_rotvec())
        return newest @ Pose(share * motion.position, turned.as_quat())


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
    """Reads nav_msgs/Odometry of one topic.

    Attributes:
        frames: the frame the messages are in, and the frame they move.
        moved: whether that is another frame than the base, from which they are moved to it.
    """

    def __init__(self, base_frame: str, find: FindOnBase) -> None:
        """
        Args:
            find: asked for a frame that is not the base by its name, until it is known.
        """
        self.frames = ("", "")
        self.moved = False
        self._base_frame, self._find = base_frame.lstrip("/"), find
        self._on_base: Pose | None = None  # T_child_base of the frames
        self._heard_s = float("-inf")

    def read(self, message: Any, now_s: float) -> tuple[Pose, bool]:
        """T_odom_base of a message, and whether it is in other frames than the last, from which nothing goes on then.

        Args:
            now_s: by a steady clock, or that of the recording.

        Raises:
            ValueError: it is no pose, or nobody knows that of the base by it.
        """
        frames = str(message.header.frame_id).lstrip("/"), str(message.child_frame_id).lstrip("/")
        if frames != self.frames and now_s - self._heard_s < _SILENT_S:
            (a, b), (c, d) = ([one_line(name) for name in names] for names in (self.frames, frames))
            raise ValueError(f"two nodes publish it, as {a} -> {b} and as {c} -> {d}: give each its own topic")
        is_other = frames != self.frames
        if is_other:
            self.frames, self._on_base, self.moved = frames, None, False
        self._heard_s = now_s
        pose = read_pose(message.pose.pose)
        if np.abs(pose.position).max() > _FARTHEST_M:
            raise ValueError(f"not a pose: {pose.numbers[:3]}")
        if self._on_base is None:
            self._on_base = self._inverse_mount(frames[1])
        return pose @ self._on_base if self.moved else pose, is_other

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


_STANDS_M, _STANDS_RAD = 0.05, 0.05
_CHANGE = 1.5  # of that between neighbouring places; the camera's noise makes a tenth
_SAMPLE = 300


def neighbour_similarity(place_map: PlaceMap) -> float:
    """The median cosine between places that follow each other; 1 where there are none."""
    steps = place_map.steps[:: max(1, len(place_map.steps) // _SAMPLE)]
    if not len(steps):
        return 1.0
    before, after = place_map.descriptors[steps[:, 0]], place_map.descriptors[steps[:, 1]]
    return float(np.median((before * after).sum(axis=1)))


class StillWatch:
    """Compares each picture with the first one since the odometry last moved.

    Attributes:
        contradicts: the newest pictures show that the robot moved, and its odometry that it stands.
    """

    def __init__(self, alike: float) -> None:
        """
        Args:
            alike: `neighbour_similarity` of the map.
        """
        self.contradicts = False
        self._most = _CHANGE * max(1.0 - alike, 1e-3)
        self._since: tuple[Pose, npt.NDArray[np.float32]] | None = None

    def see(self, descriptor: npt.NDArray[np.float32], odometry: Pose | None) -> None:
        """Take an image into account: its (D,) descriptor of unit length, and T_odom_base at its stamp if known."""
        since = self._since
        if odometry is None:
            self.contradicts, self._since = False, None
        elif since is None or distance(since[0], odometry) > _STANDS_M or turn(since[0], odometry) > _STANDS_RAD:
            self.contradicts, self._since = False, (odometry, descriptor)
        else:
            self.contradicts |= 1.0 - float(since[1] @ descriptor) > self._most
