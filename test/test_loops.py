"""A drive with nothing but odometry becomes a consistent map: on a simulated loop, through the command."""

from __future__ import annotations

import json
import multiprocessing
import re
import resource
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from builds import a_correction, correct_until_killed
from mapped import build_map
from places import straight_street, unit_rows, write_places

from d2vpr_ros.bags.pose_topics import trajectory_from_bag
from d2vpr_ros.bags.reader import open_bag
from d2vpr_ros.cli.main import main as d2vpr
from d2vpr_ros.describe.features import FeatureExtractor
from d2vpr_ros.errors import UserError
from d2vpr_ros.evaluation.loop_scoring import RIGHT_M
from d2vpr_ros.geometry import Pose, distance, turn
from d2vpr_ros.loops.closing import find_closing, odometry_of
from d2vpr_ros.loops.closure import Closure
from d2vpr_ros.loops.correct import write_correction
from d2vpr_ros.loops.live import LiveLoops
from d2vpr_ros.mapping import PlaceMap, read_map
from d2vpr_ros.mapping.check import check_map
from d2vpr_ros.mapping.database import connect
from d2vpr_ros.mapping.loop_table import read_closures
from d2vpr_ros.mapping.prune import prune_map
from d2vpr_ros.sim.drive import GPS, ODOM, TRUTH, record_drive
from d2vpr_ros.sim.routes import length
from d2vpr_ros.sim.routes import loops as every_loop
from d2vpr_ros.sim.town import build_town

SEED, ROUTE = 546, 30  # a loop of 219 m
LAPS = 1.3
DRIFTING = 26  # of the first thirty sensor seeds the one whose odometry errs most, by 0.7 m


@pytest.fixture(scope="module", autouse=True)
def torch_on_one_thread() -> Iterator[None]:
    """As `one_thread`, for the fixtures of this module, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a drive of one and a quarter laps, and the map of its odometry."""
    folder = tmp_path_factory.mktemp("loop")
    record_drive(
        folder / "bag", SEED, route=ROUTE, laps=LAPS, speed_mps=10.0, rate_hz=3.0, compressed=True, sensor_seed=DRIFTING
    )
    build_map(folder / "bag", folder / "odom.d2map", "--pose-topic", ODOM, "--spacing", "2")
    return folder


@pytest.fixture(scope="module")
def closed(drive: Path) -> Path:
    """That map with its loops closed."""
    path = shutil.copy(drive / "odom.d2map", drive / "closed.d2map")
    assert d2vpr(["map", "close", str(path)]) == 0
    return Path(path)


@pytest.fixture
def odom(drive: Path, tmp_path: Path) -> Path:
    """A copy of that map without closures."""
    return Path(shutil.copy(drive / "odom.d2map", tmp_path / "odom.d2map"))


def truth_of(place_map: PlaceMap, bag: Path) -> list[Pose]:
    """T_map_base at each place."""
    with open_bag(bag) as recording:
        poses = trajectory_from_bag(recording, TRUTH)
    found = [poses.at(int(stamp), 1.0) for stamp in place_map.stamps_ns]
    return [pose for pose in found if pose is not None]


def error_m(place_map: PlaceMap, truth: list[Pose]) -> float:
    """Root mean square distance after the best rigid alignment."""
    a, b = place_map.base_poses()[0], np.stack([pose.position for pose in truth])
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    u, _, v = np.linalg.svd(b.T @ a)
    turned = u @ np.diag([1.0, 1.0, np.linalg.det(u @ v)]) @ v
    return float(np.sqrt(((b - a @ turned.T) ** 2).sum(axis=1).mean()))


def closures_of(path: Path) -> list[Closure]:
    with connect(path) as connection:
        return read_closures(connection, path)


def problems_of(path: Path) -> list[str]:
    found: list[str] = []
    check_map(path, lambda problem: found.append(str(problem)))
    return found


def test_odometry_alone_becomes_a_consistent_map(drive: Path, closed: Path) -> None:
    before, after = read_map(drive / "odom.d2map"), read_map(closed)
    truth = truth_of(before, drive / "bag")
    assert error_m(after, truth) < 0.5 * error_m(before, truth)
    assert problems_of(closed) == []


