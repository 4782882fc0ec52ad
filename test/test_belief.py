"""The belief follows the robot, knows when it is off the map, and stays a distribution whatever happens."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from d2vpr_ros.localize.likelihood import Background, Likelihood
from d2vpr_ros.localize.measurement import look, weigh, without_light
from d2vpr_ros.localize.transition import coast, move
from hypothesis import given, settings
from hypothesis import strategies as st
from places import straight_street, unit_rows

from d2vpr_ros.geometry import Pose
from d2vpr_ros.localize.belief import Belief, Places, normalised

Array = npt.NDArray[np.float64]

LIKELIHOOD = Likelihood(2.5)


def places_at(poses: list[Pose], spacing_m: float = 1.0) -> Places:
    positions = np.array([pose.position for pose in poses])
    return Places.of(positions, np.array([pose.rotation.as_matrix() for pose in poses]), spacing_m)


STREET = places_at(straight_street(60))


def seen(belief: Belief, row: int, score: float = 3.0, places: Places = STREET) -> Belief:
    """After an image that resembles one place and nothing else."""
    evidence = look(belief, places, np.array([row]), np.array([score]), LIKELIHOOD, shared=True)
    return weigh(evidence, weight=1.0, new=1.0)


def best(belief: Belief) -> int:
    return int(belief.rows[belief.log_mass.argmax()])


def total(belief: Belief) -> float:
    return float(np.exp(belief.log_mass).sum() + np.exp(belief.rest) + np.exp(belief.off_map))


def test_images_and_motion_that_agree_gather_the_mass() -> None:
    belief = Belief.nothing_known()
    for row in range(10, 20):
        belief = seen(move(belief, STREET, Pose.planar(1.0, 0.0, 0.0), 1.0), row)
    assert best(belief) == 19
    assert np.exp(belief.log_mass[np.abs(belief.rows - 19) <= 3]).sum() > 0.9
    assert np.exp(belief.off_map) < 0.01
    assert belief.mean_fit[belief.log_mass.argmax()] == pytest.approx(3.0, abs=0.01)


def test_what_weighs_nothing_beside_the_answer_is_not_carried_on() -> None:
    street = places_at(straight_street(600))
    belief = Belief.nothing_known()
    for row in range(10, 40):  # which looks like a stretch far off, too, at first
        candidates, scores = np.array([row, 300 + row]), np.array([5.0, 5.0 if row < 12 else 0.0])
        evidence = look(
            move(belief, street, Pose.planar(1.0, 0.0, 0.0), 1.0), street, candidates, scores, LIKELIHOOD, True
        )
        belief = weigh(evidence, weight=1.0, new=1.0)
    lighter = without_light(belief)
    assert len(lighter.rows) < len(belief.rows) / 4
    assert best(lighter) == best(belief) == 39
    assert total(lighter) == pytest.approx(1.0, abs=1e-12)
    assert lighter.log_mass.max() == belief.log_mass.max()


def test_short_steps_add_up() -> None:
    belief = seen(seen(Belief.nothing_known(), 10), 10)
    for _ in range(40):
        belief = move(belief, STREET, Pose.planar(0.1, 0.0, 0.0), 0.1)
    heaviest = belief.log_mass.argmax()
    robot = STREET.positions[belief.rows[heaviest]] + belief.offsets[heaviest]
    assert robot[0] == pytest.approx(14.0, abs=0.7)


def test_images_that_resemble_nothing_take_the_mass_off_the_map() -> None:
    belief = Belief.nothing_known()
    for row in range(10, 20):
        belief = seen(move(belief, STREET, Pose.planar(1.0, 0.0, 0.0), 1.0), row)
    for _ in range(20):
        belief = seen(move(belief, STREET, Pose.planar(1.0, 0.0, 0.0), 1.0), row=0, score=0.0)
    assert np.exp(belief.off_map) > 0.8  # there is always a chance to have come back


def test_driving_past_the_map_s_end_leaves_it() -> None:
    belief = seen(seen(Belief.nothing_known(), 59), 59)
    for _ in range(10):
        belief = move(belief, STREET, Pose.planar(2.0, 0.0, 0.0), 1.0)
    assert np.exp(belief.log_mass).sum() < 0.01


def test_a_place_seen_the_other_way_round_is_not_reached() -> None:
    there = straight_street(30)
    back = [Pose.planar(float(x), 0.0, np.pi) for x in range(30)]
    both = places_at(there + back)
    belief = seen(seen(Belief.nothing_known(), 10, places=both), 10, places=both)
    belief = move(belief, both, Pose.planar(3.0, 0.0, 0.0), 1.0)
    ahead = np.exp(belief.log_mass[np.isin(belief.rows, [12, 13, 14])]).sum()
    oncoming = np.exp(belief.log_mass[belief.rows >= 30]).sum()
    assert ahead > 100 * oncoming


def test_without_odometry_the_mass_spreads_as_far_as_the_robot_can_have_come() -> None:
    belief = coast(seen(seen(Belief.nothing_known(), 30), 30), STREET, seconds=2.0, top_speed_mps=2.0)
    assert set(belief.rows[np.exp(belief.log_mass) > 1e-3]) >= set(range(26, 35))
    assert best(belief) == 30


def test_without_odometry_a_robot_that_drives_on_is_expected_further_on() -> None:
    belief = Belief.nothing_known()
    for number, row in enumerate(range(10, 26, 2)):
        belief = seen(coast(belief, STREET, seconds=1.0, top_speed_mps=4.0) if number else belief, row)
    ahead = coast(belief, STREET, seconds=1.0, top_speed_mps=4.0)
    assert best(ahead) == 26
    assert ahead.speeds[ahead.log_mass.argmax()] == pytest.approx([2.0, 0.0, 0.0], abs=0.2)


def test_several_sessions_of_a_street_share_their_evidence() -> None:
    twice = places_at(straight_street(30) + straight_street(30))
    belief = Belief.nothing_known()
    for row in range(10, 20):
        belief = seen(move(belief, twice, Pose.planar(1.0, 0.0, 0.0), 1.0), row, places=twice)
    gaps = np.linalg.norm(twice.positions[belief.rows] - twice.positions[19], axis=1)
    assert np.exp(belief.log_mass[gaps <= 3]).sum() > 0.9
    assert {19, 49} <= set(belief.rows[np.exp(belief.log_mass) > 0.05])


steps = st.tuples(st.sampled_from(["move", "coast", "see"]), st.floats(-1e4, 1e4), st.floats(0, 1), st.floats(-50, 50))


@settings(max_examples=30, deadline=None)
@given(st.lists(steps, max_size=30), st.integers(1, 70))
def test_whatever_happens_the_masses_add_up_to_one(events: list[tuple[str, float, float, float]], count: int) -> None:
    places = places_at(straight_street(count))
    belief = Belief.nothing_known()
    for kind, metres, moved, score in events:
        if kind == "move":
            belief = move(belief, places, Pose.planar(metres, 0.0, moved), moved)
        elif kind == "coast":
            belief = coast(belief, places, moved, abs(metres))
        else:
            belief = seen(belief, int(abs(metres)) % count, score, places)
        assert np.isfinite(belief.log_mass).all()
        assert np.isfinite(belief.offsets).all()
        assert total(normalised(belief)) == pytest.approx(1.0)
        assert total(belief) == pytest.approx(1.0, abs=0.01)  # negligible flows are left out


def test_nothing_underflows_in_thousands_of_images() -> None:
    belief = Belief.nothing_known()
    for number in range(1000):
        belief = seen(move(belief, STREET, Pose.planar(0.02, 0.0, 0.0), 0.02), number % 60, score=-5.0)
    assert total(belief) == pytest.approx(1.0)
    for row in range(10, 30):  # and the map is found again
        belief = seen(move(belief, STREET, Pose.planar(1.0, 0.0, 0.0), 1.0), row)
    assert best(belief) == 29


@given(st.floats(-20, 20), st.floats(0.5, 3))
def test_a_likelihood_rises_with_similarity_and_never_condemns(score: float, scale: float) -> None:
    ratios = Likelihood(scale).log_ratio(np.array([score, score + 0.5, 1e6, -1e6]))
    assert ratios[1] >= ratios[0] >= ratios[3]
    assert ratios[3] >= -np.log(5) - 1e-9  # an image may be of no use: it says little against a place
    assert np.isfinite(ratios[2])


def test_a_place_stands_out_in_a_small_map_about_as_much_as_in_a_large_one() -> None:
    found = []
    for count in (40, 400):
        places = unit_rows(count, seed=3)
        places[18:23] = places[20] + 0.5 * unit_rows(5, seed=4)  # its neighbours look like it
        places /= np.linalg.norm(places, axis=1, keepdims=True)
        positions = np.array([pose.position for pose in straight_street(count)])
        background = Background.of(places, positions, alike_m=2.0)
        image = places[20] + 0.7 * unit_rows(1, seed=5)[0]
        image /= np.linalg.norm(image)
        found.append(background.standardise(image, places @ image, positions[20])[20])
    assert found[0] > 0.75 * found[1]  # measured against all places it would be half
    assert found[1] > 5


def test_in_a_map_without_an_elsewhere_all_places_are_the_measure() -> None:
    places, positions = unit_rows(5, seed=1), np.array([pose.position for pose in straight_street(5)])
    image = unit_rows(1, seed=2)[0]
    everything = places @ image
    found = Background.of(places, positions, alike_m=50.0).standardise(image, everything, positions[0])
    assert found == pytest.approx((everything - everything.mean()) / everything.std(), abs=1e-4)
