"""A map file keeps what was stored, finds what is near, and is refused in one line when it is something else."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import IDENTITY, straight_street, unit_rows, write_places

from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import FORWARD_MOUNT, Pose
from d2vpr_ros.mapping import Camera, Index, MapHeader, Session, check_model, read_map
from d2vpr_ros.mapping.store import NewPlace, create_map


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "street.d2map"


def change(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, values)


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as error:
        read_map(path)
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_what_was_stored_is_read_back(path: Path) -> None:
    descriptors, poses = unit_rows(12, seed=1), straight_street(12)
    read = write_places(path, poses, descriptors)
    assert len(read) == 12
    assert np.allclose(read.descriptors, descriptors, atol=1e-3)  # kept as float16
    assert np.allclose(np.linalg.norm(read.descriptors, axis=1), 1.0, atol=1e-6)
    assert np.allclose([read.base_pose(row).position for row in range(12)], [pose.position for pose in poses])
    assert read.header.model == IDENTITY
    assert read.spacing_m == pytest.approx(1.0)


def test_a_finished_map_is_one_file(path: Path) -> None:
    write_places(path, straight_street(3), unit_rows(3, seed=1))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_picture_and_its_geo_tag_come_back(path: Path) -> None:
    geo = (55.7, 13.2, float("nan"))
    with create_map(path, MapHeader(IDENTITY, 64, "map", 1.0, geo_tagged=True)) as writer:
        session = writer.begin_session(Session("test"))
        camera = writer.add_camera(session, Camera("front", 6, 4, Pose.identity()))
        writer.add_place(session, camera, NewPlace(5, Pose.identity(), unit_rows(1, seed=1)[0], b"jpeg bytes", geo))
    read = read_map(path)
    assert read.picture(0) == b"jpeg bytes"
    assert read.geo[0, :2].tolist() == [55.7, 13.2]
    assert np.isnan(read.geo[0, 2])  # an unknown altitude stays unknown


def test_an_existing_map_is_left_as_it_is(path: Path) -> None:
    write_places(path, straight_street(3), unit_rows(3, seed=1))
    before = path.read_bytes()
    with pytest.raises(UserError, match="exists already"):
        write_places(path, straight_street(3), unit_rows(3, seed=2))
    assert path.read_bytes() == before


def test_a_build_without_places_leaves_no_file(path: Path) -> None:
    with create_map(path, MapHeader(IDENTITY, 64, "map", 1.0)):
        pass
    assert not path.exists()


def test_places_stored_before_a_failure_are_kept(path: Path) -> None:
    with pytest.raises(RuntimeError), create_map(path, MapHeader(IDENTITY, 64, "map", 1.0)) as writer:
        session = writer.begin_session(Session("test"))
        camera = writer.add_camera(session, Camera("front", 6, 4, Pose.identity()))
        writer.add_place(session, camera, NewPlace(1, Pose.identity(), unit_rows(1, seed=1)[0]))
        raise RuntimeError("the network fell over")
    assert len(read_map(path)) == 1


def test_a_map_that_is_not_there_is_named_with_the_way_to_build_one(path: Path) -> None:
    assert "d2vpr map build" in refusal(path)


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"<html>not a map</html>" * 100)
    assert "not a map" in refusal(path)


def test_a_database_that_is_no_map_is_refused(path: Path) -> None:
    change(path, "CREATE TABLE songs (name TEXT)")
    assert "not a d2vpr map" in refusal(path)


def test_a_newer_map_asks_for_an_update(path: Path) -> None:
    write_places(path, straight_street(3), unit_rows(3, seed=1))
    change(path, "UPDATE d2vpr_meta SET value = '99' WHERE key = 'format_version'")
    assert "update d2vpr_ros" in refusal(path)


def test_an_empty_map_is_refused(path: Path) -> None:
    write_places(path, straight_street(1), unit_rows(1, seed=1))
    change(path, "DELETE FROM places")
    assert "no places" in refusal(path)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE descriptors SET descriptor = x'00112233' WHERE place = 2",
        "UPDATE descriptors SET descriptor = 'text' WHERE place = 2",
        "UPDATE descriptors SET descriptor = zeroblob(128) WHERE place = 2",
        "UPDATE places SET qx = 0, qy = 0, qz = 0, qw = 0 WHERE id = 2",
        "UPDATE places SET x = 'NaN' WHERE id = 2",
        "UPDATE places SET x = 'far' WHERE id = 2",
        "UPDATE places SET stamp_ns = 'noon' WHERE id = 2",
        "UPDATE places SET camera = 9 WHERE id = 2",
        "UPDATE cameras SET qw = 'up'",
        "UPDATE d2vpr_meta SET value = '-5' WHERE key = 'descriptor_width'",
        "UPDATE d2vpr_meta SET value = 'soon' WHERE key = 'keyframe_spacing_m'",
        "DELETE FROM d2vpr_meta WHERE key = 'weights_sha256'",
    ],
)
def test_damage_inside_a_map_is_refused(path: Path, statement: str) -> None:
    write_places(path, straight_street(3), unit_rows(3, seed=1))
    change(path, statement)
    assert "damaged" in refusal(path)


@pytest.mark.parametrize("kept", [0.2, 0.6])
def test_a_map_that_was_cut_off_is_refused(path: Path, kept: float) -> None:
    write_places(path, straight_street(200), unit_rows(200, seed=1))
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    assert "damaged" in refusal(path)


def test_a_map_of_another_model_is_refused_saying_what_differs(path: Path) -> None:
    place_map = write_places(path, straight_street(3), unit_rows(3, seed=1))
    other = type(IDENTITY)("small", "1" * 64, IDENTITY.preprocessing, "")
    with pytest.raises(UserError, match=r"architecture nano against small, weights_sha256 0+ against 1+"):
        check_model(place_map, other)


@pytest.mark.parametrize("mount", [None, Pose.of(0.5, 0.0, 1.2, *FORWARD_MOUNT.quaternion)])
def test_the_base_poses_of_all_places_are_those_of_each(path: Path, mount: Pose | None) -> None:
    turning = [Pose.planar(number, 2.0, 0.3 * number) for number in range(5)]
    with create_map(path, MapHeader(IDENTITY, 64, "map", 1.0)) as writer:
        session = writer.begin_session(Session("test"))
        for name, at in (("front", FORWARD_MOUNT), ("left", Pose.of(0, 0.3, 1, -0.7071, 0, 0, 0.7071))):
            camera = writer.add_camera(session, Camera(name, 6, 4, at))
            for pose in turning:
                writer.add_place(session, camera, NewPlace(0, pose @ at, unit_rows(1, seed=1)[0]))
    place_map = read_map(path)
    positions, rotations = place_map.base_poses(mount)
    for row in range(len(place_map)):
        each = place_map.base_pose(row, mount)
        assert np.allclose(positions[row], each.position)
        assert np.allclose(rotations[row], each.rotation.as_matrix())
    if mount is None:
        assert np.allclose(positions[:5], positions[5:])


@given(seed=st.integers(0, 1000), k=st.integers(1, 30))
def test_search_finds_what_a_direct_comparison_finds(seed: int, k: int) -> None:
    places, queries = unit_rows(25, seed), unit_rows(4, seed + 1)
    similarities, rows = Index.of(places).search(queries, k)
    expected = np.sort(queries @ places.T, axis=1)[:, ::-1][:, : min(k, 25)]
    assert np.allclose(similarities, expected, atol=1e-5)
    assert np.allclose(np.take_along_axis(queries @ places.T, rows, axis=1), similarities, atol=1e-5)


def test_a_large_map_is_searched_in_half_precision_with_the_same_result() -> None:
    places = unit_rows(20_100, seed=3)
    _, rows = Index.of(places).search(places[:50], 1)
    assert rows[:, 0].tolist() == list(range(50))
