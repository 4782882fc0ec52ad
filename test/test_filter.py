"""The Gaussian-sum filter follows the robot, knows when it is off the map, and goes to what landmarks prove."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypotheses import (
    EVEN,
    LIKELIHOOD,
    SIGMA_M,
    STREET,
    TURN_RAD,
    best,
    drive,
    hypotheses_at,
    likeness,
    mass_about,
    places_at,
    proof_at,
    resembling,
    seen,
    total,
)
from places import straight_street
from scipy.spatial.transform import Rotation

from d2vpr_ros.geometry import Pose
from d2vpr_ros.localize.belief import Belief, anywhere, normalised, nothing_known, tidied, unseen
from d2vpr_ros.localize.filter import Candidates, begin, drifted, moved, nearby, weigh_places
from d2vpr_ros.localize.params import DEFAULT_PARAMS
from d2vpr_ros.localize.proving import Proof, agreeing, as_usual, begin_at, corrected, surprise, weigh_pose, weigh_proof


def test_images_and_motion_that_agree_gather_the_mass() -> None:
    belief = drive(range(10, 20))
    assert best(belief) == pytest.approx([19.0, 0.0, 0.0], abs=0.3)
    assert mass_about(belief, 19.0) > 0.99
    assert np.exp(belief.off_map) < 0.01


def test_of_one_image_every_place_that_resembles_it_is_a_hypothesis() -> None:
    belief = seen(nothing_known(EVEN), {10: 5.0, 40: 5.0})
    assert sorted(belief.of.positions[:, 0]) == [10.0, 40.0]
    assert belief.of.log_mass[0] == pytest.approx(belief.of.log_mass[1])


def test_short_steps_add_up() -> None:
    of = hypotheses_at(Pose.planar(10.0, 0.0, 0.0))
    for _ in range(40):
        of = moved(of, Pose.planar(0.1, 0.0, 0.0), DEFAULT_PARAMS)
    assert of.positions[0, 0] == pytest.approx(14.0)


def test_images_that_resemble_nothing_take_the_mass_off_the_map() -> None:
    belief = drive(range(10, 20))
    for number in range(20, 45):
        of = moved(belief.of, Pose.planar(1.0, 0.0, 0.0), DEFAULT_PARAMS)
        belief = anywhere(replace(belief, of=of), DEFAULT_PARAMS.hazard)
        belief = seen(belief, {0: 0.0}, first_id=100 * number)
    assert np.exp(belief.off_map) > 0.9


def test_past_the_end_of_the_map_nothing_shows_what_is_seen() -> None:
    ends = nearby(hypotheses_at(*(Pose.planar(x, 0.0, 0.0) for x in (59.0, 60.5, 63.0, 80.0))), STREET, DEFAULT_PARAMS)
    assert ends.mapped[:2] == pytest.approx([1.0, 1.0])
    assert ends.mapped[2] < 0.2 and ends.mapped[3] < 1e-12


def test_a_place_that_is_seen_the_other_way_round_is_not_shown() -> None:
    there_and_back = places_at([*straight_street(30), *(Pose.planar(float(x), 0.0, np.pi) for x in range(30))])
    near = nearby(hypotheses_at(Pose.planar(12.0, 0.0, 0.0)), there_and_back, DEFAULT_PARAMS)
    assert near.chances[near.rows < 30].sum() == pytest.approx(1.0)
    across = nearby(hypotheses_at(Pose.planar(12.0, 0.0, np.pi / 2)), there_and_back, DEFAULT_PARAMS)
    assert across.mapped[0] < 1e-12, "two headings are mapped at this spot, and this is neither"


def test_several_headings_at_one_spot_begin_a_hypothesis_each() -> None:
    spot = places_at([Pose.planar(0.0, 0.0, yaw) for yaw in np.radians([0, 90, 180, 270])])
    belief = seen(nothing_known(EVEN), {1: 6.0, 3: 5.9}, spot)
    assert len(belief.of) == 2
    belief = seen(belief, {1: 6.0}, spot, first_id=100)
    heading = Rotation.from_matrix(belief.of.rotations[int(np.argmax(belief.of.log_mass))]).as_euler("zyx")[0]
    assert heading == pytest.approx(np.pi / 2, abs=0.05)


def test_several_sessions_of_a_street_share_one_hypothesis() -> None:
    twice = places_at(straight_street(30) + straight_street(30))
    belief = nothing_known(EVEN)
    for number, row in enumerate(range(10, 16)):
        of = moved(belief.of, Pose.planar(1.0, 0.0, 0.0), DEFAULT_PARAMS) if number else belief.of
        belief = seen(replace(belief, of=of), {row: 4.0, 30 + row: 4.0}, twice, first_id=100 * number)
    assert mass_about(belief, 15.0, within_m=0.5) > 0.99
    assert np.exp(belief.of.log_mass).max() > 0.99


def test_without_odometry_the_pose_spreads_as_far_as_the_robot_can_have_come() -> None:
    of = drifted(hypotheses_at(Pose.planar(30.0, 0.0, 0.0)), np.zeros(3), 2.0, 4.0, DEFAULT_PARAMS)
    spread = np.sqrt(of.covariances[0, 0, 0])
    assert spread == pytest.approx(np.hypot(SIGMA_M, DEFAULT_PARAMS.speed_sigma * 8.0))
    ahead = weigh_places(
        of,
        STREET,
        resembling(of, lambda rows: np.where(rows == 33, 6.0, 0.0), STREET),
        1.0,
        likeness,
        DEFAULT_PARAMS,
        fresh=True,
        witnessed=True,
    )
    assert ahead.positions[0, 0] == pytest.approx(33.0, abs=0.3)


def test_a_descriptor_corrects_a_pose_no_further_than_places_look_different() -> None:
    of = hypotheses_at(Pose.planar(20.4, 0.0, 0.0), position=2.0)
    for _ in range(50):
        of = weigh_places(
            of, STREET, resembling(of, lambda rows: np.where(rows == 20, 8.0, 0.0), STREET), 1.0, likeness,
            DEFAULT_PARAMS, fresh=True, witnessed=True,
        )  # fmt: skip
    values = np.linalg.eigvalsh(of.covariances[0])
    assert values == pytest.approx([TURN_RAD**2] * 3 + [SIGMA_M**2] * 3, rel=1e-6)


def test_a_pose_that_is_more_exact_than_places_look_different_stays_where_it_is() -> None:
    exact = hypotheses_at(Pose.planar(20.4, 0.3, 0.1), position=0.1, heading=0.02)
    after = weigh_places(
        exact,
        STREET,
        resembling(exact, lambda rows: np.full(rows.shape, 5.0), STREET),
        1.0,
        likeness,
        DEFAULT_PARAMS,
        fresh=True,
        witnessed=True,
    )
    assert np.allclose(after.positions, exact.positions) and np.allclose(after.rotations, exact.rotations)
    assert np.allclose(after.covariances, exact.covariances)


def test_two_hypotheses_that_meet_become_one_with_the_mass_of_both() -> None:
    met = hypotheses_at(Pose.planar(20.0, 0.0, 0.0), Pose.planar(20.3, 0.0, 0.0), Pose.planar(45.0, 0.0, 0.0), mass=0.9)
    belief = tidied(Belief(met, np.log(0.05), np.log(0.05)), STREET, DEFAULT_PARAMS)
    assert np.exp(belief.of.log_mass) == pytest.approx([0.6, 0.3])


def test_there_are_no_more_hypotheses_than_there_is_room_for_and_no_mass_is_lost() -> None:
    params = replace(DEFAULT_PARAMS, hypotheses=5)
    many = hypotheses_at(*(Pose.planar(10.0 * step, 0.0, 0.0) for step in range(20)), mass=0.8)
    belief = tidied(Belief(many, np.log(0.1), np.log(0.1)), STREET, params)
    assert len(belief.of) == 5
    assert np.exp(belief.rest) == pytest.approx(0.1 + 0.6)
    assert total(belief) == pytest.approx(1.0)


def test_landmarks_draw_a_hypothesis_to_the_pose_that_they_prove() -> None:
    of = hypotheses_at(Pose.planar(20.0, 0.0, 0.0), Pose.planar(40.0, 0.0, 0.0))
    proof = proof_at(Pose.planar(20.4, 0.8, 0.1))
    which = agreeing(surprise(of, proof))
    assert which.tolist() == [True, False]
    after = corrected(weigh_proof(of, which, proof.log_ratio, 1.0, DEFAULT_PARAMS, posed=True), which, proof, 1.0)
    assert after.positions[0] == pytest.approx([20.4, 0.8, 0.0], abs=0.06)
    assert np.sqrt(np.linalg.eigvalsh(after.covariances[0])[-1]) < 0.1
    assert after.log_mass[0] - after.log_mass[1] == pytest.approx(6.0)
    assert after.real == pytest.approx([6.0 * DEFAULT_PARAMS.pose_weight, 0.0])


def test_what_landmarks_do_not_speak_of_stays_as_it_is() -> None:
    of, proof = hypotheses_at(Pose.planar(20.0, 0.0, 0.0)), proof_at(Pose.planar(50.0, 0.0, 0.0))
    nowhere = agreeing(surprise(of, proof))
    after = corrected(weigh_proof(of, nowhere, proof.log_ratio, 1.0, DEFAULT_PARAMS, posed=True), nowhere, proof, 1.0)
    for name in ("positions", "rotations", "covariances", "log_mass", "real", "mapped"):
        assert np.array_equal(getattr(after, name), getattr(of, name)), name
    assert not agreeing(surprise(of, Proof(-2.2, -2.2))).any()


def test_a_pose_that_no_hypothesis_expects_begins_one() -> None:
    belief = Belief(hypotheses_at(Pose.planar(20.0, 0.0, 0.0), mass=0.5), np.log(0.25), np.log(0.25))
    begun = normalised(begin_at(belief, proof_at(Pose.planar(50.2, 0.5, 0.0)), 20.0, 4.0, 6.0, 60, 7))
    assert begun.of.ids.tolist() == [0, 7]
    assert begun.of.positions[1] == pytest.approx([50.2, 0.5, 0.0])
    assert np.exp(begun.of.log_mass[1]) > 0.99


def test_an_image_that_says_the_same_of_every_place_shares_the_mass_as_before() -> None:
    rows, scores = np.array([10, 25, 40]), np.zeros(3)
    ratio = LIKELIHOOD.log_ratio(scores)
    image = Candidates(rows, scores, ratio, float(ratio[0]))
    after = begin(nothing_known(EVEN), STREET, image, 1.0, 0, likeness, DEFAULT_PARAMS)
    assert np.exp(after.of.log_mass - ratio) == pytest.approx([EVEN / len(STREET)] * 3)
    assert np.exp(after.rest - ratio[0]) == pytest.approx(EVEN * (1 - 3 / len(STREET)))


def test_without_odometry_a_robot_that_drives_on_is_expected_further_on() -> None:
    northward = hypotheses_at(Pose.planar(30.0, 0.0, np.pi / 2))
    assert drifted(northward, np.array([2.0, 0.0, 0.0]), 1.5, 4.0, DEFAULT_PARAMS).positions[0] == pytest.approx(
        [30, 3, 0]
    )


@pytest.mark.parametrize("witnessed", [True, False])
def test_what_looks_alike_without_landmarks_counts_with_the_root_of_the_images(witnessed: bool) -> None:
    of = replace(hypotheses_at(Pose.planar(30.0, 0.0, 0.0)), real=np.array([3.0]))
    near = resembling(of, lambda rows: np.full(rows.shape, 4.0), STREET)
    told = {
        sign: float(
            weigh_places(
                of, STREET, near, 1.0, lambda scores, sign=sign: np.full(scores.shape, sign), DEFAULT_PARAMS,
                fresh=True, witnessed=witnessed,
            ).real[0] - 3.0
        )
        for sign in (1.0, -1.0)
    }  # fmt: skip
    power = DEFAULT_PARAMS.repeats_witnessed if witnessed else 2
    assert told[1.0] == pytest.approx((3**power + 1) ** (1 / power) - 3)
    assert 0 < told[1.0] < 1.0
    assert told[-1.0] == pytest.approx(-1.0), "what speaks against the place counts in full"


def test_a_robot_that_no_hypothesis_explains_is_on_the_map_no_likelier_than_at_the_start() -> None:
    belief = seen(nothing_known(EVEN), {30: 8.0})
    sure = replace(belief, of=replace(belief.of, real=np.full(len(belief.of), 9.0)))
    alike = replace(belief, of=replace(belief.of, real=np.full(len(belief.of), -9.0)))
    assert unseen(alike) < unseen(sure) <= unseen(nothing_known(EVEN)), "look-alikes make a place of the map unlikely"


def test_a_pose_that_fits_a_hypothesis_badly_speaks_for_it_less() -> None:
    of = hypotheses_at(Pose.planar(30.0, 0.0, 0.0))
    proofs = [proof_at(Pose.planar(30.0 + aside, 0.0, 0.0)) for aside in (0.0, 1.0, 1.8, 2.3, 20.0)]
    told = [
        float(weigh_pose(of, np.array([True]), proof, surprise(of, proof), 1.0, DEFAULT_PARAMS).real[0])
        for proof in proofs
    ]
    assert told[0] == told[1] > told[2] > told[3] > told[4]
    assert told[4] == pytest.approx(DEFAULT_PARAMS.absent_ratio * told[0] / 6.0), "as much against it as no pose"


def test_a_pose_with_fewer_inliers_than_the_images_before_it_speaks_against_the_place() -> None:
    of, which = hypotheses_at(Pose.planar(30.0, 0.0, 0.0)), np.array([True])
    first = as_usual(of, which, 120, 1.0, DEFAULT_PARAMS)
    assert first.real[0] == of.real[0], "nothing is known of the light yet"
    told = {
        inliers: float(as_usual(first, which, inliers, 1.0, DEFAULT_PARAMS).real[0])
        for inliers in (12, 20, 90, 120, 150)
    }
    assert told[120] == pytest.approx(told[150]) and told[120] > told[90] > 0
    assert told[20] == pytest.approx(np.log(DEFAULT_PARAMS.unusual), abs=0.1)
    assert told[12] == pytest.approx(told[20], abs=0.1)


def test_the_usual_number_of_inliers_follows_the_scene_and_not_one_look_alike() -> None:
    of, which = hypotheses_at(Pose.planar(30.0, 0.0, 0.0)), np.array([True])
    for inliers in (120, 112, 104, 97, 90, 84, 78, 72, 67):
        before, of = of, as_usual(of, which, inliers, 1.0, DEFAULT_PARAMS)
        assert of.real[0] >= before.real[0], f"{inliers} are what a camera sees that leaves a wall"
    after = as_usual(of, which, 20, 1.0, DEFAULT_PARAMS)
    assert after.real[0] < of.real[0] and np.exp(after.shared[0]) > 60