def test_every_closure_is_right_and_says_how_exact_it_is(drive: Path, closed: Path) -> None:
    place_map, closures = read_map(closed), closures_of(closed)
    truth = dict(zip(place_map.ids.tolist(), truth_of(place_map, drive / "bag"), strict=True))
    assert len(closures) >= 5
    assert_right(closures, truth)
    outside = 0
    for closure in closures:
        true = truth[closure.old].inverse() @ truth[closure.new]
        error = np.concatenate(
            [true.position - closure.pose.position, (true.rotation * closure.pose.rotation.inv()).as_rotvec()]
        )
        outside += error @ np.linalg.solve(closure.covariance, error) > 12.59  # 95 % of six degrees
    assert outside <= 0.2 * len(closures)


def test_a_closed_map_keeps_what_the_odometry_measured_so_that_another_closing_starts_from_it(
    drive: Path, closed: Path
) -> None:
    before, after = read_map(drive / "odom.d2map"), read_map(closed)
    measured = odometry_of(after, np.zeros(len(after), np.bool_))
    for row, number in enumerate(before.ids.tolist()):
        np.testing.assert_allclose(measured[number].pose.numbers, before.camera_pose(row).numbers, atol=1e-12)
        stated = before.covariance(row)
        assert stated is not None
        np.testing.assert_allclose(measured[number].covariance, stated)


def test_two_images_a_second_are_enough(tmp_path: Path) -> None:
    """Places are 4 m apart where one a metre was asked for. Landmarks are fewer and closures less exact, but right."""
    way = min(every_loop(build_town(7)), key=length)
    record_drive(tmp_path / "bag", 7, way=way, laps=1.35, speed_mps=8.0, rate_hz=2.0, compressed=True)
    path = tmp_path / "site.d2map"
    build_map(tmp_path / "bag", path, "--pose-topic", ODOM, "--spacing", "1", "--close-loops")
    place_map, closures = read_map(path), closures_of(path)
    truth = dict(zip(place_map.ids.tolist(), truth_of(place_map, tmp_path / "bag"), strict=True))
    assert len(closures) > 3
    for closure in closures:
        assert distance(truth[closure.old].inverse() @ truth[closure.new], closure.pose) < RIGHT_M


def test_sixty_images_a_second_make_no_more_places_and_close_as_well(drive: Path, closed: Path, tmp_path: Path) -> None:
    fast, path = tmp_path / "fast", tmp_path / "both.d2map"
    record_drive(fast, SEED, route=ROUTE, speed_mps=20.0, rate_hz=60.0, duration_s=2.5, compressed=True, sensor_seed=3)
    build_map(fast, tmp_path / "fast.d2map", "--pose-topic", ODOM, "--spacing", "2")
    begins_there = ["--transform", *["0", "0", "0", "0", "0", "0", "1"], "--close-loops"]
    assert d2vpr(["map", "merge", str(closed), str(tmp_path / "fast.d2map"), "-o", str(path), *begins_there]) == 0
    place_map, before = read_map(path), len(read_map(closed))
    assert len(place_map) - before <= 26  # of 150 images, along 50 m
    new = np.arange(len(place_map)) >= before
    with open_bag(drive / "bag") as one, open_bag(fast) as other:
        paths = [trajectory_from_bag(bag, TRUTH) for bag in (one, other)]
    poses = [paths[int(new[row])].at(int(stamp), 1.0) for row, stamp in enumerate(place_map.stamps_ns)]
    truth = {int(number): pose for number, pose in zip(place_map.ids, poses, strict=True) if pose is not None}
    closures = [one for one in closures_of(path) if one.new in set(place_map.ids[new].tolist())]
    assert len(closures) > 3
    assert_right(closures, truth)


def assert_right(closures: list[Closure], truth: dict[int, Pose]) -> None:
    """Each within 0.3 m, or as exact as it says: one to a place 9 m ahead has a deviation of a metre."""
    for closure in closures:
        true = truth[closure.old].inverse() @ truth[closure.new]
        sigma_m = float(np.sqrt(np.trace(closure.covariance[:3, :3])))
        assert distance(true, closure.pose) < max(0.3, sigma_m) and np.degrees(turn(true, closure.pose)) < 1.5


def test_poses_that_are_no_more_those_of_the_odometry_are_in_a_frame_of_their_own(drive: Path, closed: Path) -> None:
    assert (read_map(drive / "odom.d2map").header.frame, read_map(closed).header.frame) == ("odom", "map")


