"""`map check` finds what is wrong with any row of a map, names the place, and changes nothing."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from places import unit_rows, write_sessions

from d2vpr_ros.cli.main import main
from d2vpr_ros.geodesy import LocalFrame
from d2vpr_ros.geometry import FORWARD_MOUNT
from d2vpr_ros.mapping import Camera, Session, read_map
from d2vpr_ros.mapping.check import check_map
from d2vpr_ros.mapping.store import NewPlace, open_writable

LUND = LocalFrame(55.7, 13.19, 40.0)


@pytest.fixture(scope="module", params=[None, LUND], ids=["metres", "geo-tagged"])
def sound(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "a.d2map"
    return write_sessions(path, ["monday", "tuesday"], 5, ("front", "rear"), request.param).path


@pytest.fixture
def path(sound: Path, tmp_path: Path) -> Path:
    return shutil.copy(sound, tmp_path / "a.d2map")


def problems(path: Path) -> list[str]:
    found: list[str] = []
    check_map(path, lambda problem: found.append(str(problem)))
    return found


def test_places_where_no_vehicle_can_have_been_are_named(path: Path) -> None:
    damage(path, "UPDATE places SET x = x + 5000 WHERE id = 3")
    named = [problem for problem in problems(path) if "too fast for a vehicle" in problem]
    assert [name.split(":")[0] for name in named] == ["place 3", "place 5"]  # there and back, of one camera


def test_a_map_that_stands_where_receivers_have_no_fix_says_so(tmp_path: Path) -> None:
    found = problems(write_sessions(tmp_path / "a", ["monday"], 3, origin=LocalFrame(0.0, 0.0, 0.0)).path)
    assert found[0] == "place 1: its latitude and longitude (0.0, 0.0) are sent by receivers without a fix"
    assert any("the origin of the map is 0 N 0 E" in problem for problem in found)


def damage(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(statement)


def test_a_sound_map_has_no_problems_and_stays_as_it_is(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = path.read_bytes()
    assert main(["map", "check", str(path)]) == 0
    assert "20 places, 20 pictures: no problems" in capsys.readouterr().out
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE descriptors SET descriptor = x'0011' WHERE place = 2", "descriptor is 2 bytes long, 128 expected"),
        ("UPDATE descriptors SET descriptor = zeroblob(128) WHERE place = 2", "descriptor is of length 0"),
        (f"UPDATE descriptors SET descriptor = x'007e{126 * '00'}' WHERE place = 2", "length nan"),
        ("DELETE FROM descriptors WHERE place = 2", "descriptor is missing"),
        ("UPDATE places SET x = 1e300 WHERE id = 2", "pose is not"),
        ("UPDATE places SET qw = qw + 0.1 WHERE id = 2", "quaternion of unit length"),
        ("UPDATE places SET y = 'left' WHERE id = 2", "pose is not"),
        ("UPDATE places SET session = 9 WHERE id = 2", "session 9 is missing"),
        ("UPDATE places SET session = 2 WHERE id = 2", "not of its session 2"),
        ("UPDATE places SET camera = 9 WHERE id = 2", "camera 9 is missing"),
        ("UPDATE places SET stamp = '2020-01-01T00:00:00.000Z' WHERE id = 2", "is not the 2023-11-14T22:13:20.123Z"),
        ("UPDATE places SET stamp_ns = 'noon' WHERE id = 2", "is no time"),
        ("UPDATE places SET stamp_ns = 9223372036854775807 WHERE id = 2", "is not the"),
        ("UPDATE places SET heading = heading + 1 WHERE id = 2", "is not that of its pose"),
        ("UPDATE places SET geom = (SELECT geom FROM places WHERE id = 9) WHERE id = 2", "point on the layer"),
        ("UPDATE places SET geom = NULL WHERE id = 2", "point on the layer"),
        ("UPDATE places SET latitude = 91, longitude = 0 WHERE id = 2", "not on the earth"),
        ("UPDATE places SET altitude = 'high' WHERE id = 2", "no number"),
        ("UPDATE places SET covariance = x'00' WHERE id = 2", "covariance is not 36"),
        ("UPDATE pictures SET jpeg = 'a cat' WHERE place = 2", "no picture"),
        ("UPDATE pictures SET jpeg = x'ffd8ffe0' WHERE place = 2", "no JPEG"),
        ("UPDATE pictures SET jpeg = substr(jpeg, 1, length(jpeg) - 40) WHERE place = 2", "cut off"),
        ("UPDATE pictures SET jpeg = zeroblob(5000000) WHERE place = 2", "of 5000000 bytes"),
        ("DELETE FROM places WHERE id = 2", "descriptors has a row for it"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_named_with_its_place(path: Path, statement: str, said: str) -> None:
    damage(path, statement)
    found = problems(path)
    assert any(problem.startswith("place 2: ") and said in problem for problem in found), found
    assert all(problem.startswith(("place 2: ", "gpkg_contents gives the extent")) for problem in found), found


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE sessions SET complete = 7 WHERE id = 1", "session 1: complete is 7"),
        ("UPDATE cameras SET session = 9 WHERE id = 1", "camera 1: its session 9"),
        ("UPDATE cameras SET k = x'00' WHERE id = 1", "camera 1: k is not nine"),
        ("UPDATE cameras SET qw = 3 WHERE id = 1", "camera 1: its mount"),
        ("UPDATE cameras SET width = 0 WHERE id = 1", "camera 1: its pictures are 0 x 4"),
        ("UPDATE gpkg_contents SET max_x = 1000 WHERE table_name = 'places'", "gives the extent"),
        ("UPDATE gpkg_geometry_columns SET srs_id = 0", "gpkg_geometry_columns"),
        ("DELETE FROM gpkg_contents WHERE table_name = 'sessions'", "does not have sessions as attributes"),
        ("PRAGMA user_version = 5", "user_version is 5"),
        ("DROP TABLE gpkg_spatial_ref_sys", "table gpkg_spatial_ref_sys is missing"),
        ("ALTER TABLE places ADD COLUMN note TEXT", "table places is not as it should be"),
        (
            "CREATE TRIGGER t AFTER INSERT ON places BEGIN DELETE FROM places; END",
            "the trigger 't' is not part of a d2vpr map",
        ),
    ],
)
def test_what_is_wrong_with_the_whole_is_said(path: Path, statement: str, said: str) -> None:
    damage(path, statement)
    assert any(said in problem for problem in problems(path))


def test_a_place_that_its_pose_puts_elsewhere_on_the_earth_is_found(tmp_path: Path) -> None:
    path = write_sessions(tmp_path / "a.d2map", ["monday"], 5, origin=LUND).path
    damage(path, "UPDATE places SET latitude = latitude + 0.001 WHERE id = 3")
    assert any("111.3 m from where its pose is" in problem for problem in problems(path))


def test_damaged_pages_are_problems_not_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_sessions(tmp_path / "a.d2map", ["monday"], 60).path
    with closing(sqlite3.connect(path)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'descriptors'").fetchone()
    content = bytearray(path.read_bytes())
    content[(root - 1) * 4096 : root * 4096] = np.random.default_rng(1).bytes(4096)
    path.write_bytes(content)
    assert main(["map", "check", str(path)]) == 1
    said = capsys.readouterr().out
    assert "the file's pages cannot be read" in said and "place 60: cannot be read" in said
    assert "problems" in said.splitlines()[-1]


def test_what_a_killed_builder_left_is_recovered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_sessions(tmp_path / "a.d2map", ["monday"], 5).path
    child = os.fork()
    if child == 0:
        with open_writable(path) as writer:
            session = writer.begin_session(Session("tuesday", complete=False))
            camera = writer.add_camera(session, Camera("front", 6, 4, FORWARD_MOUNT))
            writer.add_place(session, camera, NewPlace(1, FORWARD_MOUNT, unit_rows(1, seed=3)[0]))
            os._exit(9)  # as if killed: nothing is closed
    os.waitpid(child, 0)
    assert (tmp_path / "a.d2map-wal").stat().st_size
    assert main(["map", "check", str(path)]) == 0
    assert "recovered" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [path] and len(read_map(path)) == 6


def test_what_is_no_map_cannot_be_checked(tmp_path: Path) -> None:
    (tmp_path / "a.d2map").write_bytes(b"<html>" * 1000)
    assert main(["map", "check", str(tmp_path / "a.d2map")]) == 2
    assert main(["map", "check", str(tmp_path / "b.d2map")]) == 2
