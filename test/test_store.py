"""A map file is a GeoPackage, can be read from anywhere, and loses nothing when writing it goes wrong."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from places import IDENTITY, WIDTH, straight_street, unit_rows, write_places

from d2vpr_ros.errors import UserError
from d2vpr_ros.geodesy import LocalFrame
from d2vpr_ros.geometry import FORWARD_MOUNT, Pose
from d2vpr_ros.mapping import Camera, MapHeader, Session, read_map
from d2vpr_ros.mapping.store import NewPlace, create_map, open_writable
from d2vpr_ros.outfile import new_file

LUND = LocalFrame(55.7, 13.19, 40.0)
NOBODY = 65534
NOON_NS = 1_700_000_000_123_456_789


def write_geo_map(path: Path, count: int = 5, origin: LocalFrame | None = LUND) -> None:
    """Places a metre apart towards the east, looking along the way, seen by a camera with known intrinsics."""
    header = MapHeader(IDENTITY, WIDTH, "map", 1.0, origin, geo_tagged=origin is not None)
    descriptors = unit_rows(count, seed=1)
    with create_map(path, header) as writer:
        session = writer.begin_session(Session("monday <morning>", "bag:1", complete=False))
        k = (300.0, 0.0, 160.0, 0.0, 300.0, 120.0, 0.0, 0.0, 1.0)
        camera = writer.add_camera(session, Camera("front", 320, 240, FORWARD_MOUNT, k, "plumb_bob", (0.1, 0.0)))
        for number, base in enumerate(straight_street(count)):
            covariance = np.diag([0.1, 0.2, 0.3, 0.4, 0.5, 0.6 + number])
            place = NewPlace(NOON_NS + number, base @ FORWARD_MOUNT, descriptors[number], b"", None, covariance)
            writer.add_place(session, camera, place)


def test_everything_known_about_a_drive_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "street.d2map"
    write_geo_map(path)
    read = read_map(path)
    assert read.header.origin == LUND and read.header.geo_tagged and read.header.metric
    assert list(read.session_table.values()) == [Session("monday <morning>", "bag:1", complete=False)]
    (camera,) = read.camera_table.values()
    assert (camera.name, camera.k, camera.distortion_model, camera.d) == (
        "front", (300, 0, 160, 0, 300, 120, 0, 0, 1), "plumb_bob", (0.1, 0.0),
    )  # fmt: skip
    covariance = read.covariance(2)
    assert covariance is not None and np.allclose(np.diag(covariance), [0.1, 0.2, 0.3, 0.4, 0.5, 2.6])
    assert read.stamps_ns.tolist() == [NOON_NS + number for number in range(5)]


def test_a_map_with_an_origin_tags_places_that_bring_no_position_on_the_earth(tmp_path: Path) -> None:
    path = tmp_path / "street.d2map"
    write_geo_map(path)
    assert np.allclose(LUND.to_enu(read_map(path).geo)[:, 0], range(5), atol=1e-6)


def test_gdal_reads_a_geo_tagged_map_as_points_on_the_earth(tmp_path: Path) -> None:
    pyogrio = pytest.importorskip("pyogrio", reason="GDAL's reader is not installed: pip install pyogrio")
    path = tmp_path / "street.gpkg"
    write_geo_map(path)
    assert [str(name) for name, _ in pyogrio.list_layers(path)] == ["places", "sessions"]
    information = pyogrio.read_info(path, layer="places")
    assert (information["crs"], information["geometry_type"], information["features"]) == ("EPSG:4326", "Point", 5)
    read = read_map(path)
    assert np.allclose(
        information["total_bounds"], [*read.geo[:, [1, 0]].min(axis=0), *read.geo[:, [1, 0]].max(axis=0)]
    )
    meta, _, geometries, columns = pyogrio.raw.read(path, layer="places")
    table = dict(zip(meta["fields"], columns, strict=True))
    assert {"session", "camera", "stamp", "heading", "altitude"} <= set(table)
    assert np.allclose(table["heading"], 90.0)  # the camera looks east
    assert np.allclose(table["altitude"], 40.0, atol=1e-3)
    assert str(table["stamp"][0]).startswith("2023-11-14T22:13:20.123")
    longitude, latitude = np.frombuffer(geometries[4][5:21], "<f8")
    assert (latitude, longitude) == pytest.approx(read.geo[4, :2])


def test_gdal_reads_a_map_without_geo_tags_in_metres(tmp_path: Path) -> None:
    pyogrio = pytest.importorskip("pyogrio", reason="GDAL's reader is not installed: pip install pyogrio")
    path = tmp_path / "street.gpkg"
    write_geo_map(path, origin=None)
    information = pyogrio.read_info(path, layer="places")
    assert information["total_bounds"] == pytest.approx((0, 0, 4, 0))
    assert "4326" not in str(information["crs"])


def test_a_map_on_a_read_only_medium_is_read_by_a_user_who_may_not_write() -> None:
    if os.geteuid() != 0:
        pytest.skip("takes root to become another user")
    with tempfile.TemporaryDirectory() as folder_name:  # pytest's own folders are closed to other users
        folder = Path(folder_name)
        write_geo_map(folder / "street.d2map")
        folder.chmod(0o555)
        child = os.fork()
        if child == 0:  # no exec: the interpreter itself may lie where the other user cannot read
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os._exit(0 if len(read_map(folder / "street.d2map")) == 5 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert [file.name for file in folder.iterdir()] == ["street.d2map"]


def test_an_unclosed_map_on_a_read_only_medium_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_geo_map(tmp_path / "street.d2map")
    (tmp_path / "street.d2map-wal").write_bytes(b"a writer's log")
    may_write = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: False if mode == os.W_OK else may_write(path, mode)
    )  # root may write everywhere
    with pytest.raises(UserError, match=r"d2vpr map check street\.d2map"):
        read_map(tmp_path / "street.d2map")


WRITE_UNTIL_FULL = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from places import WIDTH, straight_street, unit_rows
from d2vpr_ros.errors import UserError
from d2vpr_ros.mapping import read_map
from d2vpr_ros.mapping.store import NewPlace, open_writable

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
path = Path(sys.argv[1])
try:
    with open_writable(path) as writer:
        for row, pose in enumerate(straight_street(2000)):
            writer.add_place(1, 1, NewPlace(row, pose, unit_rows(1, row)[0], bytes(2000)))
            print(row, flush=True)
except UserError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
"""


