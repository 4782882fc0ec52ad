"""A robot that was carried away is not where its belief says; nothing is said until its images alone are sure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from d2vpr_ros.localize.restart import Restart
from places import alike_along_the_way, straight_street, unit_rows, write_places

from d2vpr_ros.describe import Extractor
from d2vpr_ros.geometry import Pose, distance
from d2vpr_ros.localize import Estimate, Localizer, LocalizerOptions, RejectReason, State, restart

SECOND = 1_000_000_000
STREET = 80


@pytest.fixture
def localizer(tmp_path: Path) -> Localizer:
    extractor = Extractor.open("nano")
    descriptors = alike_along_the_way(STREET, seed=4, width=extractor.width)
    return Localizer(
        write_places(tmp_path / "m.d2map", straight_street(STREET), descriptors, extractor.identity), extractor
    )


def see(
    localizer: Localizer, rows: list[int], first: int, odometry: bool = True, seed: int = 9, noise: float = 1.5
) -> list[Estimate]:
    """Drive past places of the map, a metre and a second each; the odometry goes on as if nothing had happened."""
    seen = localizer.map.descriptors[rows] + noise * unit_rows(len(rows), seed=seed, width=localizer.extractor.width)
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


@pytest.fixture
def carried(localizer: Localizer) -> Callable[..., list[Estimate]]:
    """Localized, then the odometry begins anew elsewhere in the street, in worse light."""

    def drive(break_off: bool = True) -> list[Estimate]:
        localizer.reset()
        assert see(localizer, list(range(5, 30)), 0)[-1].state is State.LOCALIZED
        first = see(localizer, [50], 25, odometry=not break_off, noise=2.5)
        return first + see(localizer, list(range(51, 70)), 26, noise=2.5)

    return drive


def found_after(estimates: list[Estimate]) -> int:
    return [one.state for one in estimates].index(State.LOCALIZED)


def test_whose_odometry_broke_off_while_localized_is_found_elsewhere_on_the_map_sooner(
    carried: Callable[..., list[Estimate]], monkeypatch: pytest.MonkeyPatch
) -> None:
    sooner = found_after(carried())
    monkeypatch.setattr(restart, "_STAYS", 1.0)
    assert sooner < found_after(carried())


def test_what_was_seen_before_the_break_gains_nothing_by_it(localizer: Localizer) -> None:
    before, since = see(localizer, list(range(5, 30)), 0)[-1].standing, Restart()
    localizer.reset()
    after = see(localizer, list(range(50, 53)), 0)[-1].standing
    assert before is not None and after is not None
    since.begin(known=True, localized=True)
    assert since.odds(after) == 1
    since.begin(known=False, localized=True)
    for _ in range(4):
        since.count(after)
        since.begin(known=True, localized=False)
    assert since.odds(after) > 1
    assert since.odds(before) == 1
    for _ in range(40):
        since.count(after)
    assert since.odds(after) == 1, "not found for long, it is hardly on the map"


def test_what_was_seen_before_the_break_counts_as_far_as_what_was_seen_since_bears_it_out(localizer: Localizer) -> None:
    assert see(localizer, list(range(5, 30)), 0)[-1].state is State.LOCALIZED
    standing, since = see(localizer, [30], 25)[-1].standing, Restart()
    assert standing is not None
    since.begin(known=True, localized=True)
    assert since.heeded(standing) == standing
    since.begin(known=False, localized=True)
    unlike = replace(standing, similar=1.0)
    assert since.heeded(unlike).fit == 1.0
    since.count(unlike)
    since.begin(known=True, localized=False)
    since.count(standing)
    assert 1.0 < since.heeded(standing).fit < standing.fit


def test_odds_of_being_on_the_map_tell_no_look_alike_street_from_another(localizer: Localizer) -> None:
    standing = see(localizer, list(range(5, 30)), 0)[-1].standing
    assert standing is not None
    torn = replace(standing, mass=0.5, rival=0.5)
    assert localizer.judge.alone(torn, by_odometry=True, odds=100.0) <= 0.5


def test_where_the_odometry_breaks_off_a_robot_is_held_no_longer(localizer: Localizer) -> None:
    answered = []
    for seed in range(40):
        localizer.reset()
        assert see(localizer, list(range(5, 14)), 0)[-1].state is State.LOCALIZED
        (broke,) = see(localizer, [14], 9, odometry=False, seed=seed, noise=3.0)
        if 0.961 < broke.probability < 0.989:  # enough to stay localized, and not to be found
            answered.append(broke.pose is not None)
    assert answered and not any(answered)


def test_odometry_that_begins_anew_in_place_moves_nobody(localizer: Localizer) -> None:
    see(localizer, list(range(5, 30)), 0)
    descriptor = localizer.map.descriptors[29]
    for stamp in (25, 26):  # the same view: nothing of the first image is remembered
        localizer.match(descriptor, stamp * SECOND, None if stamp == 25 else Pose.identity())
    after = localizer.match(localizer.map.descriptors[30], 27 * SECOND, Pose.planar(1.0, 0.0, 0.0))
    assert after.standing is not None and abs(after.standing.best - 30) <= 1
    assert after.reject_reason is RejectReason.NONE


def test_images_that_stand_alone_heed_no_break(localizer: Localizer) -> None:
    alone = Localizer(localizer.map, localizer.extractor, LocalizerOptions(sequence=False))
    chances = []
    for known in (True, False):
        alone.reset()
        for number, row in enumerate((20, 21, 22)):
            descriptor = localizer.map.descriptors[row]
            odometry = Pose.planar(float(number), 0.0, 0.0) if known or number != 1 else None
            answer = alone.match(descriptor, number * SECOND, odometry)
        chances.append(answer.probability)
    assert chances[0] == chances[1]
