"""Which frames of a drive become places."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from d2vpr_ros.geometry import Pose, distance, turn


@dataclass(frozen=True)
class KeyframeRule:
    """A frame becomes a place when, since the last place, its camera has moved or turned this far.

    Attributes:
        spacing_m, turn_deg: how far.
        max_interval_s: or when this much time has passed; None never.
    """

    spacing_m: float = 1.0
    turn_deg: float = 20.0
    max_interval_s: float | None = None


class KeyframeSelector:
    """Picks one camera's keyframes as a drive goes by.

    Asking and taking are two steps: a frame that turns out useless is not taken, and the next one has its chance.
    """

    def __init__(self, rule: KeyframeRule) -> None:
        self._rule = rule
        self._last: tuple[Pose, int] | None = None

    def wants(self, pose: Pose, stamp_ns: int) -> bool:
        """Whether a frame with T_map_cameraOptical `pose` is due."""
        if self._last is None:
            return True
        last, last_ns = self._last
        interval_s = self._rule.max_interval_s
        return (
            distance(last, pose) >= self._rule.spacing_m
            or turn(last, pose) >= np.radians(self._rule.turn_deg)
            # By its amount: after a clock that was set back, time goes on.
            or (interval_s is not None and abs(stamp_ns - last_ns) >= interval_s * 1e9)
        )

    def take(self, pose: Pose, stamp_ns: int) -> None:
        """The frame became a place, or one that is not stored because it repeats the last."""
        self._last = pose, stamp_ns
