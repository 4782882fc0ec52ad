"""The correction of the odometry that accepted answers give, and how long it holds."""

from __future__ import annotations

import numpy as np
import pytest

from d2vpr_ros.geometry import Pose, distance, turn
from d2vpr_ros.localize import Estimate, RejectReason, State
from d2vpr_ros.localize.map_odom import MapOdom

TRUTH = Pose.planar(12.0, -7.0, 2.5, 0.3)


def accepted(pose: Pose) -> Estimate:
    return Estimate(0, State.LOCALIZED, RejectReason.NONE, (), 0.99, pose=pose, covariance=np.eye(6))


def silent(state: State, reason: RejectReason) -> Estimate:
    return Estimate(0, state, reason, ())


def test_the_transform_brings_the_odometry_to_where_the_robot_is() -> None:
    odometry, map_odom = Pose.planar(3.0, 4.0, -1.0), MapOdom()
    assert map_odom.at(epoch=0, now_s=0.0) is None
    map_odom.see(accepted(TRUTH @ odometry), odometry, 0, 0.0)
    transform = map_odom.at(epoch=0, now_s=1.0)
    assert transform is not None
    assert distance(transform, TRUTH) < 1e-9 and turn(transform, TRUTH) < 1e-9


@pytest.mark.parametrize(
    ("estimate", "holds"),
    [
        (silent(State.CANDIDATE, RejectReason.AMBIGUOUS), True),
        (silent(State.LOST, RejectReason.STALE_IMAGE), True),
        (silent(State.LOST, RejectReason.OFF_MAP), False),
    ],
)
def test_odometry_carries_the_answer_over_doubt_but_not_when_the_robot_is_lost(estimate: Estimate, holds: bool) -> None:
    map_odom = MapOdom()
    map_odom.see(accepted(TRUTH), Pose.identity(), 0, 0.0)
    map_odom.see(estimate, Pose.identity(), 0, 1.0)
    assert (map_odom.at(epoch=0, now_s=2.0) is not None) is holds


def test_it_ends_with_time_with_the_odometry_and_when_the_belief_is_dropped() -> None:
    map_odom = MapOdom()
    map_odom.see(accepted(TRUTH), Pose.identity(), 0, 0.0)
    assert map_odom.at(epoch=0, now_s=4.9) is not None
    assert map_odom.at(epoch=0, now_s=5.1) is None
    assert map_odom.at(epoch=1, now_s=1.0) is None
    map_odom.forget()
    assert map_odom.at(epoch=0, now_s=1.0) is None
