"""The robot's recent odometry, looked up at an image's stamp."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque

from d2vpr_ros.geometry import Pose, interpolate

_MAX_GAP_NS = 500_000_000  # further apart, nothing is known of the motion between
_KEPT = 500  # messages; 10 s at 50 Hz


class MotionBuffer:
    """Poses T_odom_base by stamp, oldest forgotten first."""

    def __init__(self) -> None:
        self._samples: deque[tuple[int, Pose]] = deque(maxlen=_KEPT)

    def add(self, stamp_ns: int, pose: Pose) -> None:
        """Append a sample; one that is not newer than the last starts the buffer anew (the clock jumped)."""
        if self._samples and stamp_ns <= self._samples[-1][0]:
            self._samples.clear()
        self._samples.append((stamp_ns, pose))

    def at(self, stamp_ns: int) -> Pose | None:
        """T_odom_base at the stamp: between two samples, or the nearest end at most 0.5 s away; else None."""
        samples = list(self._samples)
        after = bisect_left(samples, stamp_ns, key=lambda sample: sample[0])
        if 0 < after < len(samples):
            (t0, a), (t1, b) = samples[after - 1], samples[after]
            return interpolate(a, b, (stamp_ns - t0) / (t1 - t0)) if t1 - t0 <= _MAX_GAP_NS else None
        nearest = samples[min(after, len(samples) - 1)] if samples else None
        return nearest[1] if nearest and abs(nearest[0] - stamp_ns) <= _MAX_GAP_NS else None
