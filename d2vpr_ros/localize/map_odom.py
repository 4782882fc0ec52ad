"""The transform from the map to the odometry's frame, as REP-105 has it: what an accepted answer corrects."""

from __future__ import annotations

from dataclasses import dataclass

from d2vpr_ros.geometry import Pose
from d2vpr_ros.localize.types import Estimate, RejectReason, State

_HOLD_S = 5.0  # odometry carries the last answer on; whoever steers by it should hear of it if there is no other


@dataclass(frozen=True, eq=False)
class _Correction:
    transform: Pose
    epoch: int
    made_s: float


class MapOdom:
    """Keeps the last correction; `see` and `at` may be called from two threads."""

    def __init__(self) -> None:
        self._correction: _Correction | None = None

    def forget(self) -> None:
        """What was known does not count any more."""
        self._correction = None

    def see(self, estimate: Estimate, odometry: Pose | None, epoch: int, now_s: float) -> None:
        """Take an answer into account, accepted or not.

        Args:
            odometry: T_odom_base at the image's stamp.
            epoch: of the odometry (`MotionBuffer.epoch`).
            now_s: by a steady clock.
        """
        if estimate.pose is not None and odometry is not None:
            self._correction = _Correction(estimate.pose @ odometry.inverse(), epoch, now_s)
        elif estimate.state is State.LOST and estimate.reject_reason is not RejectReason.STALE_IMAGE:
            self._correction = None

    def at(self, epoch: int, now_s: float) -> Pose | None:
        """T_map_odom while it holds: not once the robot is lost, 5 s after the last answer, or in another epoch."""
        known = self._correction
        holds = known is not None and known.epoch == epoch and now_s - known.made_s <= _HOLD_S
        return known.transform if known is not None and holds else None
