"""The robot's recent odometry, looked up at an image's stamp, and what is wrong with it."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import deque

from d2vpr_ros.fields import NANOSECONDS
from d2vpr_ros.geometry import Pose, distance, interpolate, turn

_MAX_GAP_NS = 500_000_000  # further apart, nothing is known of the motion between
_KEPT = 500  # messages; 10 s at 50 Hz
_JUMP_BACK_NS = NANOSECONDS

# A step is no motion if it is longer than these allow. Relative to how the robot moved lately, so that there is nothing
# to set: a robot at walking pace may not gain 10 m/s from one message to the next, a car on a motorway has them.
_SLACK_M, _SLACK_RAD = 0.3, 0.5
_FIRST_MPS, _GAIN_MPS, _TIMES_LATELY = 100.0, 10.0, 2.0
_MOST_RAD_PER_S = 20.0
_LATELY = 50  # messages

_ZERO_M, _AWAY_M = 0.1, 1.0  # how near to its zero odometry starts, and how far it has to have been


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
        fastest = _GAIN_MPS + _TIMES_LATELY * max(self._speeds) if self._speeds else _FIRST_MPS
        angle = turn(last, pose)
        if metres > _SLACK_M + fastest * seconds or angle > _SLACK_RAD + _MOST_RAD_PER_S * seconds:
            return f"jumped by {metres:.1f} m and {angle:.1f} rad in {seconds:.2f} s"
        zero = Pose.identity()
        paused = seconds * NANOSECONDS > _MAX_GAP_NS
        if paused and distance(pose, zero) < _ZERO_M and distance(last, zero) > _AWAY_M:
            return f"started again at its zero after {seconds:.1f} s"
        return ""

    def at(self, stamp_ns: int) -> Pose | None:
        """T_odom_base at the stamp: between two samples, or the nearest end at most 0.5 s away; else None."""
        with self._lock:
            samples = list(self._samples)
        after = bisect_left(samples, stamp_ns, key=lambda sample: sample[0])
        if after < len(samples) and samples[after][0] == stamp_ns:
            return samples[after][1]
        if 0 < after < len(samples):
            (t0, a), (t1, b) = samples[after - 1], samples[after]
            return interpolate(a, b, (stamp_ns - t0) / (t1 - t0)) if t1 - t0 <= _MAX_GAP_NS else None
        nearest = samples[min(after, len(samples) - 1)] if samples else None
        return nearest[1] if nearest and abs(nearest[0] - stamp_ns) <= _MAX_GAP_NS else None
