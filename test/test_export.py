"""What leaves a map for other programs comes back from them as it was."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from places import IDENTITY, WIDTH, straight_street, unit_rows, write_places, write_sessions

from d2vpr_ros.bags.pose_file import read_pose_file
from d2vpr_ros.bags.pose_table import read_pose_table
from d2vpr_ros.cli.main import main as d2vpr
from d2vpr_ros.geodesy import LocalFrame
from d2vpr_ros.geometry import FORWARD_MOUNT, Pose
from d2vpr_ros.mapping import Camera, MapHeader, PlaceMap, Session, read_map
from d2vpr_ros.mapping.store import NewPlace, create_map

LUND = LocalFrame(55.7, 13.19, 40.0)
HOSTILE = "mon\"day,\n=cmd|'/c calc'!A1</script><b>"


@pytest.fixture
def town(tmp_path: Path) -> PlaceMap:
    return write_sessions(tmp_path / "town.d2map", [HOSTILE, "tuesday"], 4, origin=LUND)


def export(place_map: PlaceMap, name: str, *options: str) -> Path:
    out = place_map.path.with_name(name)
    assert d2vpr(["map", "export", str(place_map.path), "-o", str(out), *options]) == 0
    return out


def refusal(capsys: pytest.CaptureFixture[str], place_map: PlaceMap, name: str, *options: str) -> str:
    arguments = ["map", "export", str(place_map.path), "-o", str(place_map.path.parent / name), *options]
    assert d2vpr(arguments) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    return message


def test_geojson_has_a_point_on_the_earth_for_each_place(town: PlaceMap) -> None:
    collection = json.loads(export(town, "town.geojson").read_text(encoding="utf-8"))
    assert collection["type"] == "FeatureCollection" and len(collection["features"]) == 8
    feature = collection["features"][3]
    latitude, longitude, altitude = town.geo[3]
    assert feature["geometry"]["type"] == "Point"
    assert feature["geometry"]["coordinates"] == pytest.approx([longitude, latitude, altitude])
    properties = feature["properties"]
    assert feature["id"] == town.ids[3]
    assert (properties["session"], properties["camera"]) == (HOSTILE, "front")
    assert properties["stamp"] == "2023-11-14T22:13:23.123Z" and properties["timestamp"] == "1700000003.123456789"
    assert properties["heading"] == pytest.approx(90.0)  # along x, which is east
    assert [properties[name] for name in ("x", "y", "z")] == town.positions[3].tolist()


def test_gdal_reads_the_geojson_and_the_geopackage_as_the_same_points(town: PlaceMap) -> None:
    pyogrio = pytest.importorskip("pyogrio", reason="GDAL's reader is not installed: pip install pyogrio")
    for name in ("town.geojson", "town.gpkg"):
        information = pyogrio.read_info(export(town, name), layer=None if name.endswith("json") else "places")
        assert information["crs"] in ("EPSG:4326", "EPSG:4979")  # the second: with heights
        assert information["features"] == 8
        corners = [*town.geo[:, [1, 0]].min(axis=0), *town.geo[:, [1, 0]].max(axis=0)]
        assert information["total_bounds"] == pytest.approx(corners)


def test_a_geopackage_is_a_whole_copy_of_the_map(town: PlaceMap) -> None:
    copy = read_map(export(town, "town.gpkg"))
    assert np.array_equal(copy.descriptors, town.descriptors) and copy.picture(2) == town.picture(2)
    assert copy.session_table == town.session_table


def test_a_place_without_a_position_on_the_earth_has_no_geometry_and_nothing_is_nan(tmp_path: Path) -> None:
    path = tmp_path / "gps.d2map"
    with create_map(path, MapHeader(IDENTITY, WIDTH, "map", 1.0, geo_tagged=True)) as writer:
        session = writer.begin_session(Session("gaps"))
        camera = writer.add_camera(session, Camera("front", 6, 4, FORWARD_MOUNT))
        for stamp, geo in enumerate([None, (55.7, 13.2, float("nan"))]):
            writer.add_place(session, camera, NewPlace(stamp, Pose.identity(), unit_rows(1, 1)[0], None, geo))
    place_map = read_map(path)
    text = export(place_map, "gps.geojson").read_text(encoding="utf-8")
    lost, flat = json.loads(text)["features"]
    assert lost["geometry"] is None
    assert flat["geometry"]["coordinates"] == [13.2, 55.7]
    assert flat["properties"]["altitude"] is None and flat["properties"]["heading"] is None  # it looks straight up
    table = export(place_map, "gps.csv").read_text(encoding="utf-8")
    assert "nan" not in (text + table).lower()


def test_the_csv_is_a_table_of_poses_like_those_that_maps_are_built_from(town: PlaceMap) -> None:
    path = export(town, "town.csv")
    rows = read_pose_table(path, where={"session": "tuesday"}).rows
    assert [row.stamp_ns for row in rows] == town.stamps_ns[4:].tolist()
    pose, geo = rows[2].pose, rows[2].geo
    assert pose is not None and geo is not None
    assert np.allclose(pose.numbers, town.base_pose(6).numbers)
    assert np.allclose(geo, town.geo[6])
    assert rows[2].labels == {"filename": "00000007.jpg", "place": "7", "session": "tuesday", "camera": "front"}
    with path.open(encoding="utf-8", newline="") as file:
        assert next(csv.DictReader(file))["session"] == HOSTILE


def test_tum_comes_back_as_the_camera_s_trajectory(town: PlaceMap) -> None:
    read = read_pose_file(export(town, "town.tum", "--session", "2"), None, list)
    assert read.pose_of == "camera_optical"
    for row in range(4, 8):
        pose = read.trajectory.at(int(town.stamps_ns[row]), 1.0)
        assert pose is not None and np.allclose(pose.position, town.positions[row])


def test_a_tum_file_of_several_drives_or_cameras_is_refused(
    tmp_path: Path, town: PlaceMap, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--session" in refusal(capsys, town, "town.tum")
    rig = write_sessions(tmp_path / "rig.d2map", ["monday"], 3, cameras=("left", "right"))
    assert "--camera, one of 'left', 'right'" in refusal(capsys, rig, "rig.tum")
    assert len(export(rig, "rig.tum", "--camera", "left").read_text(encoding="utf-8").splitlines()) == 3


def test_poses_are_of_the_body_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "street.d2map"
    mount = Pose.of(1.0, 0.0, 2.0, *FORWARD_MOUNT.quaternion)
    street = write_places(path, straight_street(2), unit_rows(2, seed=1), mount=mount)
    for body, expected in (("base", 1.0), ("camera_optical", 2.0)):
        lines = export(street, "street.tum", "--pose-of", body, "--force").read_text(encoding="utf-8").splitlines()
        assert float(lines[1].split()[1]) == pytest.approx(expected)


def test_a_map_without_metres_has_no_poses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "sequence.d2map"
    with create_map(path, MapHeader(IDENTITY, WIDTH, "map", 1.0, metric=False)) as writer:
        session = writer.begin_session(Session("walk"))
        camera = writer.add_camera(session, Camera("phone", 6, 4, FORWARD_MOUNT))
        writer.add_place(session, camera, NewPlace(5, Pose.planar(0, 0, 0), unit_rows(1, 1)[0]))
    sequence = read_map(path)
    assert read_pose_table(export(sequence, "sequence.csv"), {}).rows[0].pose is None
    assert "no metres" in refusal(capsys, sequence, "sequence.tum")
    assert "not geo-tagged" in refusal(capsys, sequence, "sequence.geojson")


def test_the_pictures_come_along_under_the_names_in_the_table(town: PlaceMap, tmp_path: Path) -> None:
    table = export(town, "town.csv", "--session", "tuesday", "--pictures", str(tmp_path / "pictures"))
    names = [row.filename for row in read_pose_table(table, {}).rows]
    assert sorted(file.name for file in (tmp_path / "pictures").iterdir()) == names
    assert (tmp_path / "pictures" / names[0]).read_bytes() == town.picture(4)


def test_what_cannot_be_done_is_said_in_a_line_and_leaves_files_as_they_are(
    town: PlaceMap, capsys: pytest.CaptureFixture[str]
) -> None:
    before = town.path.read_bytes()
    export(town, "town.csv")
    assert "--force" in refusal(capsys, town, "town.csv")
    assert "is an input" in refusal(capsys, town, "town.d2map", "--force", "--format", "csv")
    assert "--format" in refusal(capsys, town, "town.shp")
    assert "no folder" in refusal(capsys, town, "nowhere/town.csv")
    assert "has no such session" in refusal(capsys, town, "new.csv", "--session", "sunday")
    assert "whole map" in refusal(capsys, town, "new.gpkg", "--session", "tuesday")
    assert town.path.read_bytes() == before
    assert sorted(file.name for file in town.path.parent.iterdir()) == ["town.csv", "town.d2map"]


def test_info_lists_sessions_and_shows_no_control_characters(
    town: PlaceMap, capsys: pytest.CaptureFixture[str]
) -> None:
    assert d2vpr(["map", "info", str(town.path)]) == 0
    shown = capsys.readouterr().out
    assert "geo-tagged  8 of 8 places, frame at 55.7000000, 13.1900000" in shown
    assert "pictures    8 of 8 places" in shown
    assert "  2   tuesday: 4 places; 2023-11-15 22:13:20 to 22:13:23 UTC; front" in shown
    assert 'mon"day,\\n=cmd' in shown


def test_info_says_what_a_map_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    street = write_places(tmp_path / "street.d2map", straight_street(3), unit_rows(3, seed=1))
    assert d2vpr(["map", "info", str(street.path)]) == 0
    shown = capsys.readouterr().out
    assert "geo-tagged  no" in shown and "pictures    none" in shown
