"""What an image says of a place: log-likelihood ratios whose scales are learned from the map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import alike_along_the_way, straight_street, unit_rows, write_places

from d2vpr_ros.geometry import Pose
from d2vpr_ros.localize.evidence import QUALITIES, Background, Evidence, Likelihood, alike_m
from d2vpr_ros.localize.params import DEFAULT_PARAMS
from d2vpr_ros.multiview.place_geometry import Sighting

PLACES = 60


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    path = tmp_path_factory.mktemp("maps") / "m.d2map"
    street = write_places(path, straight_street(PLACES), alike_along_the_way(PLACES, seed=4, width=64))
    return Evidence.of(street, 2.0, DEFAULT_PARAMS)


@given(st.floats(-20, 20), st.floats(0.5, 3))
def test_a_likelihood_rises_with_similarity_and_never_condemns(score: float, scale: float) -> None:
    ratios = Likelihood(scale).log_ratio(np.array([score, score + 0.5, 1e6, -1e6]))
    assert ratios[1] >= ratios[0] >= ratios[3]
    assert ratios[3] >= -np.log(len(QUALITIES)) - 1e-9  # an image may be of no use: it says little against a place
    assert np.isfinite(ratios[2])


@given(st.floats(0.5, 8))
def test_images_of_elsewhere_give_a_mean_likelihood_ratio_of_one(scale: float) -> None:
    """Else so many images that say nothing would add up to something."""
    scores = np.linspace(-10, 20, 20_001)
    chance = np.exp(-(scores**2) / 2) / np.sqrt(2 * np.pi)
    ratios = np.exp(Likelihood(scale).log_ratio(scores))
    assert float((chance * ratios).sum() * (scores[1] - scores[0])) == pytest.approx(1.0, abs=1e-3)


def test_a_place_stands_out_in_a_small_map_about_as_much_as_in_a_large_one() -> None:
    found = []
    for count in (40, 400):
        places = unit_rows(count, seed=3)
        places[18:23] = places[20] + 0.5 * unit_rows(5, seed=4)  # its neighbours look like it
        places /= np.linalg.norm(places, axis=1, keepdims=True)
        positions = np.array([pose.position for pose in straight_street(count)])
        image = places[20] + 0.7 * unit_rows(1, seed=5)[0]
        image /= np.linalg.norm(image)
        mean, deviation = Background.of(places, positions, alike_m=2.0).of_image(image, positions[20])
        found.append((float(places[20] @ image) - mean) / deviation)
    assert found[0] > 0.75 * found[1]  # measured against all places it would be half
    assert found[1] > 5


def test_in_a_map_without_an_elsewhere_all_places_are_the_measure() -> None:
    places, positions = unit_rows(5, seed=1), np.array([pose.position for pose in straight_street(5)])
    image = unit_rows(1, seed=2)[0]
    everything = places @ image
    mean, deviation = Background.of(places, positions, alike_m=50.0).of_image(image, positions[0])
    assert (mean, deviation) == pytest.approx((everything.mean(), everything.std()), abs=1e-4)


def test_places_that_all_look_the_same_are_no_division_by_zero() -> None:
    alike, positions = np.repeat(unit_rows(1, seed=1), 20, axis=0), np.zeros((20, 3))
    background = Background.of(alike, positions, alike_m=1.0)
    assert background.of_image(alike[0], positions[0])[1] > 0
    assert np.isfinite(Likelihood.learned(background, alike, positions, np.array([[0, 1], [1, 2]])).scale)


def test_how_far_places_look_alike_is_read_off_the_map(tmp_path: Path) -> None:
    count = 80
    strangers = unit_rows(count + 12, seed=6)
    alike = np.stack([strangers[row : row + 12].sum(axis=0) for row in range(count)])  # 12 places share something
    alike /= np.linalg.norm(alike, axis=1, keepdims=True)
    near = write_places(tmp_path / "near.d2map", straight_street(count, step_m=0.5), alike)
    assert alike_m(near) == pytest.approx(3.0, abs=0.6)
    alone = write_places(tmp_path / "alone.d2map", straight_street(1), alike[:1])
    assert alike_m(alone) == alone.header.keyframe_spacing_m


def test_how_far_places_look_alike_is_never_nothing(tmp_path: Path) -> None:
    turning = [Pose.planar(0.0, 0.0, 0.3 * number) for number in range(PLACES)]
    spot = write_places(tmp_path / "m.d2map", turning, alike_along_the_way(PLACES, seed=4, width=64))
    assert alike_m(spot) == spot.spacing_m > 0


@given(score=st.floats(-30, 60))
def test_no_single_image_tells_a_place_from_one_that_looks_like_it(evidence: Evidence, score: float) -> None:
    assert abs(float(evidence.likeness(np.array(score)))) <= DEFAULT_PARAMS.most_likeness


def test_an_image_that_is_as_like_as_the_best_by_chance_speaks_against_the_place_itself(evidence: Evidence) -> None:
    by_chance = np.array([evidence.by_chance])
    assert evidence.likeness(by_chance)[0] < 0 < evidence.likeness(by_chance + 2 * DEFAULT_PARAMS.likeness_from)[0]


@given(score=st.floats(-30, 60))
def test_a_place_where_the_robot_is_expected_need_not_stand_out_as_much(evidence: Evidence, score: float) -> None:
    """The most similar of many places is similar by choice; one that motion leads to is not."""
    assert evidence.likeness_held(np.array(score)) >= evidence.likeness(np.array(score))


def test_the_best_by_chance_is_about_what_random_images_reach(evidence: Evidence) -> None:
    best = np.random.default_rng(1).standard_normal((2000, PLACES)).max(axis=1)
    assert np.mean(best < evidence.by_chance) > 0.75
    assert evidence.by_chance == pytest.approx(np.mean(best), abs=0.8)


@given(st.floats(-40, 40), st.floats(0.0, 40.0))
def test_scores_keep_their_order_and_large_ones_count_less(evidence: Evidence, score: float, more: float) -> None:
    low, high = evidence.scores(np.array([score, score + more], np.float32), (0.0, 1.0))
    assert high >= low
    most = DEFAULT_PARAMS.soft_from
    assert low == pytest.approx(score, rel=1e-6) if score <= most else low < score


@given(st.integers(12, 600), st.floats(0.001, 0.999), st.floats(0.0, 1.0), st.floats(0.0, 3.0))
def test_a_better_pose_never_says_less_and_none_says_everything(
    evidence: Evidence, inliers: int, share: float, spread: float, residual_px: float
) -> None:
    one = evidence.of_pose(Sighting(0, inliers=inliers, share=share, spread=spread, residual_px=residual_px))
    for better in (
        Sighting(0, inliers=inliers + 1, share=share, spread=spread, residual_px=residual_px),
        Sighting(0, inliers=inliers, share=share + 1e-3, spread=spread, residual_px=residual_px),
        Sighting(0, inliers=inliers, share=share, spread=spread + 1 / 16, residual_px=residual_px),
        Sighting(0, inliers=inliers, share=share, spread=spread, residual_px=residual_px / 2),
    ):
        assert DEFAULT_PARAMS.absent_ratio <= one <= evidence.of_pose(better) <= DEFAULT_PARAMS.most_pose_ratio


@given(st.integers(0, 600))
def test_more_inliers_of_two_pictures_never_say_less(evidence: Evidence, inliers: int) -> None:
    assert evidence.of_pictures(inliers) <= evidence.of_pictures(inliers + 1) < DEFAULT_PARAMS.most_pose_ratio


def test_of_as_many_inliers_those_all_over_the_picture_say_more_than_those_on_one_facade(evidence: Evidence) -> None:
    """Medians at 34 to 45 inliers of right places, and of places in streets that are not in the map."""
    right = evidence.of_pose(Sighting(0, inliers=39, share=0.139, spread=0.5, residual_px=1.18))
    facade = evidence.of_pose(Sighting(0, inliers=39, share=0.105, spread=0.375, residual_px=1.54))
    assert right - facade > 1.0
    by_chance = evidence.of_pose(Sighting(0, inliers=13, share=0.046, spread=0.25, residual_px=1.44))
    assert by_chance < 1
