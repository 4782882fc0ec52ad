"""What a GPS fix does to what is believed already: what lies far from it fades, and no answer is given there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from places import SECOND, WIDTH, Describes, alike_along_the_way, straight_street, unit_rows, write_places

from d2vpr_ros.geometry import Pose
from d2vpr_ros.localize import Acceptance, Estimate, Localizer, LocalizerOptions, RejectReason, State
from d2vpr_ros.localize.gps import log_likelihood
from d2vpr_ros.mapping import PlaceMap
from d2vpr_ros.mapping.restriction import UNRESTRICTED, Region, Restriction

STREET = 100
APART_M = 200.0


@pytest.fixture(scope="module")
def two_streets(tmp_path_factory: pytest.TempPathFactory) -> PlaceMap:
    """Two streets along x that look the same, the second one 200 m to the north."""
    street = alike_along_the_way(STREET, seed=4, width=WIDTH)
    poses = straight_street(STREET) + [Pose.planar(float(x), APART_M, 0.0) for x in range(STREET)]
    return write_places(tmp_path_factory.mktemp("maps") / "m.d2map", poses, np.concatenate([street] * 2))


def fix(x: float, y: float, radius_m: float = 30.0) -> Restriction:
    return Restriction(Region(x, y, radius_m), measured=True)


def drive(
    localizer: Localizer, metres: range, restrictions: list[Restriction], with_odometry: bool = True
) -> list[Estimate]:
    """One image a metre and a second, each much changed, with what GPS says at it."""
    seen = localizer.map.descriptors[list(metres)] + 0.3 * unit_rows(len(metres), seed=metres.start + 9)
    seen /= np.linalg.norm(seen, axis=1, keepdims=True)
    return [
        localizer.match(image, at * SECOND, Pose.planar(float(at), 0.0, 0.0) if with_odometry else None, restriction)
        for at, image, restriction in zip(metres, seen, restrictions, strict=True)
    ]


def north(estimate: Estimate) -> float:
    assert estimate.pose is not None
    return float(estimate.pose.position[1])


def test_a_fix_says_nothing_within_its_region_and_rules_nothing_out_beyond() -> None:
    positions = np.array([[0.0, 29.0, 5.0], [0.0, 33.0, 0.0], [0.0, 60.0, 0.0], [0.0, 1e6, 0.0]])
    found = log_likelihood(Region(0.0, 0.0, 30.0), positions)
    assert found[0] == 0.0
    assert -0.5 < found[1] < 0.0
    assert found[1] > found[2] > found[3]
    assert np.exp(found[3]) == pytest.approx(0.01)


@pytest.mark.parametrize("with_odometry", [True, False])
def test_a_belief_in_a_look_alike_street_is_dropped_when_gps_contradicts(
    two_streets: PlaceMap, with_odometry: bool
) -> None:
    localizer = Localizer(two_streets, Describes())
    led_astray = drive(localizer, range(5, 20), [fix(10.0, 0.0)] * 15, with_odometry)
    assert led_astray[-1].state is State.LOCALIZED and north(led_astray[-1]) == pytest.approx(0.0, abs=1.0)
    put_right = drive(localizer, range(20, 60), [fix(40.0, APART_M)] * 40, with_odometry)
    assert put_right[0].reject_reason is RejectReason.GPS_CONTRADICTS
    assert put_right[0].probability < 0.05
    answers = [estimate for estimate in put_right if estimate.state is State.LOCALIZED]
    assert len(answers) > 8
    assert min(map(north, answers)) > APART_M - 2.0
    # And it is gone for good: without GPS the answer stays where the fixes were.
    onward = drive(localizer, range(60, 70), [UNRESTRICTED] * 10, with_odometry)
    answered = [north(estimate) for estimate in onward if estimate.pose is not None]
    assert answered and min(answered) > APART_M - 2.0


def test_a_single_fix_from_elsewhere_is_outlived(two_streets: PlaceMap) -> None:
    localizer = Localizer(two_streets, Describes())
    assert drive(localizer, range(5, 20), [fix(10.0, 0.0)] * 15)[-1].state is State.LOCALIZED
    echo, *after = drive(localizer, range(20, 48), [fix(20.0, APART_M), *[fix(35.0, 0.0)] * 27])
    assert echo.reject_reason is RejectReason.GPS_CONTRADICTS and echo.state is State.CANDIDATE
    assert after[-1].state is State.LOCALIZED
    assert all(north(estimate) == pytest.approx(0.0, abs=1.0) for estimate in after if estimate.pose is not None)


def test_a_fix_off_the_map_takes_the_belief_off_it(two_streets: PlaceMap) -> None:
    """The robot has left the map for a street that nobody mapped; then GPS fails, in a street that looks like one."""
    localizer = Localizer(two_streets, Describes())
    assert drive(localizer, range(5, 20), [fix(10.0, 0.0)] * 15)[-1].state is State.LOCALIZED
    away = drive(localizer, range(20, 35), [fix(30.0, 270.0)] * 15)
    assert {(one.state, one.reject_reason, one.matches) for one in away} == {(State.LOST, RejectReason.OFF_MAP, ())}
    assert drive(localizer, range(35, 36), [UNRESTRICTED])[0].state is not State.LOCALIZED
    # Without the fixes the belief would have gone on.
    localizer.reset()
    assert drive(localizer, range(5, 20), [fix(10.0, 0.0)] * 15)[-1].state is State.LOCALIZED
    assert drive(localizer, range(21, 22), [UNRESTRICTED])[0].state is State.LOCALIZED


def test_a_fix_far_from_every_place_does_not_silence_a_robot_whose_images_know_the_place(tmp_path: Path) -> None:
    """A receiver kilometres off, all along the way: the answers are those without it, a hundred times less sure."""
    street = write_places(tmp_path / "m", straight_street(STREET), alike_along_the_way(STREET, seed=4, width=WIDTH))
    sure_enough = LocalizerOptions(acceptance=Acceptance(0.02))
    told = drive(Localizer(street, Describes(), sure_enough), range(5, 25), [fix(30.0, 5000.0)] * 20)
    untold = drive(Localizer(street, Describes(), sure_enough), range(5, 25), [UNRESTRICTED] * 20)
    assert told[-1].state is State.LOCALIZED and told[-1].far_fix_m == pytest.approx(5000.0, abs=1.0)
    assert untold[-1].far_fix_m is None
    odds = [one[-1].probability / (1 - one[-1].probability) for one in (told, untold)]
    assert odds[0] / odds[1] == pytest.approx(0.01, rel=0.3)
    assert told[-1].pose is not None and untold[-1].pose is not None
    assert np.allclose(told[-1].pose.position, untold[-1].pose.position)


def test_a_region_that_was_not_measured_restricts_the_search_alone(two_streets: PlaceMap) -> None:
    localizer = Localizer(two_streets, Describes())
    assert drive(localizer, range(5, 20), [fix(10.0, 0.0)] * 15)[-1].state is State.LOCALIZED
    said = drive(localizer, range(20, 21), [Restriction(Region(30.0, APART_M, 30.0))])[0]
    assert said.reject_reason is not RejectReason.GPS_CONTRADICTS
    assert said.standing is not None and said.standing.position[1] == pytest.approx(0.0, abs=1.0)


@pytest.mark.parametrize("with_odometry", [True, False])
def test_a_robot_that_stands_still_is_found_once_a_fix_lets_places_come_into_question(
    two_streets: PlaceMap, with_odometry: bool
) -> None:
    """The first fix has no place in its region, and the images after it show nothing new."""
    at_home = Localizer(two_streets, Describes(), LocalizerOptions(off_map_prior=0.0))
    odometry = Pose.identity() if with_odometry else None
    look = two_streets.descriptors[10]
    first = at_home.match(look, 0, odometry, fix(10.0, 2.0, 1.0))
    assert (first.reject_reason, first.matches) == (RejectReason.OFF_MAP, ())
    assert at_home.match(look, SECOND, odometry, fix(10.0, 0.0)).state is State.LOCALIZED
