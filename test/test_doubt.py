"""A robot that was carried away is not where its belief says; nothing is said until its images alone are sure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import alike_along_the_way, straight_street, unit_rows, write_places

from d2vpr_ros.describe import Extractor
from d2vpr_ros.geometry import Pose, distance
from d2vpr_ros.localize import Estimate, Localizer, RejectReason, State
from d2vpr_ros.localize.judge import at_odds
from d2vpr_ros.localize.recovery import Recovery
from d2vpr_ros.localize.restart import Restart

SECOND = 1_000_000_000
STREET = 80


@pytest.fixture
def localizer(tmp_path: Path) -> Localizer:
    extractor = Extractor.open("nano")
    descriptors = alike_along_the_way(STREET, seed=4, width=extractor.width)
    return Localizer(
        write_places(tmp_path / "m.d2map", straight_street(STREET), descriptors, extractor.identity), extractor
    )


def see(localizer: Localizer, rows: list[int], first: int, odometry: bool = True, seed: int = 9) -> list[Estimate]:
    """Drive past places of the map, a metre and a second each; the odometry goes on as if nothing had happened."""
    seen = localizer.map.descriptors[rows] + 1.5 * unit_rows(len(rows), seed=seed, width=localizer.extractor.width)
    seen /= np.linalg.norm(seen, axis=1, keepdims=True)
    return [
        localizer.match(image, number * SECOND, Pose.planar(float(number), 0.0, 0.0) if odometry else None)
        for number, image in enumerate(seen, start=first)
    ]


@pytest.mark.parametrize("odometry", [True, False])
def test_a_robot_that_was_carried_is_found_without_a_wrong_answer(localizer: Localizer, odometry: bool) -> None:
    assert see(localizer, list(range(5, 30)), 0, odometry)[-1].state is State.LOCALIZED
    rows = list(range(50, 70))
    after = see(localizer, rows, 25, odometry)
    answered = [(row, one) for row, one in zip(rows, after, strict=True) if one.pose is not None]
    assert answered[0][0] <= 58
    for row, one in answered:
        assert one.pose is not None
        assert distance(one.pose, Pose.planar(float(row), 0.0, 0.0)) < 2.0
    assert after[0].pose is None
    assert after[0].reject_reason is RejectReason.MOTION_CONTRADICTS
    assert sum(one.carried for one in after) == 1


def test_whoever_listens_only_when_the_robot_is_found_is_told_that_it_was_carried(localizer: Localizer) -> None:
    recovery, due = Recovery(), []
    for one in see(localizer, list(range(5, 30)), 0) + see(localizer, list(range(50, 70)), 25):
        recovery.see(one)
        due.append(recovery.is_due and one.state is State.LOCALIZED)
        recovery.is_due = recovery.is_due and one.state is not State.LOCALIZED
    assert sum(due) == 2  # at the start and after


def test_someone_before_the_camera_does_not_move_the_robot(localizer: Localizer) -> None:
    before = see(localizer, list(range(5, 30)), 0)
    backs = unit_rows(3, seed=77, width=localizer.extractor.width)
    hidden = [localizer.match(one, n * SECOND, Pose.planar(float(n), 0.0, 0.0)) for n, one in enumerate(backs, 25)]
    after = see(localizer, list(range(33, 45)), 28)
    assert before[-1].state is after[-1].state is State.LOCALIZED
    assert not any(one.carried for one in [*hidden, *after])
    for row, one in enumerate(after, start=33):
        assert one.pose is None or distance(one.pose, Pose.planar(float(row), 0.0, 0.0)) < 2.0


def test_a_drive_on_known_streets_is_never_doubted(localizer: Localizer) -> None:
    estimates = see(localizer, list(range(5, 70)), 0)
    reasons = {one.reject_reason for one in estimates[8:]}
    assert reasons == {RejectReason.NONE}


def test_whose_odometry_broke_off_while_localized_is_likelier_to_be_elsewhere_on_the_map_than_off_it(
    localizer: Localizer,
) -> None:
    before, restart = see(localizer, list(range(5, 30)), 0)[-1].standing, Restart()
    localizer.reset()
    after = see(localizer, list(range(50, 53)), 0)[-1].standing
    assert before is not None and after is not None
    restart.see(Pose.identity(), before, localized=True)
    assert restart.odds(after) == 1
    restart.see(None, before, localized=True)
    for _ in range(3):
        restart.see(Pose.identity(), after, localized=False)
    assert restart.odds(after) > 1
    assert restart.odds(before) == 1, "what it saw before it was carried says nothing of where it is"
    for _ in range(30):
        restart.see(Pose.identity(), after, localized=False)
    assert restart.odds(after) == 1, "not found for long, it is hardly on the map"


@given(st.floats(0.0, 1.0), st.floats(0.1, 10.0))
def test_odds_shift_a_probability_as_bayes_has_it(probability: float, odds: float) -> None:
    shifted = at_odds(probability, odds)
    assert 0 <= shifted <= 1
    assert at_odds(shifted, 1 / odds) == pytest.approx(probability, abs=1e-9)


def test_where_the_odometry_breaks_off_an_answer_is_held_no_longer(localizer: Localizer) -> None:
    before = see(localizer, list(range(5, 30)), 0)
    assert before[-1].state is State.LOCALIZED
    (unlike,) = unit_rows(1, seed=77, width=localizer.extractor.width)
    broke = localizer.match(unlike, 25 * SECOND, None)
    assert broke.probability < 0.99
    assert broke.pose is None
