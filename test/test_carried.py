"""A robot that was carried, or that drives out of its map, is not where its belief says, and gets no answer there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from places import (
    SECOND,
    WIDTH,
    Describes,
    alike_along_the_way,
    changed,
    drive,
    straight_street,
    street_localizer,
    unit_rows,
    write_places,
)

from d2vpr_ros.geometry import Pose, distance
from d2vpr_ros.localize import Estimate, Localizer, State

STREET, MAPPED = 80, 40
BOTH_WAYS = pytest.mark.parametrize("odometry", [True, False])


@pytest.fixture
def localizer(tmp_path: Path) -> Localizer:
    return street_localizer(tmp_path, STREET)


def answered(rows: range, estimates: list[Estimate]) -> list[tuple[int, float]]:
    """Row of the true place and metres off, of every answer."""
    truths = [(row, Pose.planar(float(row), 0.0, 0.0)) for row in rows]
    pairs = zip(truths, estimates, strict=True)
    return [(row, distance(one.pose, truth)) for (row, truth), one in pairs if one.pose is not None]


@BOTH_WAYS
def test_a_robot_that_was_carried_is_found_without_a_wrong_answer(localizer: Localizer, odometry: bool) -> None:
    """The odometry goes on as if nothing had happened."""
    assert drive(localizer, range(5, 30), odometry=odometry)[-1].state is State.LOCALIZED
    after = drive(localizer, range(50, 70), odometry=odometry, first_s=25)
    answers = answered(range(50, 70), after)
    assert answers[0][0] <= 58
    assert max(off_m for _, off_m in answers) < 2.0


def test_an_odometry_that_breaks_off_lets_a_robot_be_elsewhere(localizer: Localizer) -> None:
    assert drive(localizer, range(5, 30))[-1].state is State.LOCALIZED
    after = drive(localizer, [50], odometry=False, first_s=25) + drive(localizer, range(51, 70), first_s=26)
    answers = answered(range(50, 70), after)
    assert answers[0][0] <= 54
    assert max(off_m for _, off_m in answers) < 2.0


def test_an_odometry_that_begins_anew_in_place_moves_nobody(localizer: Localizer) -> None:
    drive(localizer, range(5, 30))
    for stamp in (25, 26):  # the same view
        localizer.match(localizer.map.descriptors[29], stamp * SECOND, None if stamp == 25 else Pose.identity())
    after = [
        localizer.match(localizer.map.descriptors[30 + step], (27 + step) * SECOND, Pose.planar(1.0 + step, 0.0, 0.0))
        for step in range(20)
    ]
    assert after[-1].state is State.LOCALIZED
    assert all(one.standing is not None and abs(one.standing.best - 30 - step) <= 1 for step, one in enumerate(after))


@BOTH_WAYS
def test_someone_before_the_camera_does_not_move_the_robot(localizer: Localizer, odometry: bool) -> None:
    drive(localizer, range(5, 30), odometry=odometry)
    hidden = drive(localizer, unit_rows(2, seed=77), odometry=odometry, first_s=25, much=0.0)
    after = drive(localizer, range(32, 60), odometry=odometry, first_s=27)
    assert not any(one.carried for one in [*hidden, *after])
    assert after[-1].state is State.LOCALIZED
    assert max(off_m for _, off_m in answered(range(32, 60), after)) < 2.0


@BOTH_WAYS
def test_a_drive_on_known_streets_is_never_interrupted(localizer: Localizer, odometry: bool) -> None:
    estimates = drive(localizer, range(5, 75), odometry=odometry)
    assert {one.state for one in estimates[4:]} == {State.LOCALIZED}
    assert not any(one.carried for one in estimates)


def half_mapped(folder: Path) -> tuple[Localizer, npt.NDArray[np.float32]]:
    """A localizer whose map ends in the middle of a street, and how all of the street looks."""
    looks = alike_along_the_way(STREET, seed=4, width=WIDTH)
    place_map = write_places(folder / "half.d2map", straight_street(MAPPED), looks[:MAPPED])
    return Localizer(place_map, Describes()), looks


@BOTH_WAYS
def test_who_drives_past_the_last_place_is_silent_two_images_later(tmp_path: Path, odometry: bool) -> None:
    localizer, looks = half_mapped(tmp_path)
    estimates = drive(localizer, looks, odometry=odometry)
    assert all(one.state is State.LOCALIZED for one in estimates[10:MAPPED])
    assert not any(one.state is State.LOCALIZED for one in estimates[MAPPED + 2 :])


@BOTH_WAYS
def test_who_comes_back_onto_the_map_is_found_again(tmp_path: Path, odometry: bool) -> None:
    localizer, looks = half_mapped(tmp_path)
    there = drive(localizer, looks[30:60], odometry=odometry)
    assert there[-1].state is not State.LOCALIZED
    # Around the block: the street is entered again at its beginning.
    back = drive(localizer, looks[:MAPPED], odometry=odometry, first_s=30)
    answers = answered(range(MAPPED), back)
    assert answers[0][0] <= 28
    assert max(off_m for _, off_m in answers) < 2.0


def test_a_street_that_goes_on_looking_like_its_last_place_is_not_answered_there(tmp_path: Path) -> None:
    """Where the map ends in a corridor that goes on: the odometry knows that the places have run out."""
    localizer, looks = half_mapped(tmp_path)
    beyond = np.repeat(looks[MAPPED - 1 : MAPPED], 20, axis=0)
    estimates = drive(localizer, np.concatenate([looks[:MAPPED], beyond]))
    assert estimates[MAPPED - 1].state is State.LOCALIZED
    answers = answered(range(MAPPED + 20), estimates)
    assert max(off_m for _, off_m in answers) < 3.0


@BOTH_WAYS
def test_who_turns_back_sees_nothing_of_a_street_that_was_mapped_one_way(localizer: Localizer, odometry: bool) -> None:
    drive(localizer, range(5, 30), odometry=odometry)
    turning = [Pose.planar(29.0, 3.0, np.pi / 4 * step) for step in range(1, 5)]
    back = [Pose.planar(29.0 - step, 3.0, np.pi) for step in range(1, 12)]
    states = [
        localizer.match(image, (25 + number) * SECOND, pose if odometry else None).state
        for number, (pose, image) in enumerate(zip(turning + back, unit_rows(15, seed=55), strict=True))
    ]
    assert State.LOCALIZED not in states[2:]


@BOTH_WAYS
def test_who_turns_off_into_a_side_street_is_silent_two_images_later(localizer: Localizer, odometry: bool) -> None:
    drive(localizer, range(5, 30), odometry=odometry)
    aside = [Pose.planar(29.0, 3.0 + step, np.pi / 2) for step in range(15)]
    states = [
        localizer.match(image, (25 + number) * SECOND, pose if odometry else None).state
        for number, (pose, image) in enumerate(zip(aside, unit_rows(15, seed=56), strict=True))
    ]
    assert State.LOCALIZED not in states[2:]


@BOTH_WAYS
def test_a_robot_carried_off_the_map_is_silent(localizer: Localizer, odometry: bool) -> None:
    drive(localizer, range(5, 30), odometry=odometry)
    away = drive(localizer, changed(unit_rows(30, seed=88), 0.0), odometry=odometry, first_s=25, much=0.0)
    assert not any(one.state is State.LOCALIZED for one in away[2:])
    assert away[-1].probability < 0.05
