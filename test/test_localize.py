"""The localizer answers when consecutive images agree, and otherwise says why it does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from d2vpr_ros.localize.covariance import answer_covariance
from d2vpr_ros.localize.reach import alike_m
from d2vpr_ros.localize.tracker import Standing
from hypothesis import given
from hypothesis import strategies as st
from places import alike_along_the_way, straight_street, unit_rows, write_places

from d2vpr_ros.describe import Extractor
from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import FORWARD_MOUNT, Pose, distance, interpolate
from d2vpr_ros.localize import Estimate, Localizer, LocalizerOptions, RejectReason, State
from d2vpr_ros.localize.clock import StampWatch
from d2vpr_ros.localize.decision import Acceptance, decide
from d2vpr_ros.localize.odometry import MotionBuffer
from d2vpr_ros.mapping.restriction import Region, Restriction

SECOND = 1_000_000_000
# Neighbours in these maps do not resemble each other, and the calibration was not fitted on such.
SINGLE = LocalizerOptions(sequence=False, acceptance=Acceptance(0.8))
STREET = 60


@pytest.fixture(scope="module")
def extractor() -> Extractor:
    return Extractor.open("nano")


@pytest.fixture
def localizer(tmp_path: Path, extractor: Extractor) -> Localizer:
    descriptors = alike_along_the_way(STREET, seed=4, width=extractor.width)
    place_map = write_places(tmp_path / "m.d2map", straight_street(STREET), descriptors, extractor.identity)
    return Localizer(place_map, extractor)


def drive(localizer: Localizer, rows: list[int], with_odometry: bool = True, first_s: int = 0) -> list[Estimate]:
    """Drive past the places `rows` of the map, one a second, seeing each much changed."""
    noise = unit_rows(len(rows), seed=9, width=localizer.extractor.width)
    seen = localizer.map.descriptors[rows] + 2.0 * noise
    seen /= np.linalg.norm(seen, axis=1, keepdims=True)
    return [
        localizer.match(descriptor, number * SECOND, Pose.planar(float(row), 3.0, 0.0) if with_odometry else None)
        for number, (row, descriptor) in enumerate(zip(rows, seen, strict=True), start=first_s)
    ]


@pytest.mark.parametrize("with_odometry", [True, False])
def test_a_drive_past_known_places_is_localized_after_a_few_images(localizer: Localizer, with_odometry: bool) -> None:
    rows = list(range(10, 30))
    estimates = drive(localizer, rows, with_odometry)
    assert all(
        estimate.state is not State.LOCALIZED for estimate in estimates[: localizer.options.acceptance.images - 1]
    )
    for estimate, row in list(zip(estimates, rows, strict=True))[8:]:
        assert estimate.state is State.LOCALIZED
        assert estimate.pose is not None
        assert distance(estimate.pose, Pose.planar(float(row), 0.0, 0.0)) < 1.0
        assert estimate.matches[0].accepted
        assert not any(match.accepted for match in estimate.matches[1:])


def test_odometry_that_fails_leaves_its_speed_behind(localizer: Localizer) -> None:
    rows = [5, 9, 13, 17, 21, 25, 29, 33, 37, 41, 45, 49, 53]  # 4 m/s, twice the default top speed
    assert drive(localizer, rows[:8])[-1].state is State.LOCALIZED
    without = drive(localizer, rows[8:], with_odometry=False, first_s=8)
    assert {estimate.state for estimate in without[1:]} == {State.LOCALIZED}, "at once, or after another look"
    assert [estimate.matches[0].row for estimate in without] == pytest.approx(rows[8:], abs=2)


def test_many_weak_images_make_one_strong_answer(localizer: Localizer) -> None:
    width = localizer.extractor.width
    rows = list(range(5, 45))
    seen = localizer.map.descriptors[rows] + 8.0 * unit_rows(len(rows), seed=9, width=width)
    alone = [int(np.argmax(localizer.map.descriptors @ image)) for image in seen]
    assert np.mean(np.array(alone) == rows) < 0.7  # no image is sure by itself
    seen /= np.linalg.norm(seen, axis=1, keepdims=True)
    estimates = [
        localizer.match(image, row * SECOND, Pose.planar(float(row), 0.0, 0.0))
        for row, image in zip(rows, seen.astype(np.float32), strict=True)
    ]
    settled = [estimate.matches[0].row - row for estimate, row in zip(estimates[10:], rows[10:], strict=True)]
    assert np.abs(settled).max() <= 1


def test_places_that_are_not_in_the_map_give_silence(localizer: Localizer) -> None:
    strangers = unit_rows(50, seed=77, width=localizer.extractor.width)
    for number, descriptor in enumerate(strangers):
        estimate = localizer.match(descriptor, number * SECOND, Pose.planar(float(number), 0.0, 0.0))
        assert estimate.state is not State.LOCALIZED
        assert estimate.pose is None
        assert estimate.matches  # candidates are shown all the same


def test_images_that_contradict_the_motion_give_silence(localizer: Localizer) -> None:
    scattered = [3, 50, 20, 41, 9, 30, 57, 14]
    descriptors = localizer.map.descriptors[scattered]
    states = [
        localizer.match(descriptor, number * SECOND, Pose.planar(float(number), 0.0, 0.0)).state
        for number, descriptor in enumerate(descriptors)
    ]
    assert State.LOCALIZED not in states


def test_standing_still_adds_no_evidence(localizer: Localizer) -> None:
    image, standing = localizer.map.descriptors[30], Pose.identity()
    estimates = [localizer.match(image, number * SECOND, standing) for number in range(20)]
    assert {estimate.reject_reason for estimate in estimates} == {RejectReason.UNCONFIRMED}


def test_standing_still_is_seen_without_odometry_too(localizer: Localizer) -> None:
    estimates = [localizer.match(localizer.map.descriptors[30], number * SECOND // 30) for number in range(20)]
    assert {estimate.reject_reason for estimate in estimates} == {RejectReason.UNCONFIRMED}


def test_two_streets_that_look_alike_are_ambiguous(tmp_path: Path, extractor: Extractor) -> None:
    one_street = unit_rows(20, seed=5, width=extractor.width)
    poses = straight_street(20) + [Pose.planar(float(x), 100.0, 0.0) for x in range(20)]
    place_map = write_places(tmp_path / "m.d2map", poses, np.concatenate([one_street] * 2), extractor.identity)
    estimates = drive(Localizer(place_map, extractor), list(range(4, 14)))
    assert all(estimate.state is State.CANDIDATE for estimate in estimates)
    assert estimates[-1].reject_reason is RejectReason.AMBIGUOUS


def test_forgetting_starts_anew(localizer: Localizer) -> None:
    assert drive(localizer, list(range(8)))[-1].state is State.LOCALIZED
    localizer.reset()
    assert drive(localizer, [8], first_s=8)[-1].reject_reason is RejectReason.UNCONFIRMED


def test_a_single_image_is_enough_when_asked_for(localizer: Localizer) -> None:
    single = Localizer(localizer.map, localizer.extractor, SINGLE)
    assert drive(single, [30])[0].state is State.LOCALIZED


def test_only_places_that_come_into_question_are_looked_at(localizer: Localizer) -> None:
    descriptor = localizer.map.descriptors[30]
    near = localizer.match(descriptor, 0, restriction=Restriction(Region(50.0, 0.0, 5.0)))
    assert all(45 <= match.row <= 55 for match in near.matches)
    nowhere = localizer.match(descriptor, SECOND, restriction=Restriction(Region(STREET + 10.0, 0.0, 5.0)))
    assert (nowhere.state, nowhere.reject_reason, nowhere.matches) == (State.LOST, RejectReason.OFF_MAP, ())
    assert drive(localizer, list(range(10, 30)), first_s=2)[-1].state is State.LOCALIZED  # the belief is still sound


def test_the_pose_is_that_of_the_base_behind_its_own_camera(localizer: Localizer) -> None:
    mast = Pose.of(0.5, 0.0, 1.2, *FORWARD_MOUNT.quaternion)
    mounted = Localizer(localizer.map, localizer.extractor, SINGLE, mast)
    pose = drive(mounted, [30])[0].pose
    assert pose is not None
    assert np.allclose(pose.position, [29.5, 0.0, -1.2], atol=0.1)


def test_a_map_of_another_model_is_refused(tmp_path: Path, extractor: Extractor) -> None:
    foreign = write_places(tmp_path / "m.d2map", straight_street(3), unit_rows(3, seed=1))
    with pytest.raises(UserError, match="another model"):
        Localizer(foreign, extractor)


@given(seed=st.integers(0, 100), spacing=st.floats(0.01, 20))
def test_a_covariance_is_never_zero_and_grows_with_the_scatter(seed: int, spacing: float) -> None:
    positions = np.random.default_rng(seed).standard_normal((5, 3))
    scatter = np.cov(positions.T)
    covariance = answer_covariance(scatter, 5.0, 0.5 * spacing, spacing, by_odometry=True)
    assert (np.linalg.eigvalsh(covariance) > 0).all()
    wider = answer_covariance(9 * scatter, 5.0, 0.5 * spacing, spacing, by_odometry=True)
    by_sight = answer_covariance(scatter, 5.0, 0.5 * spacing, spacing, by_odometry=False)
    of_one = answer_covariance(scatter, 1.0, 0.5 * spacing, spacing, by_odometry=True)
    for other in (wider, by_sight, of_one):
        assert (np.diag(other)[:3] > np.diag(covariance)[:3]).all()


def test_an_answer_is_no_surer_than_the_poses_of_the_map_it_is_made_from(tmp_path: Path, extractor: Extractor) -> None:
    """Of a map whose poses say 9 m east, 4 m north and half a radian, as one from GPS does."""
    stated = np.diag([81.0, 16.0, 100.0, 0.1, 0.1, 0.25])
    descriptors = alike_along_the_way(STREET, seed=4, width=extractor.width)
    answers = []
    for name, covariance in (("exact", None), ("gps", stated)):
        places = straight_street(STREET)
        place_map = write_places(tmp_path / name, places, descriptors, extractor.identity, covariance=covariance)
        answers.append(drive(Localizer(place_map, extractor), list(range(10, 30)))[-1])
    exact, by_gps = answers
    assert exact.covariance is not None and by_gps.covariance is not None
    added = by_gps.covariance - exact.covariance
    assert np.allclose(np.diag(added), np.diag(stated), atol=0.5)  # the robot stands within a metre of its place
    assert np.allclose(added, added.T)


def test_what_is_no_covariance_in_a_strangers_map_says_nothing(tmp_path: Path, extractor: Extractor) -> None:
    nonsense = np.full((6, 6), np.nan)
    descriptors = alike_along_the_way(STREET, seed=4, width=extractor.width)
    place_map = write_places(
        tmp_path / "m", straight_street(STREET), descriptors, extractor.identity, covariance=nonsense
    )
    answer = drive(Localizer(place_map, extractor), list(range(10, 30)))[-1]
    assert answer.covariance is not None and np.isfinite(answer.covariance).all()


def test_a_map_whose_places_share_one_position_answers_with_numbers(tmp_path: Path, extractor: Extractor) -> None:
    """A robot that turned on the spot while it mapped: no distance between places, so none is divided by."""
    turning = [Pose.planar(0.0, 0.0, 0.3 * number) for number in range(STREET)]
    descriptors = alike_along_the_way(STREET, seed=4, width=extractor.width)
    place_map = write_places(tmp_path / "m", turning, descriptors, extractor.identity)
    assert place_map.spacing_m == place_map.header.keyframe_spacing_m == 1.0
    localizer = Localizer(place_map, extractor)
    for with_odometry in (True, False):
        localizer.reset()
        estimates = drive(localizer, list(range(10, 30)), with_odometry)
        assert all(estimate.is_finite for estimate in estimates)
        assert all(0.0 <= estimate.probability <= 1.0 for estimate in estimates)


def test_a_descriptor_that_is_no_number_is_no_image(localizer: Localizer) -> None:
    nothing = np.full(localizer.extractor.width, np.nan, np.float32)
    estimate = localizer.match(nothing, 0)
    assert (estimate.state, estimate.matches) == (State.LOST, ())
    assert drive(localizer, list(range(10, 30)))[-1].state is State.LOCALIZED


def standing(
    mass: float = 0.95, rival: float = 0.01, off_map: float = 0.02, fit: float = 2.0, images: float = 10.0
) -> Standing:
    nothing = np.zeros((3, 3))
    return Standing(
        np.array([0]), np.array([mass]), 0, mass, rival, off_map, fit, images, fit, 1.0, nothing[0], nothing
    )


def test_every_silence_has_its_reason() -> None:
    def reason(probability: float, localized: bool = False, **known: float) -> RejectReason:
        return decide(probability, standing(**known), Acceptance(), localized=localized, sequence=True)

    assert reason(0.99) is RejectReason.NONE
    assert reason(0.99, images=1.0) is RejectReason.UNCONFIRMED
    assert reason(0.2, mass=0.1, off_map=0.9) is RejectReason.OFF_MAP
    assert reason(0.5, mass=0.5, rival=0.4) is RejectReason.AMBIGUOUS
    assert reason(0.5, fit=0.4) is RejectReason.NO_MATCH
    assert reason(0.9) is RejectReason.UNCONFIRMED


def test_an_answer_that_holds_needs_a_little_less_than_a_new_one() -> None:
    def accepted(localized: bool) -> bool:
        return decide(0.97, standing(), Acceptance(), localized=localized, sequence=True) is RejectReason.NONE

    assert accepted(localized=True) and not accepted(localized=False)


finite = st.floats(-100, 100)
poses = st.builds(Pose.planar, finite, finite, st.floats(-3, 3))


def test_motion_is_interpolated_at_the_images_stamp() -> None:
    motion = MotionBuffer()
    for number in range(5):
        motion.add(number * SECOND // 10, Pose.planar(float(number), 0.0, 0.0))
    between = motion.at(25 * SECOND // 100)
    assert between is not None
    assert between.position[0] == pytest.approx(2.5)
    assert motion.at(42 * SECOND // 100) is not None  # the newest odometry may be a little late
    assert motion.at(5 * SECOND) is None


def test_odometry_that_jumps_back_starts_anew() -> None:
    motion = MotionBuffer()
    motion.add(10 * SECOND, Pose.planar(1.0, 0.0, 0.0))
    motion.add(2 * SECOND, Pose.planar(9.0, 0.0, 0.0))
    assert motion.at(10 * SECOND) is None
    assert motion.at(2 * SECOND) is not None


def test_age_is_measured_from_arrival_when_the_clocks_differ() -> None:
    live, replayed = StampWatch(), StampWatch()
    assert live.age_s(100 * SECOND, 100 * SECOND + SECOND // 4, 0.01) == pytest.approx(0.25)
    assert replayed.age_s(100 * SECOND, 100_000 * SECOND, 0.01) == pytest.approx(0.01)


def test_only_a_clear_jump_back_in_time_counts() -> None:
    watch = StampWatch()
    stamps = [5.0, 5.1, 4.9, 3.5, 3.6]
    assert [watch.jumped_back(int(stamp * SECOND)) for stamp in stamps] == [False, False, False, True, False]


@given(a=poses, b=poses)
def test_interpolation_begins_and_ends_at_its_poses(a: Pose, b: Pose) -> None:
    def ends() -> Iterator[tuple[Pose, Pose]]:
        yield interpolate(a, b, 0.0), a
        yield interpolate(a, b, 1.0), b

    for computed, expected in ends():
        assert np.allclose(computed.position, expected.position)
        assert abs(float(computed.quaternion @ expected.quaternion)) == pytest.approx(1.0)


def test_how_far_places_look_alike_is_read_off_the_map(tmp_path: Path) -> None:
    count = 80
    strangers = unit_rows(count + 12, seed=6)
    alike = np.stack([strangers[row : row + 12].sum(axis=0) for row in range(count)])  # 12 places share something
    alike /= np.linalg.norm(alike, axis=1, keepdims=True)
    near = write_places(tmp_path / "near.d2map", straight_street(count, step_m=0.5), alike)
    assert alike_m(near) == pytest.approx(3.0, abs=0.6)
    assert (
        alike_m(write_places(tmp_path / "alone.d2map", straight_street(1), alike[:1])) == near.header.keyframe_spacing_m
    )


def test_pictures_that_all_resemble_one_place_do_not_add_up_without_odometry(localizer: Localizer) -> None:
    place, noise = localizer.map.descriptors[30], unit_rows(60, seed=8, width=localizer.extractor.width)
    pictures = place + 0.5 * noise
    pictures /= np.linalg.norm(pictures, axis=1, keepdims=True)
    for number, picture in enumerate(pictures):
        assert localizer.match(picture, number * SECOND).state is not State.LOCALIZED


def test_without_odometry_it_does_not_matter_how_many_images_a_second_come_in(localizer: Localizer) -> None:
    places, wanted = localizer.map.descriptors, np.linspace(10, 30, 401)  # a twentieth of a place on each time
    ahead = (wanted % 1)[:, None]
    floor = wanted.astype(int)
    seen = (1 - ahead) * places[floor] + ahead * places[floor + 1]
    seen /= np.linalg.norm(seen, axis=1, keepdims=True)
    estimates = [
        localizer.match(row, round(number * SECOND / 20)) for number, row in enumerate(seen.astype(np.float32))
    ]
    late = estimates[200:]
    assert np.mean([estimate.state is State.LOCALIZED for estimate in late]) > 0.9
    off = [abs(one.pose.position[0] - at) for one, at in zip(late, wanted[200:], strict=True) if one.pose is not None]
    assert max(off) < 1.5