def test_a_drive_without_loops_leaves_the_map_as_it_is(
    odom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = read_map(odom)
    straight = tmp_path / "straight.d2map"
    prune_map(whole, np.arange(len(whole)) < 0.6 * len(whole), straight)
    before = straight.read_bytes()
    assert d2vpr(["map", "close", str(straight)]) == 0
    assert straight.read_bytes() == before
    assert "no loops found; the map is unchanged" in capsys.readouterr().out


def test_a_session_closes_with_the_one_that_is_held(drive: Path, odom: Path) -> None:
    """The second lap is a drive of its own, aligned with an error of 1.5 m and 2 degrees."""
    whole = read_map(odom)
    truth = truth_of(whole, drive / "bag")
    second = np.arange(len(whole)) >= 0.82 * len(whole)
    wrong = Pose.planar(1.5, -1.0, np.radians(2.0))
    with closing(sqlite3.connect(odom)) as connection, connection:
        connection.execute("INSERT INTO sessions VALUES (2, 'second', '', 1)")
        for row, number in enumerate(whole.ids.tolist()):
            camera = truth[row] @ whole.camera_table[1].mount
            moved = wrong @ camera if second[row] else camera
            connection.execute("UPDATE places SET (x, y, z, qx, qy, qz, qw) = (?, ?, ?, ?, ?, ?, ?) WHERE id = ?",
                (*moved.numbers, number))  # fmt: skip
            if second[row]:
                connection.execute("UPDATE places SET session = 2 WHERE id = ?", (number,))
    found = find_closing(read_map(odom), FeatureExtractor.open(), held=[1])
    assert found.correction is not None
    assert found.correction.rows.tolist() == np.flatnonzero(second).tolist()
    off = [
        float(np.linalg.norm(position - truth[row].position))
        for row, position in zip(found.correction.rows.tolist(), found.correction.positions, strict=True)
    ]
    assert max(off) < 0.3


def test_without_pictures_nothing_is_closed_and_it_says_why(odom: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(sqlite3.connect(odom)) as connection, connection:
        connection.execute("DELETE FROM pictures")
    assert d2vpr(["map", "close", str(odom)]) == 0
    said = capsys.readouterr().out
    assert "no loops found" in said and "no picture that can be read" in said


def test_floors_that_look_alike_are_not_closed(footage: Path, tmp_path: Path) -> None:
    table = tmp_path / "poses.csv"
    rows = ["filename,timestamp,x,y,z,qx,qy,qz,qw"]
    for number, floor in enumerate((10, 12)):
        for step in range(1, 19):
            name = f"floor{floor}/f{floor}_hallway_right_frame_{step:06d}.jpg"
            rows.append(f"{name},{40 * number + step},{0.8 * step + 100 * number},0,0,0,0,0,1")
    table.write_text("\n".join(rows))
    (tmp_path / "k.txt").write_text("520 0 319.5\n0 520 179.5\n0 0 1\n")
    images, bag, path = footage / "ie_tower" / "images", tmp_path / "bag", tmp_path / "tower.d2map"
    words = ["bag", "from-images", str(images), str(table), "-o", str(bag), "--intrinsics", str(tmp_path / "k.txt")]
    assert d2vpr(words) == 0
    build_map(bag, path, "--spacing", "0.5", "--close-loops")
    assert closures_of(path) == []


@pytest.mark.parametrize("word", ["g2o", "tum"])
def test_a_closed_map_is_exported(closed: Path, tmp_path: Path, word: str) -> None:
    out = tmp_path / f"graph.{word}"
    assert d2vpr(["map", "export", str(closed), "-o", str(out)]) == 0
    lines = [line.split() for line in out.read_text().splitlines()]
    places = len(read_map(closed))
    if word == "tum":
        assert len(lines) == places
        return
    kinds = [line[0] for line in lines]
    assert kinds.count("VERTEX_SE3:QUAT") == places
    assert kinds.count("EDGE_SE3:QUAT") == places - 1 + len(closures_of(closed))
    edge = next(line for line in lines if line[0] == "EDGE_SE3:QUAT")
    assert len(edge) == 3 + 7 + 21


def test_a_closed_map_shows_its_loops_and_where_odometry_alone_had_the_places(
    drive: Path, closed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "site.html"
    assert d2vpr(["map", "view", str(closed), "-o", str(page), "--picture-mb", "0"]) == 0
    found = re.search(r'id="data">(.*?)</script>', page.read_text(encoding="utf-8"))
    assert found is not None
    loops = json.loads(found[1])["loops"]
    row_of = {number: row for row, number in enumerate(read_map(closed).ids.tolist())}
    assert loops["closures"] == [[row_of[one.old], row_of[one.new], True] for one in closures_of(closed)]
    before = read_map(drive / "odom.d2map").positions
    np.testing.assert_allclose(np.array(loops["before"]) - loops["before"][0], before - before[0], atol=0.01)
    capsys.readouterr()
    assert d2vpr(["map", "info", str(closed)]) == 0
    assert f"{len(closures_of(closed))} closures at 1 revisits" in capsys.readouterr().out


@pytest.mark.parametrize(("when", "height_m"), [("before", 0.0), ("during", 0.0), ("after", 1.0)])
def test_a_killed_correction_leaves_the_map_as_it_was_or_corrected(tmp_path: Path, when: str, height_m: float) -> None:
    path = tmp_path / "site.d2map"
    before, _ = a_correction(path)
    spawn = multiprocessing.get_context("spawn")
    receive, send = spawn.Pipe(duplex=False)
    process = spawn.Process(target=correct_until_killed, args=(str(path), when, send))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    after = read_map(path)
    np.testing.assert_allclose(after.positions, before.positions + np.array([0, 0, height_m]))
    assert len(closures_of(path)) == (1 if height_m else 0)
    receive.close()


def test_a_full_disk_leaves_the_map_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "site.d2map"
    before, correction = a_correction(path)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))

    try:
        with pytest.raises(UserError, match=r"site\.d2map could not be written any more"):
            write_correction(before, correction, fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    np.testing.assert_array_equal(read_map(path).positions, before.positions)
    assert closures_of(path) == []
    assert problems_of(path) == []


@pytest.fixture(scope="module")
def carried(drive: Path) -> Path:
    """The first 70 m and the second lap: between them the odometry broke off and began anew at its zero."""
    whole, path = read_map(drive / "odom.d2map"), drive / "carried.d2map"
    rows = np.arange(len(whole))
    second = rows >= len(whole) / LAPS
    prune_map(whole, (rows < 35) | second, path)
    zero = whole.base_pose(int(np.flatnonzero(second)[0])).inverse()
    with closing(sqlite3.connect(path)) as connection, connection:
        for row in np.flatnonzero(second).tolist():
            moved = zero @ whole.camera_pose(row)
            connection.execute("UPDATE places SET (x, y, z, qx, qy, qz, qw) = (?, ?, ?, ?, ?, ?, ?) WHERE id = ?",
                (*moved.numbers, int(whole.ids[row])))  # fmt: skip
    return path


def test_where_the_odometry_broke_off_the_robot_finds_itself_in_the_map_that_it_makes(
    drive: Path, carried: Path
) -> None:
    place_map = read_map(carried)
    live = LiveLoops(carried, int(place_map.sessions[0]), FeatureExtractor.open(device="cpu"))
    is_known = []
    for number, (_, closures) in enumerate(live.take_new()):
        if closures or number == 36:
            found = live.correct()
            is_known.append(found is not None and found.map_odom is not None)
    assert is_known[0] is False and all(is_known[1:]) and len(is_known) > 3
    after, truth = live.correct(), truth_of(place_map, drive / "bag")
    assert after is not None and after.closing.pieces == 1
    for row in range(35, len(place_map)):
        old = min(range(35), key=lambda one: distance(truth[one], truth[row]))
        assert distance(after.poses[old].inverse() @ after.poses[row], truth[old].inverse() @ truth[row]) < 0.2


def test_without_camera_info_the_focal_length_comes_from_the_map_and_closures_are_right(
    drive: Path, carried: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copy(carried, tmp_path / "unknown_lens.d2map"))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE cameras SET distortion_model = '', k = NULL, d = NULL")
    place_map = read_map(path)
    closures = find_closing(place_map, FeatureExtractor.open(device="cpu")).closures
    truth = dict(zip(place_map.ids.tolist(), truth_of(place_map, drive / "bag"), strict=True))
    assert len(closures) > 3
    for closure in closures:
        true = truth[closure.old].inverse() @ truth[closure.new]
        assert distance(true, closure.pose) < 0.5 and np.degrees(turn(true, closure.pose)) < 2


def test_a_camera_that_was_turned_round_between_two_laps_closes_nothing(drive: Path, tmp_path: Path) -> None:
    """The second lap looks back along the street that the first one looked down, and its poses do not tell."""
    back = tmp_path / "back"
    record_drive(back, SEED, route=ROUTE, speed_mps=10.0, rate_hz=3.0, duration_s=7.0, compressed=True, reverse=True)
    build_map(back, tmp_path / "back.d2map", "--pose-topic", TRUTH, "--spacing", "2")
    both = tmp_path / "both.d2map"
    turned = ["--transform", *["0", "0", "0", "0", "0", "1", "0"]]
    words = ["map", "merge", str(drive / "odom.d2map"), str(tmp_path / "back.d2map"), "-o", str(both), *turned]
    assert d2vpr(words) == 0
    place_map = read_map(both)
    assert len(set(place_map.sessions.tolist())) == 2
    found = find_closing(place_map, FeatureExtractor.open(device="cpu"), held=[int(place_map.sessions[0])])
    assert found.closures == ()


def test_places_that_are_dropped_take_their_closures_with_them(closed: Path, tmp_path: Path) -> None:
    whole, out = read_map(closed), tmp_path / "part.d2map"
    kept = np.arange(len(whole)) < 0.9 * len(whole)
    prune_map(whole, kept, out)
    assert 0 < len(closures_of(out)) < len(closures_of(closed))
    assert problems_of(out) == []


def test_a_merged_map_keeps_closures_and_odometry(closed: Path, tmp_path: Path) -> None:
    street = tmp_path / "street.d2map"
    whole = read_map(closed)
    write_places(street, straight_street(3), unit_rows(3, 0, whole.descriptors.shape[1]), whole.header.model)
    out = tmp_path / "both.d2map"
    unmoved = ["--transform", *["0", "0", "0", "0", "0", "0", "1"]]
    assert d2vpr(["map", "merge", str(street), str(closed), "-o", str(out), *unmoved]) == 0
    assert [(one.old, one.new) for one in closures_of(out)] == [
        (one.old + 3, one.new + 3) for one in closures_of(closed)
    ]
    assert problems_of(out) == []


@pytest.mark.parametrize(
    ("statement", "values", "named"),
    [
        ("UPDATE closures SET covariance = ? WHERE id = 1", (np.full(36, np.nan).tobytes(),), "not finite"),
        ("UPDATE closures SET covariance = ? WHERE id = 1", ((-np.eye(6)).tobytes(),), "not positive definite"),
        ("UPDATE closures SET covariance = ? WHERE id = 1", ((1e12 * np.eye(6)).tobytes(),), "says 1e+06 metres"),
        ("UPDATE closures SET pose = ? WHERE id = 1", (b"short",), "not seven numbers"),
        ("UPDATE closures SET pose = ? WHERE id = 1", (np.full(7, np.inf).tobytes(),), "nowhere"),
        ("UPDATE closures SET new = 12345 WHERE id = 1", (), "12345, which the map does not have"),
        ("UPDATE closures SET kind = 'sure' WHERE id = 1", (), "'sure'"),
        ("UPDATE closures SET weight = 7 WHERE id = 1", (), "its weight is 7"),
    ],
)
def test_closures_of_a_stranger_are_checked(
    closed: Path, tmp_path: Path, statement: str, values: tuple[bytes, ...], named: str
) -> None:
    path = Path(shutil.copy(closed, tmp_path / "strange.d2map"))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, values)
    assert any("closure 1" in text and named in text for text in problems_of(path))
    with pytest.raises(Exception, match=r"strange.*closure 1 cannot be used"):
        closures_of(path)


def test_odometry_of_a_stranger_is_refused_by_the_place(
    closed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(shutil.copy(closed, tmp_path / "strange.d2map"))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE odometry SET pose = ? WHERE place = 4", (np.full(7, np.nan).tobytes(),))
    assert d2vpr(["map", "close", str(path)]) == 2
    assert "the odometry of place 4 cannot be used" in capsys.readouterr().err


def test_a_map_with_the_poses_of_gps_is_not_bent(
    drive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gps.d2map"
    build_map(drive / "bag", path, "--pose-topic", GPS, "--end", "3")
    assert d2vpr(["map", "close", str(path)]) == 2
    assert "poses from GPS, which does not drift" in capsys.readouterr().err


def test_loops_cannot_be_closed_without_pictures_or_poses(
    drive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["map", "build", str(drive / "bag"), "-o", str(tmp_path / "a.d2map"), "--close-loops", "--no-landmarks"]
    for option in ("--no-pictures", "--no-pose"):
        assert d2vpr([*words, option]) == 2
        assert "--close-loops and" in capsys.readouterr().err
