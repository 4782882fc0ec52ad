"""Whatever comes, the belief stays a distribution, and its motion and its prior are what the mathematics says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypotheses import EVEN, STREET, best, hypotheses_at, places_at, proof_at, seen, total
from hypothesis import given, settings
from hypothesis import strategies as st
from places import straight_street
from scipy.spatial.transform import Rotation
from scipy.special import expit, logit

from d2vpr_ros.geometry import Pose
from d2vpr_ros.localize.belief import NONE, Belief, anywhere, normalised, nothing_known, tidied, unseen
from d2vpr_ros.localize.filter import drifted, moved
from d2vpr_ros.localize.params import DEFAULT_PARAMS
from d2vpr_ros.localize.proving import agreeing, as_usual, begin_at, corrected, surprise, weigh_proof

EXACT = replace(DEFAULT_PARAMS, drift=0.0, drift_turn=0.0, drift_deg=0.0)

small = st.floats(-0.5, 0.5)
motions = st.builds(
    lambda x, y, z, a, b, c: Pose(np.array([x, y, z]), Rotation.from_rotvec([a, b, c]).as_quat()),
    st.floats(-20, 20), st.floats(-5, 5), small, small, small, st.floats(-3, 3),
)  # fmt: skip


@given(first=motions, second=motions, start=motions)
def test_two_motions_are_the_motion_that_they_add_up_to(first: Pose, second: Pose, start: Pose) -> None:
    of = hypotheses_at(start, Pose.identity())
    by_two, at_once = moved(moved(of, first, EXACT), second, EXACT), moved(of, first @ second, EXACT)
    assert np.allclose(by_two.positions, at_once.positions)
    assert np.allclose(by_two.rotations, at_once.rotations)
    assert np.allclose(by_two.covariances, at_once.covariances)
    noisy = moved(moved(of, first, DEFAULT_PARAMS), second, DEFAULT_PARAMS)
    assert np.allclose(noisy.positions, at_once.positions), "noise moves nothing"
    assert (np.linalg.eigvalsh(noisy.covariances - by_two.covariances) > -1e-9).all(), "and makes nothing surer"


@given(motion=motions)
def test_the_covariance_of_a_moved_pose_is_that_of_moved_samples(motion: Pose) -> None:
    """The error's rotation is about the map's axes, so that a turned start moves the end aside."""
    start, deviations = Pose.planar(3.0, 1.0, 0.4), np.diag([0.3] * 3 + [1e-4] * 3)
    of = replace(hypotheses_at(start), covariances=deviations[None] ** 2)
    after = moved(of, motion, EXACT)
    for axis in range(3, 6):
        error = np.zeros(3)
        error[axis - 3] = 1e-4
        turned = Pose(start.position, (Rotation.from_rotvec(error) * start.rotation).as_quat())
        aside = (turned @ motion).position - after.positions[0]
        # A difference is exact to the second order of the error.
        assert after.covariances[0, :3, axis] == pytest.approx(1e-4 * aside, abs=1e-10)


@given(off_map=st.floats(0.0, 1.0), hazards=st.lists(st.floats(0.0, 1.0), max_size=20))
def test_who_knows_nothing_knows_nothing_later(off_map: float, hazards: list[float]) -> None:
    belief = before = nothing_known(off_map)
    for hazard in hazards:
        belief = anywhere(belief, min(hazard, 1 - 1e-9))
    assert np.exp([belief.rest, belief.off_map]) == pytest.approx(np.exp([before.rest, before.off_map]))
    assert total(belief) == pytest.approx(1.0)


@given(off_map=st.floats(0.01, 0.99), hazard=st.floats(1e-4, 0.9), real=st.floats(-50, 50))
def test_no_log_odds_outlast_the_hazard(off_map: float, hazard: float, real: float) -> None:
    of, start = replace(hypotheses_at(Pose.identity()), real=np.array([real])), logit(1 - off_map)
    after = expit(anywhere(Belief(of, -50.0, -50.0, off_map), hazard).of.real[0] + start)
    assert hazard * (1 - off_map) * (1 - 1e-6) <= after <= 1 - hazard * off_map * (1 - 1e-6)
    assert anywhere(Belief(of, -50.0, -50.0, off_map), 0.0).of.real[0] == real


def test_the_prior_of_a_robot_that_never_leaves_the_map_is_sure_and_finite() -> None:
    assert np.isfinite([unseen(nothing_known(0.0)), unseen(nothing_known(1.0))]).all()
    assert unseen(nothing_known(EVEN)) == pytest.approx(0.0)
    assert np.exp(nothing_known(0.0).off_map) == 0.0


angles, chances = st.floats(-3, 3), st.floats(0.0, 1.0)
events = st.lists(
    st.one_of(
        st.tuples(st.just("move"), st.floats(-50, 50), angles, chances),
        st.tuples(st.just("drift"), st.floats(0.0, 20.0), angles, chances),
        st.tuples(st.just("see"), st.floats(0, 200), st.floats(-50, 50), chances),
        st.tuples(st.just("prove"), st.floats(0, 200), st.floats(-10, 10), chances),
        st.tuples(st.just("anywhere"), st.floats(0, 1), st.floats(0, 1), chances),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(events, st.integers(1, 70), st.sampled_from([0.0, 0.3, 0.5]))
def test_whatever_happens_masses_add_up_to_one_and_covariances_are_ones(
    happened: list[tuple[str, float, float, float]], count: int, off_map: float
) -> None:
    places, params = places_at(straight_street(count)), DEFAULT_PARAMS
    belief = nothing_known(off_map)
    for number, (kind, a, b, share) in enumerate(happened):
        if kind == "move":
            belief = replace(belief, of=moved(belief.of, Pose.planar(a, b, b), params))
        elif kind == "drift":
            belief = replace(belief, of=drifted(belief.of, np.array([b, 0.0, 0.0]), a, abs(b), params))
        elif kind == "see":
            belief = seen(belief, {int(a) % count: b, int(3 * a) % count: b / 2}, places, share, first_id=100 * number)
        elif kind == "anywhere":
            belief = anywhere(belief, min(a, 0.999))
        else:
            proof = proof_at(Pose.planar(a, b, 0.1 * b), log_ratio=b)
            which = agreeing(surprise(belief.of, proof))
            of = weigh_proof(belief.of, which, b, share, params, posed=False)
            belief = replace(belief, of=corrected(of, which, proof, share))
            if not which.any():
                belief = begin_at(belief, proof, b, 0.0, 4.0, count, 100 * number)
            belief = tidied(belief, places, params)
        assert total(normalised(belief)) == pytest.approx(1.0)
        check(belief, off_map)


def check(belief: Belief, off_map: float) -> None:
    of = belief.of
    numbers = (of.positions, of.rotations, of.covariances, of.log_mass, of.mapped, of.real, of.images, of.fit)
    assert all(np.isfinite(part).all() for part in numbers)
    assert ((of.mapped >= 0) & (of.mapped <= 1)).all()
    assert len(of) <= DEFAULT_PARAMS.hypotheses + 1 and len(set(of.ids.tolist())) == len(of)
    assert off_map > 0 or np.exp(belief.off_map) == 0.0
    assert np.allclose(of.rotations @ of.rotations.transpose(0, 2, 1), np.eye(3), atol=1e-6)
    largest = np.abs(of.covariances).max(axis=(1, 2), initial=0.0)
    assert np.abs(of.covariances - of.covariances.transpose(0, 2, 1)).max(initial=0.0) <= 1e-9 * largest.max(initial=1)
    assert (np.linalg.eigvalsh(of.covariances) > 0).all()


def test_nothing_underflows_in_hundreds_of_images() -> None:
    belief = nothing_known(EVEN)
    for number in range(400):
        of = moved(belief.of, Pose.planar(0.02, 0.0, 0.0), DEFAULT_PARAMS)
        belief = seen(replace(belief, of=of), {number % 60: -5.0}, new=0.02, first_id=10 * number)
        belief = anywhere(belief, 0.02 * DEFAULT_PARAMS.hazard)
    check(belief, EVEN)
    for number, row in enumerate(range(10, 30)):  # and the map is found again
        of = moved(belief.of, Pose.planar(1.0, 0.0, 0.0), DEFAULT_PARAMS)
        belief = seen(replace(belief, of=of), {row: 4.0}, first_id=10**6 + 10 * number)
    assert best(belief)[0] == pytest.approx(29.0, abs=1.0)


def test_no_hypotheses_are_moved_and_weighed_like_any() -> None:
    of = moved(NONE, Pose.planar(1.0, 0.0, 0.0), DEFAULT_PARAMS)
    belief = tidied(replace(nothing_known(EVEN), of=of), STREET, DEFAULT_PARAMS)
    assert len(belief.of) == 0 and total(belief) == pytest.approx(1.0)


@given(st.integers(12, 2000), st.integers(12, 2000), st.floats(0.0, 1.0))
def test_no_number_of_inliers_says_more_than_its_bounds(usual: int, inliers: int, new: float) -> None:
    of, which = replace(hypotheses_at(Pose.planar(30.0, 0.0, 0.0)), shared=np.log([usual])), np.array([True])
    after = as_usual(of, which, inliers, new, DEFAULT_PARAMS)
    assert np.log(DEFAULT_PARAMS.unusual) * new - 1e-9 <= after.real[0] <= 3.0 * new
    assert min(usual, inliers) - 1e-6 <= np.exp(after.shared[0]) <= max(usual, inliers) + 1e-6