def test_a_full_disk_keeps_every_place_that_was_stored_before(tmp_path: Path) -> None:
    path = tmp_path / "street.d2map"
    write_geo_map(path)
    command = [sys.executable, "-c", WRITE_UNTIL_FULL, str(path), str(Path(__file__).parent)]
    written = subprocess.run(command, capture_output=True, text=True, check=False)
    assert written.returncode == 2, written.stderr
    assert "free some space" in written.stderr and written.stderr.count("\n") == 1
    reported = len(written.stdout.split())
    assert reported > 5
    assert len(read_map(path)) == 5 + reported
    with open_writable(path) as writer:  # with space again the next build goes on
        writer.add_place(1, 1, NewPlace(9, Pose.identity(), unit_rows(1, 9)[0]))
    assert len(read_map(path)) == 6 + reported


@pytest.mark.parametrize("name", ["sessions", "places", "descriptors", "d2vpr_meta"])
def test_a_damaged_page_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "street.d2map"
    write_places(path, straight_street(50), unit_rows(50, seed=1))
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xa5" * size)
    with pytest.raises(UserError, match="damaged"):
        read_map(path)


def test_a_descriptor_of_another_length_is_not_stored(tmp_path: Path) -> None:
    path = tmp_path / "street.d2map"
    write_geo_map(path)
    with open_writable(path) as writer:
        with pytest.raises(ValueError, match="shape"):
            writer.add_place(1, 1, NewPlace(1, Pose.identity(), unit_rows(1, 1, width=32)[0]))
        with pytest.raises(ValueError, match="not finite"):
            writer.add_place(1, 1, NewPlace(1, Pose.identity(), np.full(WIDTH, np.nan, np.float32)))
    assert len(read_map(path)) == 5


def test_a_map_that_another_builder_writes_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "street.d2map"
    write_geo_map(path)
    monkeypatch.setattr("d2vpr_ros.mapping.store._BUSY_S", 0.1)
    with open_writable(path) as first:
        first.connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(UserError, match="locked"), open_writable(path) as second:
            second.begin_session(Session("tuesday"))
        first.connection.execute("ROLLBACK")
    assert len(read_map(path).session_table) == 1


def test_a_folder_that_cannot_be_written_to_is_named_before_the_work_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root, who runs this in containers, may write anywhere
    with pytest.raises(UserError, match="cannot be written: the folder"), new_file(tmp_path / "x.json", force=False):
        pytest.fail("the work was begun")
