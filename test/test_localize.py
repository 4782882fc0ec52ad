"""The localizer answers when its images and the motion say where it is, and otherwise says why it does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import (
    IDENTITY,
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

from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import FORWARD_MOUNT, Pose, distance, interpolate, turn
from d2vpr_ros.localize import Acceptance, Localizer, LocalizerOptions, RejectReason, State
from d2vpr_ros.localize.clock import StampWatch
from d2vpr_ros.localize.odometry import MotionBuffer
from d2vpr_ros.mapping.restriction import Region, Restriction

# An invented descriptor never stands out enough to be sure of one image alone.
SINGLE = LocalizerOptions(sequence=False, acceptance=Acceptance(0.8))
STREET = 80
BOTH_WAYS = pytest.mark.parametrize("odometry", [True, False])


@pytest.fixture
def localizer(tmp_path: Path) -> Localizer:
    return street_localizer(tmp_path, STREET)


@BOTH_WAYS
def test_a_drive_past_known_places_is_localized_after_a_few_images(localizer: Localizer, odometry: bool) -> None:
    rows = list(range(10, 30))
    estimates = drive(localizer, rows, odometry=odometry)
    for estimate, row in list(zip(estimates, rows, strict=True))[4:]:
        assert estimate.state is State.LOCALIZED and estimate.pose is not None
        assert distance(estimate.pose, Pose.planar(float(row), 0.0, 0.0)) < 0.5
        assert turn(estimate.pose, Pose.identity()) < 1e-3
        assert estimate.matches[0].accepted
        assert not any(match.accepted for match in estimate.matches[1:])


def test_a_robot_that_never_leaves_its_map_is_found_by_one_image(localizer: Localizer, tmp_path: Path) -> None:
    at_home = Localizer(localizer.map, Describes(), LocalizerOptions(off_map_prior=0.0))
    assert drive(at_home, [10])[0].state is State.LOCALIZED
    seldom, often = (
        Localizer(localizer.map, Describes(), LocalizerOptions(off_map_prior=prior)) for prior in (0.5, 0.9)
    )
    first = [[one.state for one in drive(robot, range(10, 30))].index(State.LOCALIZED) for robot in (seldom, often)]
    assert 0 < first[0] < first[1] < 9


def test_odometry_that_fails_leaves_its_speed_behind(localizer: Localizer) -> None:
    rows = list(range(5, 78, 4))  # 4 m/s, twice the default top speed
    images = changed(localizer.map.descriptors[rows], 0.5)
    answers = [
        localizer.match(image, number * SECOND, Pose.planar(float(row), 0.0, 0.0) if number < 8 else None)
        for number, (row, image) in enumerate(zip(rows, images, strict=True))
    ]
    assert answers[7].state is State.LOCALIZED
    assert [answer.matches[0].row for answer in answers[8:]] == pytest.approx(rows[8:], abs=1)
    assert answers[-1].state is State.LOCALIZED


def test_many_weak_images_make_one_strong_belief(localizer: Localizer) -> None:
    rows = list(range(5, 45))
    images = changed(localizer.map.descriptors[rows], 3.0)
    alone = np.argmax(images @ localizer.map.descriptors.T, axis=1)
    assert np.mean(alone == rows) < 0.7  # no image is sure by itself
    settled = [one.matches[0].row for one in drive(localizer, rows, much=3.0)]
    assert np.abs(np.subtract(settled, rows)[8:]).max() <= 1


@BOTH_WAYS
def test_places_that_are_not_in_the_map_give_silence(localizer: Localizer, odometry: bool) -> None:
    for estimate in drive(localizer, unit_rows(50, seed=77), odometry=odometry, much=0.0):
        assert estimate.state is not State.LOCALIZED
        assert estimate.pose is None
        assert estimate.matches  # candidates are shown all the same


@BOTH_WAYS
def test_a_robot_that_is_never_off_the_map_is_never_believed_to_be(localizer: Localizer, odometry: bool) -> None:
    at_home = Localizer(localizer.map, Describes(), LocalizerOptions(off_map_prior=0.0))
    for estimate in drive(at_home, unit_rows(30, seed=77), odometry=odometry, much=0.0):
        assert estimate.standing is not None and estimate.standing.off_map == 0.0
        assert 0.0 <= estimate.probability <= 1.0


def test_images_that_contradict_the_motion_give_silence(localizer: Localizer) -> None:
    scattered = [3, 50, 20, 41, 9, 30, 57, 14]
    assert State.LOCALIZED not in [estimate.state for estimate in drive(localizer, scattered, much=0.0)]


def test_standing_still_adds_no_evidence(localizer: Localizer) -> None:
    image = localizer.map.descriptors[30]
    estimates = [localizer.match(image, number * SECOND, Pose.identity()) for number in range(20)]
    assert {estimate.reject_reason for estimate in estimates} == {RejectReason.UNCONFIRMED}
    assert estimates[0].probability == estimates[-1].probability


def test_standing_still_is_seen_without_odometry_too(localizer: Localizer) -> None:
    estimates = [localizer.match(localizer.map.descriptors[30], number * SECOND // 30) for number in range(20)]
    assert {estimate.reject_reason for estimate in estimates} == {RejectReason.UNCONFIRMED}
    assert estimates[0].probability == estimates[-1].probability


@BOTH_WAYS
def test_two_streets_that_look_alike_are_ambiguous(tmp_path: Path, odometry: bool) -> None:
    street = alike_along_the_way(20, seed=5, width=WIDTH)
    poses = straight_street(20) + [Pose.planar(float(x), 100.0, 0.0) for x in range(20)]
    place_map = write_places(tmp_path / "m.d2map", poses, np.concatenate([street] * 2))
    at_home = LocalizerOptions(off_map_prior=0.0)
    for options in (LocalizerOptions(), at_home):
        estimates = drive(Localizer(place_map, Describes(), options), range(4, 14), odometry=odometry)
        assert all(estimate.state is State.CANDIDATE for estimate in estimates)
        assert {estimate.reject_reason for estimate in estimates} == {RejectReason.AMBIGUOUS}
        assert max(estimate.probability for estimate in estimates) < 0.6


def test_forgetting_starts_anew(localizer: Localizer) -> None:
    assert drive(localizer, range(8))[-1].state is State.LOCALIZED
    localizer.reset()
    assert drive(localizer, [8], first_s=8)[-1].reject_reason is RejectReason.UNCONFIRMED


def test_images_that_stand_alone_know_nothing_of_each_other(localizer: Localizer) -> None:
    single = Localizer(localizer.map, Describes(), SINGLE)
    there_and_elsewhere = drive(single, [30, 3, 50])
    assert {estimate.state for estimate in there_and_elsewhere} == {State.LOCALIZED}
    assert [estimate.matches[0].row for estimate in there_and_elsewhere] == [30, 3, 50]


def test_only_places_that_come_into_question_are_looked_at(localizer: Localizer) -> None:
    descriptor = localizer.map.descriptors[30]
    near = localizer.match(descriptor, 0, restriction=Restriction(Region(50.0, 0.0, 5.0)))
    assert all(45 <= match.row <= 55 for match in near.matches)
    nowhere = localizer.match(descriptor, SECOND, restriction=Restriction(Region(STREET + 10.0, 0.0, 5.0)))
    assert (nowhere.state, nowhere.reject_reason, nowhere.matches) == (State.LOST, RejectReason.OFF_MAP, ())
    assert drive(localizer, range(10, 30), first_s=2)[-1].state is State.LOCALIZED  # the belief is still sound


def test_the_pose_is_that_of_the_base_behind_its_own_camera(localizer: Localizer) -> None:
    mast = Pose.of(0.5, 0.0, 1.2, *FORWARD_MOUNT.quaternion)
    pose = drive(Localizer(localizer.map, Describes(), SINGLE, mast), [30])[0].pose
    assert pose is not None
    assert np.allclose(pose.position, [29.5, 0.0, -1.2], atol=0.1)


def test_a_map_of_another_model_is_refused(tmp_path: Path) -> None:
    other = replace(IDENTITY, weights_sha256="1" * 64)
    foreign = write_places(tmp_path / "m.d2map", straight_street(3), unit_rows(3, seed=1), other)
    with pytest.raises(UserError, match="another model"):
        Localizer(foreign, Describes())


def test_an_answer_is_no_surer_than_the_poses_of_the_map_it_is_made_from(tmp_path: Path) -> None:
    """Of a map whose poses say 9 m east, 4 m north and half a radian, as one from GPS does."""
    stated = np.diag([81.0, 16.0, 100.0, 0.1, 0.1, 0.25])
    looks, answers = alike_along_the_way(STREET, seed=4, width=WIDTH), []
    for name, covariance in (("exact", None), ("gps", stated)):
        place_map = write_places(tmp_path / name, straight_street(STREET), looks, covariance=covariance)
        answers.append(drive(Localizer(place_map, Describes()), range(10, 30))[-1])
    exact, by_gps = answers
    assert exact.covariance is not None and by_gps.covariance is not None
    added = by_gps.covariance - exact.covariance
    assert np.allclose(np.diag(added), np.diag(stated), atol=0.5)  # the robot stands within a metre of its place
    assert np.allclose(added, added.T)
    for answer in answers:
        assert np.linalg.eigvalsh(answer.covariance)[0] > 0


def test_what_is_no_covariance_in_a_strangers_map_says_nothing(tmp_path: Path) -> None:
    looks = alike_along_the_way(STREET, seed=4, width=WIDTH)
    nonsense = np.full((6, 6), np.nan)
    place_map = write_places(tmp_path / "m", straight_street(STREET), looks, covariance=nonsense)
    answer = drive(Localizer(place_map, Describes()), range(10, 30))[-1]
    assert answer.covariance is not None and np.isfinite(answer.covariance).all()


@BOTH_WAYS
def test_a_map_whose_places_share_one_position_tells_how_the_robot_is_turned(tmp_path: Path, odometry: bool) -> None:
    """A robot that turned on the spot while it mapped: no distance between places, so none is divided by."""
    step = np.radians(20)
    turning = [Pose.planar(0.0, 0.0, step * number) for number in range(18)]
    place_map = write_places(tmp_path / "m", turning, alike_along_the_way(18, seed=4, width=WIDTH))
    assert place_map.spacing_m == place_map.header.keyframe_spacing_m == 1.0
    localizer = Localizer(place_map, Describes(), LocalizerOptions(off_map_prior=0.0))
    rows = [number % 18 for number in range(24)]
    estimates = [
        localizer.match(image, number * SECOND, Pose.planar(5.0, 5.0, step * number) if odometry else None)
        for number, image in enumerate(changed(place_map.descriptors[rows], 0.5))
    ]
    assert all(one.is_finite and 0.0 <= one.probability <= 1.0 for one in estimates)
    answered = [(row, one.pose) for row, one in zip(rows, estimates, strict=True) if one.pose is not None]
    assert len(answered) > 12
    assert max(turn(pose, turning[row]) for row, pose in answered) < 1.5 * step


@BOTH_WAYS
def test_a_map_may_show_many_headings_at_each_spot(tmp_path: Path, odometry: bool) -> None:
    """A ring of twelve cameras, or several sessions with several cameras each."""
    headings = np.radians(30 * np.arange(12))
    poses = [Pose.planar(float(x), 0.0, heading) for heading in headings for x in range(20)]
    looks = np.concatenate([alike_along_the_way(20, seed, WIDTH) for seed in range(12)])
    localizer = Localizer(write_places(tmp_path / "m", poses, looks), Describes())
    for first in (0, 220):  # ahead, and a little to the right of it
        localizer.reset()
        heading = poses[first].rotation
        images = changed(looks[first + 2 : first + 18], 0.5)
        motion = Pose(np.zeros(3), heading.as_quat())
        estimates = [
            localizer.match(image, n * SECOND, Pose.planar(float(n), 0.0, 0.0) @ motion if odometry else None)
            for n, image in enumerate(images)
        ]
        assert sum(one.state is State.LOCALIZED for one in estimates) > 10
        for number, one in enumerate(estimates):
            truth = Pose.planar(2.0 + number, 0.0, 0.0) @ motion
            assert one.pose is None or (distance(one.pose, truth) < 1.0 and turn(one.pose, truth) < np.radians(10))


@BOTH_WAYS
def test_places_may_lie_close_here_and_far_apart_there(tmp_path: Path, odometry: bool) -> None:
    """A robot that stood and turned in one corner: half of all places are 2 cm apart, the others 1 m."""
    at = np.concatenate([0.02 * np.arange(40), 1.0 + np.arange(40)])
    poses = [Pose.planar(float(x), 0.0, 0.0) for x in at]
    localizer = Localizer(
        write_places(tmp_path / "m", poses, alike_along_the_way(80, seed=4, width=WIDTH)), Describes()
    )
    rows = range(45, 70)
    estimates = drive(localizer, list(rows), odometry=odometry)
    answered = [(row, one.pose) for row, one in zip(rows, estimates, strict=True) if one.pose is not None]
    assert len(answered) > 15
    assert max(distance(pose, poses[row]) for row, pose in answered) < 1.0


def test_a_descriptor_that_is_no_number_is_no_image(localizer: Localizer) -> None:
    nothing = np.full(WIDTH, np.nan, np.float32)
    estimate = localizer.match(nothing, 0)
    assert (estimate.state, estimate.matches) == (State.LOST, ())
    assert drive(localizer, range(10, 30))[-1].state is State.LOCALIZED


@settings(max_examples=40, deadline=None)
@given(
    seen=st.lists(
        st.tuples(st.integers(0, 90), st.floats(-50, 50), st.floats(-4, 4), st.booleans(), st.integers(-5, 200)),
        max_size=12,
    )
)
def test_whatever_is_seen_probabilities_are_ones_and_answers_are_numbers(
    shared_localizer: Localizer, seen: list[tuple[int, float, float, bool, int]]
) -> None:
    shared_localizer.reset()
    looks = np.concatenate([shared_localizer.map.descriptors, unit_rows(91 - STREET, seed=77)])
    for row, x, yaw, odometry, stamp_s in seen:
        pose = Pose.planar(x, -x, yaw) if odometry else None
        estimate = shared_localizer.match(looks[row], stamp_s * SECOND, pose)
        assert 0.0 <= estimate.probability <= 1.0 and estimate.is_finite
        assert 0.0 <= sum(match.belief for match in estimate.matches) <= 1.0 + 1e-6
        assert (estimate.pose is None) == (estimate.covariance is None) == (estimate.state is not State.LOCALIZED)


@pytest.mark.parametrize("pause_s", [1e3, 1e6, 1.7e9])
def test_a_clock_that_jumps_ahead_breaks_nothing(localizer: Localizer, pause_s: float) -> None:
    """By decades where a simulated clock begins: how far the robot came in between is not known."""
    before, after = localizer.match(localizer.map.descriptors[10], 0), None
    for number in range(14):
        stamp_ns = round(pause_s * SECOND) + number * SECOND
        after = localizer.match(localizer.map.descriptors[40 + number], stamp_ns)
        assert after.is_finite and (np.linalg.eigvalsh(localizer.belief.of.covariances) > 0).all()
    assert before.state is State.CANDIDATE
    assert after is not None and after.state is State.LOCALIZED and after.matches[0].row == 53


@pytest.fixture(scope="module")
def shared_localizer(tmp_path_factory: pytest.TempPathFactory) -> Localizer:
    return street_localizer(tmp_path_factory.mktemp("shared"), STREET)


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


def test_pictures_that_all_resemble_one_place_do_not_add_up_without_odometry(localizer: Localizer) -> None:
    for estimate in drive(localizer, [30] * 60, odometry=False, much=0.5):
        assert estimate.state is not State.LOCALIZED


def test_without_odometry_it_does_not_matter_how_many_images_a_second_come_in(localizer: Localizer) -> None:
    places, wanted = localizer.map.descriptors, np.linspace(10, 30, 401)  # a twentieth of a place on each time
    ahead = (wanted % 1)[:, None]
    floor = wanted.astype(int)
    seen = changed(((1 - ahead) * places[floor] + ahead * places[floor + 1]).astype(np.float32), 0.0)
    estimates = [localizer.match(row, round(number * SECOND / 20)) for number, row in enumerate(seen)]
    late = estimates[200:]
    assert np.mean([estimate.state is State.LOCALIZED for estimate in late]) > 0.9
    off = [abs(one.pose.position[0] - at) for one, at in zip(late, wanted[200:], strict=True) if one.pose is not None]
    assert max(off) < 1.5
