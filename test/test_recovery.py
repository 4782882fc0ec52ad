"""A robot that was lost and is found again: once, however much the answers flicker."""

from __future__ import annotations

from d2vpr_ros.localize import Estimate, RejectReason, State
from d2vpr_ros.localize.recovery import Recovery

SECOND = 1_000_000_000


def see(recovery: Recovery, seconds: float, state: State, reason: RejectReason = RejectReason.NONE) -> bool:
    """Whether a recovery is due at an answer; made use of where it is accepted."""
    recovery.see(Estimate(round(seconds * SECOND), state, reason, ()))
    is_due = recovery.is_due
    recovery.is_due = is_due and state is not State.LOCALIZED
    return is_due


def test_the_first_answer_and_the_first_after_being_lost_are_recoveries() -> None:
    recovery = Recovery()
    see(recovery, 0, State.CANDIDATE, RejectReason.UNCONFIRMED)
    assert see(recovery, 1, State.LOCALIZED)
    assert not see(recovery, 2, State.LOCALIZED)
    for second in range(3, 12):
        see(recovery, second, State.LOST, RejectReason.OFF_MAP)
    assert see(recovery, 12, State.LOCALIZED)
    assert not see(recovery, 13, State.LOCALIZED)


def test_someone_before_the_camera_and_a_slow_network_lose_no_robot() -> None:
    recovery = Recovery()
    see(recovery, 0, State.LOCALIZED)
    see(recovery, 2, State.LOST, RejectReason.NO_MATCH)
    assert not see(recovery, 4, State.LOCALIZED)
    see(recovery, 20, State.LOST, RejectReason.STALE_IMAGE)
    see(recovery, 21, State.CANDIDATE, RejectReason.AMBIGUOUS)
    assert not see(recovery, 22, State.LOCALIZED)


def test_time_that_begins_anew_and_a_request_lose_it() -> None:
    recovery = Recovery()
    see(recovery, 100, State.LOCALIZED)
    assert see(recovery, 5, State.LOCALIZED)
    recovery.forget()
    assert see(recovery, 6, State.LOCALIZED)
