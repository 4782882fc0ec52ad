"""The figures of models/bench/geometry.py: beside a count by hand, and once from footage to the printed table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from d2vpr_ros.geometry import FORWARD_MOUNT, Pose
from d2vpr_ros.localize.verification import Verification
from d2vpr_ros.multiview import Sighting
from models.bench.geometry import main
from models.bench.geometry_answers import Answer, count_within, pose_figures, right_inliers, turn_deg
from models.bench.geometry_cost import array_bytes
from models.bench.geometry_ranking import Ranked, answered_share, of_answers, ranking_figures

TRUTH = Pose.planar(0.0, 0.0, 0.0) @ FORWARD_MOUNT
NOTHING = Verification()
LIMIT = 5.991  # of chi square with two degrees of freedom at 95 %


def standing(x: float, y: float, yaw_deg: float = 0.0, z: float = 0.0) -> Pose:
    return Pose.planar(x, y, np.radians(yaw_deg), z) @ FORWARD_MOUNT


def sighting(pose: Pose | None, inliers: int, sigma_m: float = 1.0) -> Sighting:
    covariance = None if pose is None else np.diag([sigma_m**2] * 3 + [1e-4] * 3)
    return Sighting(0, (0,), inliers, pose=pose, covariance=covariance)


def answer(*seen: tuple[Sighting, Pose], by_sift: Verification = NOTHING) -> Answer:
    sightings, places = zip(*seen, strict=True)
    return Answer(TRUTH, sightings, places, by_sift, (0, 1), 10.0, ((3, 0.5),), ((0, np.inf),))


def test_an_image_is_answered_by_the_group_with_a_pose_and_most_inliers() -> None:
    near, far = standing(1.5, 0.0), standing(40.0, 0.0)
    right, wrong = sighting(standing(0.2, 0.0), 20), sighting(standing(41.0, 0.0), 30)
    one = answer((right, near), (wrong, far), (sighting(None, 90), near))
    assert one.chosen is one.sightings[1]
    assert one.right == (True, False, True)
    assert right_inliers([one]) == [20]
    assert answer((sighting(None, 90), near)).chosen is None


def test_errors_and_ellipses_of_poses_are_those_counted_by_hand() -> None:
    place = standing(0.0, 1.5, 4.0)
    turned = Verification(60, 80, place.rotation.inv() * TRUTH.rotation)
    answers = [
        answer((sighting(standing(0.3, 0.4, 1.0, z=9.0), 50, 0.5), place), by_sift=turned),  # the height doesn't count
        answer((sighting(standing(0.0, 1.0, -3.0), 50, 0.1), place)),  # ten deviations off
        answer((sighting(None, 50), place)),
    ]
    found = pose_figures(answers)
    assert (found.images, found.answered, found.inside) == (3, pytest.approx(2 / 3), 0.5)
    assert (found.median_m, found.turn_deg) == (pytest.approx(0.75), pytest.approx(2.0))
    assert (found.place_m, found.place_deg) == (pytest.approx(1.5), pytest.approx(4.0))
    assert found.axis_ratio == pytest.approx(np.sqrt(LIMIT) * 0.3 / 0.75, rel=1e-3)
    assert (found.sift_told, found.sift_deg) == (pytest.approx(1 / 3), pytest.approx(0.0, abs=1e-6))
    assert [count_within(answers, limit) for limit in (0.4, 0.6, 2.0)] == [0, 1, 2]


def test_without_a_single_pose_there_is_nothing_to_count() -> None:
    found = pose_figures([answer((sighting(None, 7), standing(0.0, 1.5)))])
    assert found.answered == 0 and np.isnan([found.median_m, found.inside, found.axis_ratio, found.sift_deg]).all()


@given(a=st.floats(-180, 180), b=st.floats(-180, 180))
def test_headings_differ_by_at_most_half_a_turn_and_a_roll_is_none(a: float, b: float) -> None:
    off = abs((a - b + 180) % 360 - 180)
    rolled = standing(0, 0, b) @ Pose(np.zeros(3), Rotation.from_euler("z", 0.3).as_quat())
    assert turn_deg(standing(0, 0, a), standing(0, 0, b), (0, 1)) == pytest.approx(off, abs=1e-6)
    assert turn_deg(standing(0, 0, a), rolled, (0, 1)) == pytest.approx(off, abs=1e-6)
    assert turn_deg(standing(0, 0, a), standing(0, 0, b), (0, 1, 2)) == pytest.approx(off, abs=1e-5)


def test_rivals_are_those_elsewhere() -> None:
    places = np.array([[0.0], [50.0], [52.0], [9.0]])
    one = Ranked(np.array([30, 80, 70, 10]), np.array([True, False, False, False]), places, 5.0)
    assert (one.best, one.margin) == (1, 50)
    alone = Ranked(np.array([30]), np.array([True]), np.array([[0.0]]), 5.0)
    assert alone.margin == 30
    figures = ranking_figures([one, alone])
    assert (figures.by_descriptor, figures.by_inliers) == (1.0, 0.5)
    assert (figures.answered_99, figures.answered_100) == (0.0, 0.0)  # the wrong one has the larger margin


def test_without_a_pose_inliers_count_only_where_they_are_asked_for() -> None:
    one = answer((sighting(standing(0, 0), 20), standing(1, 0)), (sighting(None, 60), standing(40, 0)))
    posed, mixed = of_answers([one]), of_answers([one], mixed=True)
    assert (posed[0].inliers.tolist(), mixed[0].inliers.tolist()) == ([20, 0], [20, 60])


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=30), st.sampled_from([0.5, 0.9, 1.0]))
def test_the_answered_share_is_the_largest_of_all_thresholds(images: list[tuple[int, bool]], precision: float) -> None:
    shares = [0.0]
    for limit in range(1, 9):  # without a single inlier more than elsewhere there is no answer
        answered = [right for score, right in images if score >= limit]
        if answered and sum(answered) >= precision * len(answered):
            shares.append(len(answered) / len(images))
    scores, right = (np.array(part) for part in zip(*images, strict=True))
    assert answered_share(scores, right, precision) == max(shares)


def test_the_arrays_of_what_is_kept_are_counted() -> None:
    assert array_bytes(Sighting(3, covariance=np.eye(6), landmarks=np.zeros((5, 3)))) == 36 * 8 + 15 * 8


def test_real_images_are_asked_for_and_their_errors_are_printed(
    footage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--folder", str(tmp_path), "--footage", str(footage), "--only", "campus", "--queries", "2"])
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| not known |"))
    cells = [cell.strip() for cell in row.split("|")]
    assert cells[2] == "2"
    assert 2.5 < float(cells[9].removesuffix(" m")) < 3.5  # to the place: images are 3 m apart


def test_footage_that_is_asked_for_must_be_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--folder", str(tmp_path), "--only", "room", "towns"])
    assert "room: needs --footage" in capsys.readouterr().err
