"""Scores of loop closures beside truths that are known, and errors of trajectories beside evo's."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from d2vpr_ros.cli.main import main as d2vpr
from d2vpr_ros.evaluation.loop_scoring import LoopScores, Revisits, score
from d2vpr_ros.evaluation.trajectory_error import absolute_error, relative_errors, step_error
from d2vpr_ros.geometry import Array, Pose
from d2vpr_ros.loops.closure import Closure
from d2vpr_ros.loops.graph import Poses
from models.bench.loops_solver import LAP, drive

PLACES, ROUND = 150, 100  # a metre apart on a circle of 100 m: the last 50 were seen before


def circle(count: int = PLACES, drift: float = 0.0) -> Poses:
    """A robot that goes round, headed along its way; `drift` is the growth of the circle per place."""
    angles = 2 * np.pi * np.arange(count) / ROUND
    radius = ROUND / (2 * np.pi) * (1 + drift * np.arange(count))
    positions = np.stack([radius * np.cos(angles), radius * np.sin(angles), np.zeros(count)], axis=1)
    return Poses(positions, Rotation.from_euler("z", angles + np.pi / 2).as_matrix())


def closure(new: int, old: int, sideways_m: float = 0.0, run: int = 1, weight: float = 1.0) -> Closure:
    """Ids are rows plus 10. The pose is that of the truth, which is none here, but for the error."""
    true = circle().between(np.array([old]), np.array([new]))
    pose = Pose(true.positions[0] + [0, sideways_m, 0], Rotation.from_matrix(true.rotations[0]).as_quat())
    covariance = np.diag([0.05, 0.05, 0.05, 0.01, 0.01, 0.01]) ** 2
    return Closure(old + 10, new + 10, pose, covariance, "metric", 0.99, 40, run, weight)


def scores(closures: list[Closure], closed: set[int]) -> LoopScores:
    truth = circle()
    before, after = circle(drift=0.001), circle(drift=0.0001)
    rest = closures, {place + 10 for place in closed}, 1.0, 30.0, 15.0
    return score(np.arange(PLACES) + 10, truth, truth.rotations, before, after, *rest)


def test_a_place_is_seen_before_if_an_earlier_one_shows_the_same_some_way_ago() -> None:
    truth = circle()
    revisits = Revisits.of(truth, truth.rotations, spacing_m=1.0, least_way_m=30.0)
    assert (np.flatnonzero(revisits.earlier >= 0) == np.arange(99, PLACES)).all()  # of 99, the first is 1 m ahead
    assert revisits.earlier[120] == 20
    assert len(revisits.visits) == 1 and revisits.visit_m[0] == pytest.approx(50, abs=1)
    turned = truth.rotations.copy()
    turned[110:130] = truth.rotations[110:130] @ Rotation.from_euler("z", 180, degrees=True).as_matrix()
    looking_back = Revisits.of(truth, turned, 1.0, 30.0)
    assert [len(visit) for visit in looking_back.visits] == [11, 20]


def test_found_visits_and_closed_places_count_where_a_closure_is_right() -> None:
    numbers = scores([closure(110, 10), closure(113, 13)], set(range(108, 118))).numbers()
    assert (numbers["visits"], numbers["visits_found"], numbers["long_visits_found"]) == (1, 1, 1)
    assert numbers["revisited"] == 51 and numbers["revisited_closed"] == pytest.approx(10 / 51)
    assert (numbers["closures"], numbers["runs"], numbers["wrong_closures"]) == (2, 1, 0)
    assert numbers["closure_precision"] == 1.0 and numbers["closure_coverage_95"] == 1.0
    assert numbers["closing_ms_a_place"] == pytest.approx(100.0)


def test_a_wrong_closure_counts_unless_the_graph_refused_it() -> None:
    wrong = closure(110, 40, run=1)
    wrong = replace(wrong, pose=Pose.identity())  # it says that both are the same place, 30 m apart
    numbers = scores([wrong, closure(130, 30, run=2)], {110, 130}).numbers()
    assert (numbers["wrong_closures"], numbers["wrong_runs"], numbers["closure_precision"]) == (1, 1, 0.5)
    assert numbers["revisited_closed"] == pytest.approx(1 / 51)
    alone = scores([replace(closure(110, 10), weight=0.0), closure(113, 13)], set(range(108, 118))).numbers()
    assert alone["revisited_closed"] == pytest.approx(9 / 51) and alone["runs_refused"] == 0
    refused = scores([replace(wrong, weight=0.0), closure(130, 30, run=2)], {110, 130}).numbers()
    assert (refused["wrong_closures"], refused["runs_refused"], refused["closure_precision"]) == (0, 1, 1.0)


def test_a_truth_outside_the_ellipsoid_is_counted() -> None:
    numbers = scores([closure(110, 10, sideways_m=0.02), closure(120, 20, sideways_m=0.4)], {110}).numbers()
    assert numbers["closure_coverage_95"] == 0.5
    assert numbers["closure_error_m"] == pytest.approx(0.21)


def test_errors_before_and_after_are_of_the_trajectories_and_their_revisits() -> None:
    found = scores([closure(110, 10)], {110})
    numbers = found.numbers()
    after, before = numbers["trajectory_error_after_m"], numbers["trajectory_error_before_m"]
    assert after is not None and before is not None and after < 0.2 * before
    assert numbers["trajectory_error_ratio"] == pytest.approx(after / before)
    # Places at one spot on the true circle are as far apart as the drifting one's radius grew: 10 % of 15.9 m.
    assert found.revisit_errors(found.before)[-1] == pytest.approx(0.1 * ROUND / (2 * np.pi), rel=0.02)


def test_without_loops_there_is_nothing_to_count() -> None:
    numbers = scores([], set()).numbers()
    assert numbers["closures"] == 0 and numbers["closure_precision"] is None and numbers["visits_found"] == 0


def test_trajectory_errors_are_evos() -> None:
    """evo 1.38.1 said so of the same poses (models/bench/evo_reference.py)."""
    graph = drive(LAP + 60, 12, seed=3)
    bent = Poses(graph.start.positions * [1.0, 0.9, 1.0], graph.start.rotations)
    error = absolute_error(bent.positions, graph.start.positions)
    step_m, step_deg = step_error(bent, Poses(graph.start.positions, graph.start.rotations))
    assert [error.rigid_m, error.scaled_m, step_m, step_deg] == pytest.approx(EVO, rel=1e-9)


EVO = [5.496782411303295, 4.208659292724735, 0.08120260903749742, 0.0]


def test_the_alignment_takes_out_a_rigid_motion_and_a_scale() -> None:
    truth = circle()
    moved: Array = 1.2 * truth.positions @ Rotation.from_euler("xyz", [0.3, 0.2, 2.0]).as_matrix() + [5.0, 6.0, 7.0]
    error = absolute_error(moved, truth.positions)
    assert error.scaled_m < 1e-9 and error.scale == pytest.approx(1 / 1.2) and error.rigid_m > 1.0
    off_m, off_deg = relative_errors(truth, truth)
    assert off_m.max() < 1e-12 and off_deg.max() < 1e-5


def test_a_drive_without_loops_is_judged_and_one_without_truth_is_refused(
    short_drive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate-loops", str(short_drive / "noon"), "--spacing", "2", "--json", str(tmp_path / "loops.json")]
    assert d2vpr([*words, "--page", str(tmp_path / "loops.html"), "--csv", str(tmp_path / "loops.csv")]) == 0
    said = capsys.readouterr().out
    assert "poses from /odom, truth: /ground_truth/pose" in said
    assert "0 of 0 visits found" in (tmp_path / "loops.html").read_text(encoding="utf-8")
    assert len((tmp_path / "loops.csv").read_text(encoding="utf-8").splitlines()) == 1
    assert not list(tmp_path.glob("*.d2map"))
    reference = (Path(__file__).parent.parent / "docs" / "reference.md").read_text(encoding="utf-8")
    section = reference.split("### The JSON of `d2vpr evaluate-loops`")[1].split("\n### ")[0]
    assert set(json.loads((tmp_path / "loops.json").read_text(encoding="utf-8"))) <= set(
        re.findall(r"`(\w+)`", section)
    )
    assert d2vpr([*words, "--truth-topic", "/rtk"]) == 2
    assert "has no topic /rtk with true poses; name one with --truth-topic (there are: " in capsys.readouterr().err
    assert d2vpr([*words, "--pose-topic", "/wheel/odom"]) == 2
    assert "no topic /wheel/odom; the bag has " in capsys.readouterr().err
