"""When a robot that was lost is found again: what resets another program has to come once, not with each image."""

from __future__ import annotations

from d2vpr_ros.localize.estimate import Estimate, RejectReason, State

_LOST_NS = 5_000_000_000  # a shorter silence is a person before the camera: the odometry of whoever listens bridges it
_JUMP_BACK_NS = 1_000_000_000


class Recovery:
    """Attributes:
    is_due: the robot was lost, and the answer after that has not been made use of yet. So it begins.
    """

    def __init__(self) -> None:
        self.is_due = True
        self._newest_ns: int | None = None
        self._accepted_ns: int | None = None

    def forget(self) -> None:
        """What was known does not count any more."""
        self.is_due = True

    def see(self, estimate: Estimate) -> None:
        """Take an answer into account, accepted or not.

        Lost is whoever gave no accepted answer for 5 s and now has no idea, whose time began anew, or who was carried.
        """
        now_ns = estimate.stamp_ns
        if self._newest_ns is not None and now_ns < self._newest_ns - _JUMP_BACK_NS:
            self.is_due, self._accepted_ns = True, None
        self._newest_ns = now_ns
        self.is_due |= estimate.carried
        if estimate.state is State.LOCALIZED:
            self._accepted_ns = now_ns
        elif estimate.state is State.LOST and estimate.reject_reason is not RejectReason.STALE_IMAGE:
            self.is_due |= self._accepted_ns is None or now_ns - self._accepted_ns > _LOST_NS
