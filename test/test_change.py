"""A localized robot that drives out of its map falls silent: places run out, or the newest images fit nothing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from d2vpr_ros.localize.change_test import follow, run_out, unknown
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from places import alike_along_the_way, straight_street, unit_rows, write_places

from d2vpr_ros.describe import Extractor
from d2vpr_ros.geometry import Pose
from d2vpr_ros.localize import Estimate, Localizer, State

SECOND = 1_000_000_000
MAPPED, STREET = 40, 60
SCALE = 8.0


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> tuple[Localizer, npt.NDArray[np.float32]]:
    """A localizer whose map ends in the middle of a street, and how all of the street looks."""
    extractor = Extractor.open("nano")
    looks = alike_along_the_way(STREET, seed=4, width=extractor.width)
    path = tmp_path_factory.mktemp("street") / "half.d2map"
    place_map = write_places(path, straight_street(MAPPED), looks[:MAPPED], extractor.identity)
    return Localizer(place_map, extractor), looks


def drive(localizer: Localizer, looks: npt.NDArray[np.float32], odometry: bool) -> list[Estimate]:
    """A metre and a second an image."""
    localizer.reset()
    seen = looks + 1.0 * unit_rows(len(looks), seed=9, width=looks.shape[1])
    seen /= np.linalg.norm(seen, axis=1, keepdims=True)
    return [
        localizer.match(image, number * SECOND, Pose.planar(float(number), 0.0, 0.0) if odometry else None)
        for number, image in enumerate(seen)
    ]


@pytest.mark.parametrize("odometry", [True, False])
def test_who_drives_past_the_last_place_is_silent_two_images_later(
    street: tuple[Localizer, npt.NDArray[np.float32]], odometry: bool
) -> None:
    estimates = drive(*street, odometry)
    assert all(one.state is State.LOCALIZED for one in estimates[10:MAPPED])
    assert not any(one.state is State.LOCALIZED for one in estimates[MAPPED + 2 :])


def test_what_is_past_the_last_place_and_looks_like_it_is_not_answered_at_once(
    street: tuple[Localizer, npt.NDArray[np.float32]],
) -> None:
    localizer, looks = street
    alike = np.repeat(looks[MAPPED - 1 : MAPPED], 20, axis=0)
    estimates = drive(localizer, np.concatenate([looks[:MAPPED], alike]), odometry=True)
    assert estimates[MAPPED - 1].state is State.LOCALIZED
    assert not any(one.state is State.LOCALIZED for one in estimates[MAPPED + 2 : MAPPED + 5])


def left_after(similar: list[float], *, by_odometry: bool) -> list[float]:
    chances, found = unknown(1), []
    for one in similar:
        chances = follow(chances, np.array([one]), SCALE, 1.0, by_odometry=by_odometry)
        found.append(float(chances[0, 0]))
    return found


def test_images_that_fit_nothing_tell_at_once_where_no_odometry_would() -> None:
    good = [7.5] * 10
    assert max(left_after(good, by_odometry=False)) < 0.01
    assert left_after([*good, 2.0], by_odometry=False)[-1] > 0.05
    assert left_after([*good, 2.0], by_odometry=True)[-1] < 0.01, "a dark corner; turning off shows in the odometry"


def test_two_good_images_after_a_bad_one_are_enough() -> None:
    assert left_after([7.5] * 10 + [0.5, 7.5, 7.5], by_odometry=False)[-1] < 0.01


@given(
    chances=arrays(np.float64, (5, 6), elements=st.floats(1e-3, 1.0)),
    similar=arrays(np.float64, 5, elements=st.floats(-100, 100)),
    new=st.floats(0, 1),
    share=arrays(np.float64, 5, elements=st.floats(0, 1)),
)
def test_chances_add_up_to_one_whatever_comes(
    chances: npt.NDArray[np.float64], similar: npt.NDArray[np.float64], new: float, share: npt.NDArray[np.float64]
) -> None:
    before = run_out(chances / chances.sum(axis=1, keepdims=True), share)
    after = follow(before, similar, SCALE, new, by_odometry=True)
    assert (before >= 0).all() and (after >= 0).all()
    assert np.allclose(after.sum(axis=1), 1.0)
