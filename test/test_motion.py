"""Odometry that robots really send: it jumps, repeats, restarts, and the belief must not follow it there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2vpr_ros.geometry import Pose, distance, turn
from d2vpr_ros.localize.odometry import MotionBuffer

SECOND = 1_000_000_000


def drive(motion: MotionBuffer, speed_mps: float, hertz: float = 20.0, seconds: float = 3.0) -> list[str]:
    """Along x from where it is; what was wrong."""
    last_ns, last = motion.newest or (0, Pose.identity())
    steps = np.arange(1, seconds * hertz + 1) / hertz
    return [
        motion.add(last_ns + round(t * SECOND), Pose.planar(float(last.position[0] + speed_mps * t), 0.0, 0.0))
        for t in steps
    ]


@pytest.mark.parametrize("speed_mps", [0.0, 1.0, 8.0, 40.0])
@pytest.mark.parametrize("hertz", [5.0, 20.0, 200.0])
def test_robots_and_cars_may_drive(speed_mps: float, hertz: float) -> None:
    motion = MotionBuffer()
    assert not any(drive(motion, speed_mps, hertz) + drive(motion, 0.5 * speed_mps, hertz))
    assert motion.epoch == 0


def test_a_jump_begins_anew_and_no_motion_goes_across_it() -> None:
    motion = MotionBuffer()
    drive(motion, 1.0)
    assert motion.add(3 * SECOND + SECOND // 20, Pose.planar(9.0, 0.0, 0.0)) == "jumped by 6.0 m and 0.0 rad in 0.05 s"
    assert motion.epoch == 1
    assert motion.at(2 * SECOND) is None
    assert not any(drive(motion, 1.0))


def test_a_turn_on_the_spot_that_nothing_makes_is_a_jump_too() -> None:
    motion = MotionBuffer()
    drive(motion, 0.0)
    assert motion.add(3 * SECOND + SECOND // 20, Pose.planar(0.0, 0.0, 3.0)).startswith("jumped")


def test_a_clock_that_is_set_back_begins_anew_and_a_late_message_is_left_out() -> None:
    motion = MotionBuffer()
    drive(motion, 1.0)
    assert motion.add(5 * SECOND // 2, Pose.identity()) == "out of order"
    assert motion.add(3 * SECOND, Pose.identity()) == ""  # some drivers send each message twice
    assert motion.epoch == 0
    assert motion.add(SECOND, Pose.planar(1.0, 0.0, 0.0)) == "went back in time by 2.0 s"
    assert motion.epoch == 1


def test_a_driver_that_was_started_again_begins_at_its_zero() -> None:
    motion = MotionBuffer()
    drive(motion, 1.0)
    assert motion.add(13 * SECOND, Pose.planar(0.01, 0.0, 0.0)) == "started again at its zero after 10.0 s"
    still = MotionBuffer()
    drive(still, 1.0)
    assert still.add(13 * SECOND, Pose.planar(3.0, 0.0, 0.0)) == ""  # it stood: the same odometry goes on


def test_slow_odometry_is_known_at_its_own_stamps_only() -> None:
    motion = MotionBuffer()
    drive(motion, 1.0, hertz=1.0)
    pose = motion.at(2 * SECOND)
    assert pose is not None and pose.position[0] == 2.0
    assert motion.at(SECOND + SECOND // 2) is None


def test_an_image_ahead_of_the_odometry_is_where_the_robot_gets_to_if_it_goes_on() -> None:
    motion = MotionBuffer()
    for number in range(20):  # a circle of 5 m, 5 m/s, 20 ms a message
        motion.add(number * SECOND // 50, on_circle(number / 50))
    pose = motion.at(19 * SECOND // 50 + SECOND // 10)
    assert pose is not None and distance(pose, on_circle(19 / 50 + 0.1)) < 0.03
    assert turn(pose, on_circle(19 / 50 + 0.1)) < 0.01
    assert motion.at(19 * SECOND // 50 + SECOND) is None, "half a second ahead nothing is known"


def on_circle(seconds: float) -> Pose:
    return Pose.planar(5.0 * float(np.sin(seconds)), 5.0 - 5.0 * float(np.cos(seconds)), seconds)


finite = st.floats(-1e7, 1e7)
samples = st.lists(st.tuples(st.integers(-(2**62), 2**62), st.builds(Pose.planar, finite, finite, st.floats(-4, 4))))


@given(samples=samples, asked=st.integers(-(2**62), 2**62))
def test_whatever_comes_motion_is_a_pose_near_what_came_or_nothing(samples: list[tuple[int, Pose]], asked: int) -> None:
    motion = MotionBuffer()
    for stamp_ns, pose in samples:
        motion.add(stamp_ns, pose)
    pose_then = motion.at(asked)
    if pose_then is not None:
        assert np.isfinite(pose_then.numbers).all()
        assert min(distance(pose_then, pose) for _, pose in samples) < 100.0
