"""The parts of loop closure: the past, runs, the gate, odometry's steps, pieces, and the tables in a map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builds import scene
from hypothesis import given
from hypothesis import strategies as st
from places import IDENTITY, WIDTH, straight_street, unit_rows, write_places

from d2vpr_ros.describe.features import FeatureExtractor
from d2vpr_ros.geometry import FORWARD_MOUNT, Array, Pose
from d2vpr_ros.images.compose import encode_jpeg
from d2vpr_ros.loops.closing import odometry_of, place_of
from d2vpr_ros.loops.closure import Closure, Edge
from d2vpr_ros.loops.consent import expected, same_place
from d2vpr_ros.loops.gate import Gate
from d2vpr_ros.loops.measuring import NO_PICTURE, measure
from d2vpr_ros.loops.odometry import edges_of, is_planar, step_covariance
from d2vpr_ros.loops.params import LoopParams
from d2vpr_ros.loops.past import Past, Place
from d2vpr_ros.loops.pieces import Pieces
from d2vpr_ros.loops.runs import Run, RunFinder
from d2vpr_ros.mapping import Camera, MapHeader, Session, read_map
from d2vpr_ros.mapping.loop_table import KINDS, closure_problem
from d2vpr_ros.mapping.store import NewPlace, create_map
from d2vpr_ros.multiview import PlaceGeometry

CAMERA = Camera("front", 6, 4, FORWARD_MOUNT)
HEADER = MapHeader(IDENTITY, WIDTH, "odom", 1.0)
SECOND = 1_000_000_000


def places(
    bases: list[Pose], session: int = 1, first_id: int = 1, covariances: list[Array] | None = None
) -> list[Place]:
    """One place a second, each with a descriptor of its own."""
    rows = unit_rows(len(bases), seed=first_id)
    return [
        Place(
            first_id + number, session, session, CAMERA, (first_id + number) * SECOND, base @ CAMERA.mount,
            rows[number], None if covariances is None else covariances[number],
        )
        for number, base in enumerate(bases)
    ]  # fmt: skip


def past_of(*drives: list[Place], params: LoopParams | None = None) -> Past:
    past = Past(Path("none.d2map"), HEADER, params or LoopParams())
    for drive in drives:
        for place in drive:
            past.add(place)
    return past


def ring(laps: float, radius_m: float = 20.0) -> list[Pose]:
    """Around a circle, a step a metre."""
    angles = np.arange(0, laps * 2 * np.pi, 1 / radius_m)
    return [Pose.planar(radius_m * np.sin(a), radius_m * (1 - np.cos(a)), a) for a in angles]


def closure(old: int, new: int, pose: Pose, probability: float = 0.999, sigma: float = 0.02) -> Closure:
    return Closure(old, new, pose, sigma**2 * np.eye(6), "metric", probability, 200, 0)


# ---- The past


def test_a_place_is_found_only_once_the_robot_has_gone_on() -> None:
    drive = places(straight_street(60))
    past = past_of(drive)
    assert past.findable == 30  # 59 m less 30
    found = past.candidates(drive[10].descriptor)
    assert found is not None and past.places[int(found.rows[0])].id == drive[10].id
    late = past.candidates(drive[55].descriptor)
    assert late is not None and late.similarities[0] < 0.9


def test_all_of_a_drive_is_found_by_the_next() -> None:
    first = places(straight_street(10))
    past = past_of(first, places(straight_street(1), session=2, first_id=11))
    assert past.findable == 10
    assert past.begins == [True, *[False] * 9, True]


def test_odometry_that_begins_anew_cuts_the_way() -> None:
    away = [Pose.planar(500.0 + step, 0, 0) for step in range(5)]
    past = past_of(places(away + straight_street(5)))
    assert [row for row, begins in enumerate(past.begins) if begins] == [0, 5]
    assert past.findable == 5  # at once: what came before may be where the robot still is
    assert past.way[5] - past.way[4] > 1e6
    edges, _ = edges_of(past)
    assert [(edge.old, edge.new) for edge in edges] == [(1, 2), (2, 3), (3, 4), (4, 5), (6, 7), (7, 8), (8, 9), (9, 10)]


def test_places_are_as_far_apart_as_they_really_are() -> None:
    """One image every 3 m, where one a metre was asked for."""
    assert past_of(places([Pose.planar(3.0 * step, 0, 0) for step in range(60)])).spacing_m == pytest.approx(3.0)
    assert past_of(places([Pose.planar(0.1 * step, 0, 0) for step in range(60)])).spacing_m == HEADER.keyframe_spacing_m


def test_a_robot_that_stands_makes_no_past_of_where_it_is() -> None:
    assert past_of(places([Pose.planar(0, 0, 0.1 * step) for step in range(200)])).findable == 0


def test_what_stands_out_has_a_high_z_and_chance_has_not() -> None:
    drive = places(straight_street(300))
    past = past_of(drive)
    seen, unseen = past.candidates(drive[5].descriptor), past.candidates(unit_rows(1, seed=999)[0])
    assert seen is not None and unseen is not None
    assert seen.z > 6 > 4.5 > unseen.z


def test_a_growing_past_finds_what_one_that_was_there_does() -> None:
    drive = places(straight_street(700))  # the columns grow twice
    past = past_of(drive)
    np.testing.assert_allclose(past.map().descriptors, [place.descriptor for place in drive])
    for row in (0, 255, 256, 600):
        found = past.candidates(drive[row].descriptor)
        assert found is not None and int(found.rows[0]) == row


# ---- Runs


def finder_of(past: Past) -> RunFinder:
    return RunFinder(past, {place.id: row for row, place in enumerate(past.places)})


def test_closures_that_agree_are_one_run() -> None:
    past = past_of(places(ring(1.5)))
    finder, lap = finder_of(past), 126
    runs = [finder.add(closure(1 + step, 1 + lap + step, Pose.planar(0.3, -0.1, 0.02)))[0] for step in range(6)]
    assert len({id(run) for run in runs}) == 1
    assert finder.is_long_enough(runs[0])


def test_a_closure_that_contradicts_is_a_run_of_its_own() -> None:
    past = past_of(places(ring(1.5)))
    finder, lap = finder_of(past), 126
    run, _ = finder.add(closure(1, 1 + lap, Pose.planar(0.3, 0, 0)))
    for wrong in (Pose.planar(2.0, 0, 0), Pose.planar(0.3, 0, np.radians(15))):
        other, _ = finder.add(closure(2, 2 + lap, wrong))
        assert other is not run
    elsewhere, _ = finder.add(closure(60, 3 + lap, Pose.planar(0.3, 0, 0)))
    assert elsewhere is not run and not finder.is_long_enough(run)


def test_a_run_ends_when_the_robot_has_gone_on() -> None:
    past = past_of(places(ring(1.5)))
    finder = finder_of(past)
    run, ended = finder.add(closure(1, 127, Pose.identity()))
    assert ended == []
    _, ended = finder.add(closure(20, 146, Pose.identity()))
    assert ended == [run]


def test_closures_of_places_far_apart_are_a_run_over_as_many_places() -> None:
    """Every third place of a ring: eight metres would be three of them, eight of their spacings are 24 m."""
    past = past_of(places(ring(1.5)[::3]))
    finder, lap = finder_of(past), 42
    first, _ = finder.add(closure(1, 1 + lap, Pose.identity()))
    again, ended = finder.add(closure(6, 6 + lap, Pose.identity()))
    assert again is first and ended == []


def test_one_closure_of_some_spacings_is_given_away() -> None:
    past = past_of(places(ring(1.5)))
    finder = finder_of(past)
    for step in range(10):
        run, _ = finder.add(closure(1 + step, 127 + step, Pose.identity()))
    assert [one.new for one in finder.thinned(run)] == [127, 131, 135]  # chords of a circle are under a metre
    run.kept = finder.thinned(run)
    assert finder.thinned(run) == []


def test_a_run_is_as_sure_as_its_best_closures_together_and_as_it_is_long() -> None:
    sure, unsure = closure(1, 2, Pose.identity(), 0.999), closure(1, 2, Pose.identity(), 0.5)
    assert Run([sure] * 3).probability(10, 40) == pytest.approx(0.999)
    assert Run([sure] * 3 + [unsure] * 9).probability(10, 40) == pytest.approx(0.999)
    assert Run([sure, unsure, unsure]).probability(10, 40) < 0.95
    assert Run([unsure] * 9).probability(120, 40) == pytest.approx(0.75)  # three to one


@given(st.integers(0, 500), st.integers(0, 500))
def test_more_inliers_are_more_probable_and_look_alike_floors_are_not_sure(a: int, b: int) -> None:
    for kind in KINDS:
        low, high = (same_place(kind, inliers) for inliers in sorted((a, b)))
        assert 0 <= low <= high <= 1
        assert same_place(kind, 109) < 0.99


# ---- The gate


def test_a_closure_within_what_drift_allows_passes_and_one_beyond_does_not() -> None:
    gate, params = Gate(), LoopParams()
    gate.step(None)
    for _ in range(100):
        gate.step(Pose.planar(1.0, 0, 0))
    most_m = params.gate_sigmas * (params.gate_m + params.drift * 100)
    for off_m, allowed in ((0.9 * most_m, True), (1.1 * most_m, False)):
        assert gate.allows(0, 100, closure(1, 101, Pose.planar(100 - off_m, 0, 0))) is allowed
    assert not gate.allows(0, 100, closure(1, 101, Pose.planar(100, 0, np.pi)))


def test_what_was_closed_is_sure_again() -> None:
    gate = Gate()
    gate.step(None)
    for _ in range(100):
        gate.step(Pose.planar(1.0, 0, 0))
    gate.accept(0, 100, closure(1, 101, Pose.planar(95, 0, 0)))
    gate.step(Pose.planar(1.0, 0, 0))
    assert gate.allows(0, 101, closure(1, 102, Pose.planar(96, 1, 0)))
    assert not gate.allows(0, 101, closure(1, 102, Pose.planar(80, 0, 0)))


def test_a_drive_that_has_no_frame_in_common_is_not_judged() -> None:
    gate = Gate()
    for move in (None, Pose.planar(1, 0, 0), None, Pose.planar(1, 0, 0)):
        gate.step(move)
    assert gate.allows(0, 3, closure(1, 4, Pose.planar(1000, 0, 0)))
    gate.accept(0, 3, closure(1, 4, Pose.planar(1, 0, 0)))
    gate.step(Pose.planar(1, 0, 0))
    assert not gate.allows(0, 4, closure(1, 5, Pose.planar(1000, 0, 0)))


def test_where_an_aligned_drive_has_to_be_few_places_are() -> None:
    gate = Gate()
    for pose in straight_street(100):
        gate.place(pose)
    gate.place(Pose.planar(50, 1, 0))
    assert gate.chance(100, 100) == pytest.approx(0.05)  # within three metres
    for _ in range(20):
        gate.step(Pose.planar(1, 0, 0))
    assert 0.05 < gate.chance(120, 100) < 0.15  # it may have drifted
    assert expected(0.5, 0.05, 100.0) == pytest.approx(20 / 21)
    gate.step(None)
    assert gate.chance(121, 100) == 1.0


# ---- Steps of the odometry


def walk_of(covariances: list[Array]) -> tuple[list[Edge], bool]:
    return edges_of(past_of(places(straight_street(len(covariances)), covariances=covariances)))


def test_covariances_that_grow_like_a_random_walk_are_taken() -> None:
    edges, stated = walk_of([(0.02**2) * step * np.eye(6) for step in range(20)])
    assert stated
    np.testing.assert_allclose(edges[7].covariance, 0.02**2 * np.eye(6), atol=1e-12)


@pytest.mark.parametrize(
    "covariance",
    [np.zeros((6, 6)), np.full((6, 6), np.nan), 1e-3 * np.eye(6), 1e6 * np.eye(6), -np.eye(6)],
    ids=["zero", "nan", "constant", "huge", "negative"],
)
def test_covariances_that_say_nothing_give_way_to_the_model(covariance: Array) -> None:
    edges, stated = walk_of([covariance] * 20)
    assert not stated
    np.testing.assert_array_equal(edges[0].covariance, step_covariance(edges[0].pose))


def test_the_uncertainty_of_a_whole_way_is_not_taken_for_that_of_a_step() -> None:
    _, stated = walk_of([np.eye(6) * (0.01 + 0.1 * step) ** 2 for step in range(100)])
    assert not stated


def test_a_modelled_step_is_less_sure_along_than_aside() -> None:
    covariance = step_covariance(Pose.planar(0.0, 2.0, 0.0))  # sideways, as some robots go
    assert covariance[1, 1] == pytest.approx((0.02 * 2) ** 2)
    assert covariance[0, 0] == pytest.approx(0.01**2 * 2)
    assert (np.linalg.eigvalsh(step_covariance(Pose.identity())) > 0).all()


def test_only_odometry_on_the_ground_is_planar() -> None:
    flat = ring(1.0)
    assert is_planar(past_of(places(flat)))
    assert not is_planar(past_of(places([*flat[:5], Pose.of(5, 0.5, 0.5, 0, 0, 0, 1)])))
    tilted = [Pose.of(step, 0, 0, 0, np.sin(0.05 * step), 0, np.cos(0.05 * step)) for step in range(5)]
    assert not is_planar(past_of(places(tilted)))


# ---- Pieces


def test_a_closure_puts_a_piece_of_odometry_where_it_belongs(tmp_path: Path) -> None:
    truth = straight_street(20)
    moved = Pose.planar(30, 40, 1.0)
    drifted = truth[:10] + [moved @ pose for pose in truth[10:]]
    place_map = write_places(tmp_path / "a.d2map", drifted, unit_rows(20, 0))
    ids = place_map.ids.tolist()
    edges = [Edge(ids[row], ids[row + 1], Pose.planar(1, 0, 0), 1e-4 * np.eye(6)) for row in range(19) if row != 9]
    link = closure(ids[3], ids[13], Pose.planar(10, 0, 0))
    pieces = Pieces.of(place_map, edges, [link], np.zeros(20, np.bool_))
    assert pieces.count == 1 and np.flatnonzero(pieces.held).tolist() == [0]
    measured = {number: place_map.camera_pose(row) for row, number in enumerate(ids)}
    positions, _ = pieces.start(measured)
    np.testing.assert_allclose(positions, [pose.position for pose in truth], atol=1e-9)


def test_pieces_that_nothing_joins_stay_where_they_are(tmp_path: Path) -> None:
    place_map = write_places(tmp_path / "a.d2map", straight_street(6), unit_rows(6, 0))
    ids = place_map.ids.tolist()
    edges = [Edge(ids[row], ids[row + 1], Pose.planar(1, 0, 0), 1e-4 * np.eye(6)) for row in (0, 1, 3, 4)]
    pieces = Pieces.of(place_map, edges, [], np.zeros(6, np.bool_))
    assert pieces.count == 2 and np.flatnonzero(pieces.held).tolist() == [0, 3]
    positions, _ = pieces.start({number: place_map.camera_pose(row) for row, number in enumerate(ids)})
    np.testing.assert_allclose(positions, place_map.base_poses()[0], atol=1e-9)


def test_places_that_are_held_are_one_piece_and_stay(tmp_path: Path) -> None:
    place_map = write_places(tmp_path / "a.d2map", straight_street(6), unit_rows(6, 0))
    held = np.array([True, True, True, True, False, False])
    ids = place_map.ids.tolist()
    edges = [Edge(ids[4], ids[5], Pose.planar(1, 0, 0), 1e-4 * np.eye(6))]
    pieces = Pieces.of(place_map, edges, [closure(ids[1], ids[4], Pose.planar(3, 0, 0))], held)
    assert pieces.count == 1
    np.testing.assert_array_equal(pieces.held, held)


# ---- What a stranger may have written


NUMBERS = st.one_of(st.floats(), st.integers(), st.none(), st.text(max_size=5), st.binary(max_size=400))


@given(st.tuples(*[NUMBERS] * 9))
def test_whatever_a_closure_holds_is_a_problem_in_words_or_none(row: tuple[object, ...]) -> None:
    problem = closure_problem(row, {1, 2})
    assert problem is None or isinstance(problem, str)


@given(
    st.lists(st.floats(), min_size=7, max_size=7),
    st.lists(st.floats(), min_size=36, max_size=36),
    st.floats(),
    st.floats(),
)
def test_a_closure_without_a_problem_can_be_solved_with(
    pose: list[float], covariance: list[float], probability: float, weight: float
) -> None:
    row = (1, 2, np.array(pose).tobytes(), np.array(covariance).tobytes(), "metric", probability, 30, 1, weight)
    if closure_problem(row, {1, 2}) is None:
        assert np.isfinite(Pose.of(*pose).numbers).all()
        assert np.linalg.eigvalsh(np.reshape(covariance, (6, 6)))[0] > 0


def test_a_right_closure_has_no_problem() -> None:
    pose, covariance = Pose.planar(1, 2, 0.3), 0.01 * np.eye(6)
    row = (1, 2, np.array(pose.numbers).tobytes(), covariance.tobytes(), "metric", 1.0, 30, 1, 0.0)
    assert closure_problem(row, {1, 2}) is None


# ---- Measuring


def test_two_pictures_without_landmarks_tell_the_place_alone(tmp_path: Path) -> None:
    """The old place is the only one of its street with a picture, so nothing can be triangulated there."""
    count = 40
    descriptors = unit_rows(count, seed=0)
    descriptors[-1] = descriptors[0]
    path, jpeg = tmp_path / "street.d2map", encode_jpeg(scene(3, 320, 240))
    with create_map(path, MapHeader(IDENTITY, WIDTH, "odom", 1.0)) as writer:
        session = writer.begin_session(Session("street"))
        camera = writer.add_camera(session, Camera("front", 320, 240, FORWARD_MOUNT))
        for row, base in enumerate(straight_street(count)):
            picture = jpeg if row in (0, count - 1) else None
            writer.add_place(session, camera, NewPlace(row * SECOND, base @ FORWARD_MOUNT, descriptors[row], picture))
    place_map = read_map(path)
    past = Past(path, place_map.header)
    odometry = odometry_of(place_map, np.zeros(count, np.bool_))
    for row in range(count):
        candidates = past.candidates(descriptors[row])
        past.add(place_of(place_map, row, odometry[row + 1]))
    assert candidates is not None and int(candidates.rows[0]) == 0
    geometry = PlaceGeometry(past.map(), FeatureExtractor.open(), way=past.way)
    found = measure(past, geometry, count - 1, candidates)
    assert isinstance(found, Closure)
    assert (found.kind, found.old, found.new) == ("place", 1, count)
    np.testing.assert_allclose(found.pose.numbers, Pose.identity().numbers, atol=1e-9)
    assert np.sqrt(found.covariance[0, 0]) >= 1.0 and np.degrees(np.sqrt(found.covariance[5, 5])) >= 5
    other = measure(past, geometry, count - 2, candidates)
    assert other == NO_PICTURE


def test_places_without_metres_need_a_longer_run() -> None:
    past = past_of(places(ring(1.5)))
    finder, params = finder_of(past), LoopParams()
    for step in range(params.least_run_places):
        alone = Closure(1 + step, 127 + step, Pose.identity(), np.eye(6), "place", 0.999, 200, 0)
        run, _ = finder.add(alone)
        assert finder.is_long_enough(run) is (step + 1 >= params.least_run_places)
