"""The pose graph: derivatives beside differences, the optimum beside GTSAM's, wrong closures among right ones."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import Array, Pose
from d2vpr_ros.loops.closure import Closure, Edge, Solution
from d2vpr_ros.loops.elimination import Blocks
from d2vpr_ros.loops.elimination import solve as solve_blocks
from d2vpr_ros.loops.graph import Measured, Poses, derivatives, information_of, optimum, residuals
from d2vpr_ros.loops.robust import solve
from models.bench.loops_solver import LAP, Drive, drive

GTSAM = Path(__file__).parent / "data" / "gtsam_graph.npz"


def robustly(graph: Drive, planar: bool = False) -> Solution:
    start = graph.start
    return solve(graph.ids, start.positions, start.rotations, graph.edges, graph.closures, graph.held, planar)


def random_graph(seed: int, turn: float) -> tuple[Poses, Measured]:
    """Four poses anywhere and three measured ones that are up to `turn` radians off."""
    random = np.random.default_rng(seed)
    poses = Poses(random.normal(size=(4, 3)), Rotation.random(4, random_state=random).as_matrix())
    axes = random.normal(size=(3, 3))
    off = Rotation.from_rotvec(turn * axes / np.linalg.norm(axes, axis=1)[:, None]).as_matrix()
    back = poses.rotations[:3].transpose(0, 2, 1)
    roots = random.normal(size=(3, 6, 6))
    information = roots @ roots.transpose(0, 2, 1)
    rows = np.arange(3)
    measured = Measured(rows, rows + 1, random.normal(size=(3, 3)), off @ back @ poses.rotations[1:], information)
    return poses, measured


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), turn=st.sampled_from([0.0, 1e-6, 1e-3, 0.19, 0.21, 1.0, 2.0, 3.0]))
def test_the_derivatives_are_what_differences_show(seed: int, turn: float) -> None:
    poses, measured = random_graph(seed, turn)
    by_first, by_second = derivatives(poses, measured, residuals(poses, measured))
    for ends, stated in ((measured.first, by_first), (measured.second, by_second)):
        for axis in range(6):
            for edge, pose in enumerate(ends):
                tangents: Array = np.zeros((4, 6))
                tangents[pose, axis] = 1e-6
                ahead, behind = residuals(poses.moved(tangents), measured), residuals(poses.moved(-tangents), measured)
                difference = (ahead - behind)[edge] / 2e-6
                assert np.allclose(difference, stated[edge, :, axis], atol=1e-4 * (1 + abs(stated[edge]).max()))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 300), loops=st.integers(0, 30))
def test_eliminating_poses_gives_the_answer_of_the_whole_matrix(seed: int, size: int, loops: int) -> None:
    random = np.random.default_rng(seed)
    pairs = {(row, row + 1) for row in range(size - 1) if random.random() < 0.95}
    pairs |= {tuple(sorted(random.choice(size, 2, replace=False).tolist())) for _ in range(loops if size > 1 else 0)}
    first, second = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2).T
    whole: Array = np.zeros((6 * size, 6 * size))
    beside = random.normal(size=(len(first), 6, 6))
    for row, column, block in zip(first, second, beside, strict=True):
        whole[6 * row : 6 * row + 6, 6 * column : 6 * column + 6] = block
    whole += whole.T + np.diag(40.0 + abs(whole).sum(0) + abs(whole).sum(1))
    right = random.normal(size=(size, 6))
    diagonal = np.array([whole[6 * row : 6 * row + 6, 6 * row : 6 * row + 6] for row in range(size)])
    found = solve_blocks(Blocks(diagonal, first, second, beside), right)
    assert np.allclose(found.ravel(), np.linalg.solve(whole, right.ravel()), atol=1e-9)


def test_the_optimum_is_gtsams() -> None:
    """Stored by `python -m models.bench.loops_solver --gtsam PYTHON --store test/data/gtsam_graph.npz`."""
    graph = drive(LAP + 60, 12)
    with np.load(GTSAM) as stored:
        poses, cost = optimum(graph.start, graph.measured, graph.held)
        assert np.abs(poses.positions - stored["positions"]).max() < 1e-3
        assert cost == pytest.approx(float(stored["cost"]), rel=1e-4)
    assert graph.error(poses.positions) < 0.5 * graph.error(graph.start.positions)


@pytest.mark.parametrize("coherent", [False, True], ids=["random", "one-group"])
def test_a_fifth_of_wrong_closures_is_thrown_out_and_the_right_ones_stay(coherent: bool) -> None:
    graph = drive(2 * LAP, 100, seed=1, wrong=0.2, coherent=coherent)
    solution = robustly(graph)
    kept = solution.weights > 0.5
    assert graph.wrong.sum() >= 15
    assert not (kept & graph.wrong).any()
    assert kept[~graph.wrong].mean() >= 0.95
    assert graph.error(solution.positions) < 0.5 * graph.error(graph.start.positions)


def test_a_run_of_closures_is_refused_as_a_whole() -> None:
    graph = drive(LAP + 100, 20, seed=2)
    wrong = replace(graph.closures[0], old=graph.closures[0].old + 60, run=7)
    right = replace(graph.closures[1], run=7)
    solution = robustly(replace(graph, closures=[wrong, right, *graph.closures[2:]]))
    assert solution.weights[:2].tolist() == [0.0, 0.0]
    assert solution.weights[7] == 0.0  # that drive's run 7 is the same one
    assert solution.weights[8:].all()


def test_one_bad_pose_in_a_run_of_the_right_places_is_refused_alone() -> None:
    graph = drive(LAP + 100, 20, seed=2)
    closures = [replace(one, run=1) for one in graph.closures]
    pose = closures[4].pose @ Pose.planar(0.6, 0.0, 0.0)  # twelve sigmas
    closures[4] = replace(closures[4], pose=pose)
    solution = robustly(replace(graph, closures=closures))
    assert np.flatnonzero(solution.weights < 0.5).tolist() == [4]


def test_held_poses_stay_and_a_second_session_comes_to_them() -> None:
    """The second half of the drive starts 100 m aside, with no edge to the first: closures alone join them."""
    graph = drive(2 * LAP, 60)
    ids = graph.ids + 5  # ids of a map need not begin with 0
    second = ids >= LAP + 5
    positions = graph.start.positions + np.where(second[:, None], [100.0, 20.0, 0.0], 0.0)
    edges = [Edge(one.old + 5, one.new + 5, one.pose, one.covariance) for one in graph.edges if one.new != LAP]
    closures = [replace(one, old=one.old + 5, new=one.new + 5) for one in graph.closures]
    start = positions, graph.start.rotations
    solution = solve(ids, *start, edges, closures, ~second, planar=False)
    assert np.array_equal(solution.positions[~second], positions[~second])
    relative = graph.truth[LAP:] - graph.truth[:LAP]
    assert np.abs(solution.positions[second] - positions[~second] - relative).max() < 6.0


def test_a_planar_robot_stays_in_its_plane() -> None:
    flat = np.diag([1.0, 1.0, 0.0, 0.0, 0.0, 1.0])
    graph = drive(LAP + 100, 20)
    edges = [replace(one, pose=_flat(one.pose), covariance=flat @ one.covariance @ flat) for one in graph.edges]
    start = Poses(graph.start.positions * [1, 1, 0], graph.start.rotations[:1].repeat(len(graph.ids), 0))
    solution = robustly(replace(graph, edges=edges, start=start), planar=True)
    assert np.abs(solution.positions[:, 2]).max() < 0.05
    up = solution.rotations[:, :, 2]
    assert np.degrees(np.arccos(up[:, 2].clip(-1, 1))).max() < 0.5


def test_a_camera_that_nods_does_not_cost_a_planar_robot_its_closures() -> None:
    """The mount is not exactly what it was taken for, so every closure tells of a height and a tilt that are none."""
    flat = np.diag([1.0, 1.0, 0.0, 0.0, 0.0, 1.0])
    graph = drive(LAP + 100, 40, wrong=0.2)
    edges = [replace(one, pose=_flat(one.pose), covariance=flat @ one.covariance @ flat) for one in graph.edges]
    nod = Pose.of(0, 0, -0.2, *Rotation.from_euler("y", -0.8, degrees=True).as_quat())
    closures = [replace(one, pose=_flat(one.pose) @ nod) for one in graph.closures]
    first = Pose(graph.start.positions[0], Rotation.from_matrix(graph.start.rotations[0]).as_quat())
    poses = list(accumulate((edge.pose for edge in edges), Pose.__matmul__, initial=first))
    start = Poses(np.array([one.position for one in poses]), np.array([one.rotation.as_matrix() for one in poses]))
    solution = robustly(replace(graph, edges=edges, closures=closures, start=start), planar=True)
    assert (solution.weights[~graph.wrong] > 0.5).mean() > 0.95
    assert (solution.weights[graph.wrong] < 0.5).all()
    assert np.abs(solution.positions[:, 2]).max() < 0.05


def _flat(pose: Pose) -> Pose:
    x, y, _ = pose.position
    return Pose.planar(x, y, pose.rotation.as_euler("xyz")[2])


def test_a_covariance_in_the_old_places_axes_is_turned_into_the_new_ones() -> None:
    covariance = np.diag([1.0, 4.0, 9.0, 0.1, 0.2, 0.3])
    turned = Rotation.from_euler("z", 90, degrees=True).as_matrix()
    information = information_of(covariance[None], turned[None])[0]
    assert np.allclose(1 / np.diag(information), [4.0, 1.0, 9.0, 0.2, 0.1, 0.3])


def closure(old: int, new: int, covariance: Array) -> Closure:
    return Closure(old, new, Pose.identity(), covariance, "metric", 0.99, 30, run=0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (closure(0, 99, np.eye(6)), "a closure names place 99, which is not among the places of the map"),
        (closure(0, 2, np.full((6, 6), np.nan)), "from place 0 to place 2 has a covariance that is none"),
        (closure(0, 2, -np.eye(6)), "from place 0 to place 2 has a covariance that is none"),
    ],
)
def test_a_closure_that_cannot_be_used_is_named(wrong: Closure, message: str) -> None:
    ids = np.arange(3)
    edges = [Edge(0, 1, Pose.planar(1, 0, 0), np.eye(6)), Edge(1, 2, Pose.planar(1, 0, 0), np.eye(6))]
    positions, rotations = np.zeros((3, 3)), np.eye(3)[None].repeat(3, 0)
    with pytest.raises(UserError, match=message):
        solve(ids, positions, rotations, edges, [wrong], ids == 0, planar=False)


def test_without_closures_nothing_moves() -> None:
    graph = replace(drive(LAP + 60, 1), closures=[])
    solution = robustly(graph)
    assert np.abs(solution.positions - graph.start.positions).max() < 1e-6
