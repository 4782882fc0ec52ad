"""Landmarks in a map say what fresh ones say, move with their places, and count as missing where they are damaged."""

from __future__ import annotations

import logging
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import IDENTITY, WIDTH, unit_rows, write_sessions
from scipy.spatial.transform import Rotation

from d2vpr_ros.cli.main import main
from d2vpr_ros.describe.features import FeatureExtractor
from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import Pose, distance, turn
from d2vpr_ros.images.compose import encode_jpeg
from d2vpr_ros.mapping import Camera, MapHeader, Session, read_map
from d2vpr_ros.mapping.check import check_map
from d2vpr_ros.mapping.join import merge_maps
from d2vpr_ros.mapping.landmark_table import MOST, PlaceLandmarks, decode, encode
from d2vpr_ros.mapping.prune import prune_map
from d2vpr_ros.mapping.store import NewPlace, create_map
from d2vpr_ros.multiview import GeometryParams, Lens, PlaceGeometry, Sighting, storing
from d2vpr_ros.multiview.storing import LandmarkCounts, store_landmarks
from d2vpr_ros.sim.conditions import condition_named
from d2vpr_ros.sim.drive import drive_way
from d2vpr_ros.sim.render import CAMERA_MOUNT, Renderer
from d2vpr_ros.sim.routes import loop
from d2vpr_ros.sim.sensors import poses
from d2vpr_ros.sim.town import build_town

SEED, PLACES, STEP_M = 515, 8, 2.0
ASKED = 4  # a place in the middle


@dataclass(frozen=True, eq=False)
class Street:
    """A map of a street, and an image from 1.5 m beside one of its places.

    Attributes:
        bare, stored: the map without landmarks and with them.
    """

    bare: Path
    stored: Path
    image: np.ndarray
    lens: Lens
    truth: Pose


@pytest.fixture(scope="module")
def extractor() -> FeatureExtractor:
    return FeatureExtractor.open(device="cpu")


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory, extractor: FeatureExtractor) -> Street:
    town, folder = build_town(SEED), tmp_path_factory.mktemp("street")
    times = np.arange(PLACES) * STEP_M
    bases = poses(drive_way(loop(town), times, 1.0, 0.0))
    beside = poses(drive_way(loop(town), times[ASKED : ASKED + 1], 1.0, 1.5))[0]
    with closing(Renderer(320, 240)) as renderer:
        renderer.load(town, condition_named("noon"))
        pictures = [encode_jpeg(renderer.render(base @ CAMERA_MOUNT)) for base in bases]
        k = renderer.camera_matrix
        renderer.load(town, condition_named("dusk"))
        image = renderer.render(beside @ CAMERA_MOUNT)
    header = MapHeader(IDENTITY, WIDTH, "map", STEP_M)
    bare = folder / "bare.d2map"
    with create_map(bare, header) as writer:
        session = writer.begin_session(Session("street", "street"))
        camera = writer.add_camera(session, Camera("front", 320, 240, CAMERA_MOUNT, tuple(k.reshape(-1).tolist())))
        for number, (base, jpeg, descriptor) in enumerate(zip(bases, pictures, unit_rows(PLACES, 1), strict=True)):
            writer.add_place(session, camera, NewPlace(number * 10**9, base @ CAMERA_MOUNT, descriptor, jpeg))
    stored = shutil.copy(bare, folder / "stored.d2map")
    assert store_landmarks(stored, extractor).made == PLACES
    return Street(bare, stored, image, Lens(320, 240, k), beside @ CAMERA_MOUNT)


@pytest.fixture
def path(street: Street, tmp_path: Path) -> Path:
    return shutil.copy(street.stored, tmp_path / "a.d2map")


@pytest.fixture(scope="module")
def fresh(street: Street, extractor: FeatureExtractor) -> Sighting:
    return ask(street, street.bare, extractor)


def ask(street: Street, path: Path, extractor: FeatureExtractor, rows: tuple[int, ...] = (ASKED,)) -> Sighting:
    geometry = PlaceGeometry(read_map(path), extractor)
    return geometry.sightings(geometry.view(street.image, street.lens), rows)[0]


def damage(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, values)


def blob_of(path: Path, place: int) -> bytes:
    with closing(sqlite3.connect(path)) as connection:
        return bytes(connection.execute("SELECT points FROM landmarks WHERE place = ?", (place,)).fetchone()[0])


def problems(path: Path) -> list[str]:
    found: list[str] = []
    check_map(path, lambda problem: found.append(str(problem)))
    return found


def test_stored_landmarks_give_the_pose_that_fresh_ones_give(
    street: Street, fresh: Sighting, extractor: FeatureExtractor
) -> None:
    stored = ask(street, street.stored, extractor)
    assert fresh.pose is not None and stored.pose is not None
    assert distance(fresh.pose, street.truth) < 0.3 and distance(stored.pose, street.truth) < 0.3
    assert distance(stored.pose, fresh.pose) < 0.03 and turn(stored.pose, fresh.pose) < np.radians(0.2)
    assert stored.inliers == pytest.approx(fresh.inliers, rel=0.1)
    assert fresh.covariance is not None and stored.covariance is not None
    assert np.diag(stored.covariance) == pytest.approx(np.diag(fresh.covariance), rel=0.2)


def test_a_place_with_stored_landmarks_needs_no_features_of_any_picture(
    street: Street, extractor: FeatureExtractor
) -> None:
    geometry = PlaceGeometry(read_map(street.stored), extractor)
    assert geometry.sightings(geometry.view(street.image, street.lens), [ASKED])[0].pose is not None
    assert not geometry._views


def test_a_map_with_landmarks_is_sound_and_says_what_it_holds(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["map", "check", str(path)]) == 0
    assert main(["map", "info", str(path)]) == 0
    assert f"landmarks {PLACES} of {PLACES} places" in " ".join(capsys.readouterr().out.split())
    assert all(0 < len(blob_of(path, place)) <= 30_000 for place in range(1, PLACES + 1))


def nan_in(blob: bytes, at: int, dtype: str) -> bytes:
    size = np.dtype(dtype).itemsize
    return blob[:at] + np.array(np.nan, dtype).tobytes() + blob[at + size :]


BAD = {
    "expected a multiple of 92": lambda blob: blob[:-1],
    "nowhere near": lambda blob: nan_in(blob, 0, "<f4"),
    "not positive": lambda blob: nan_in(blob, 12, "<f2"),
    "descriptor of its landmarks is 0": lambda blob: blob[:28] + bytes(64) + blob[92:],
    "more than 29992 bytes": lambda blob: bytes(92 * 100_000),
    "no row of bytes": lambda blob: "a cat",
}


@pytest.mark.parametrize("said", BAD)
def test_a_blob_that_is_wrong_counts_as_missing_and_is_named(
    street: Street, path: Path, fresh: Sighting, extractor: FeatureExtractor, said: str
) -> None:
    place = ASKED + 1  # ids begin at 1
    damage(path, "UPDATE landmarks SET points = ? WHERE place = ?", BAD[said](blob_of(path, place)), place)
    found = problems(path)
    assert len(found) == 1 and found[0].startswith(f"place {place}: ") and said in found[0]
    again = ask(street, path, extractor)
    assert fresh.pose is not None and again.pose is not None
    assert distance(again.pose, fresh.pose) < 1e-6  # made from the pictures


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DELETE FROM d2vpr_meta WHERE key = 'landmarks'", "does not say what its landmarks were made with"),
        ("INSERT INTO landmarks VALUES (99, x'')", "place 99: landmarks has a row for it"),
        ("ALTER TABLE landmarks ADD COLUMN note TEXT", "table landmarks is not as it should be"),
    ],
)
def test_a_table_that_is_wrong_is_named(path: Path, statement: str, said: str) -> None:
    damage(path, statement)
    assert any(said in problem for problem in problems(path))


def test_landmarks_made_with_other_settings_are_not_used_and_are_replaced(
    path: Path, extractor: FeatureExtractor, caplog: pytest.LogCaptureFixture
) -> None:
    other = GeometryParams(least_parallax_deg=2.0)
    geometry = PlaceGeometry(read_map(path), extractor, other)
    with caplog.at_level(logging.WARNING):
        fewer = [geometry.landmarks(row) for row in (3, 4)]
    assert len(caplog.records) == 1 and "d2vpr map landmarks" in caplog.text
    assert store_landmarks(path, extractor, other).made == PLACES
    again = PlaceGeometry(read_map(path), extractor, other).landmarks(3)
    assert fewer[0] is not None and again is not None
    assert len(again) == len(fewer[0]) < len(blob_of(path, 4)) / 92 + 1 and not problems(path)


def test_settings_that_landmarks_do_not_depend_on_may_differ(
    street: Street, extractor: FeatureExtractor, caplog: pytest.LogCaptureFixture
) -> None:
    geometry = PlaceGeometry(read_map(street.stored), extractor, GeometryParams(kept_views=1, least_inliers=20))
    assert geometry.landmarks(ASKED) is not None and not geometry._views and not caplog.records


def test_a_stopped_run_leaves_a_good_map_and_the_next_goes_on(
    street: Street, tmp_path: Path, extractor: FeatureExtractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "_AT_ONCE", 2)
    path = shutil.copy(street.bare, tmp_path / "a.d2map")
    seen: list[int] = []

    def stop_at_the_fourth() -> None:
        seen.append(1)
        if len(seen) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store_landmarks(path, extractor, on_place=stop_at_the_fourth)
    assert not problems(path)
    earlier = [blob_of(path, place) for place in range(1, 5)]
    counts = store_landmarks(path, extractor)
    assert (counts.earlier, counts.made) == (4, PLACES - 4)
    assert [blob_of(path, place) for place in range(1, 5)] == earlier
    # Not byte by byte: on a busy machine sums of several threads differ in their last bit.
    sizes = [[len(blob_of(one, place)) for place in range(1, PLACES + 1)] for one in (path, street.stored)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)


def test_a_pruned_map_keeps_the_landmarks_of_the_places_that_stay(
    street: Street, tmp_path: Path, extractor: FeatureExtractor
) -> None:
    place_map, out = read_map(street.stored), tmp_path / "one.d2map"
    prune_map(place_map, place_map.ids == ASKED + 1, out)
    assert not problems(out)
    with closing(sqlite3.connect(out)) as connection:
        assert connection.execute("SELECT place FROM landmarks").fetchall() == [(ASKED + 1,)]
    alone = ask(street, out, extractor, (0,))  # nothing is left that it could be triangulated with
    assert alone.pose is not None and distance(alone.pose, street.truth) < 0.3
    assert alone.covariance is not None and np.isfinite(alone.covariance).all()


def test_in_a_merged_map_landmarks_lie_where_their_places_went(
    street: Street, tmp_path: Path, fresh: Sighting, extractor: FeatureExtractor
) -> None:
    write_sessions(tmp_path / "other.d2map", ["monday"], 3)
    moved = Pose.of(100.0, -50.0, 2.0, *Rotation.from_euler("z", 130, degrees=True).as_quat())
    merge_maps(read_map(tmp_path / "other.d2map"), read_map(street.stored), moved, tmp_path / "both.d2map")
    assert not problems(tmp_path / "both.d2map")
    found = ask(street, tmp_path / "both.d2map", extractor, (3 + ASKED,))
    assert fresh.pose is not None and found.pose is not None
    assert distance(found.pose, moved @ fresh.pose) < 0.03


def test_a_merged_map_takes_no_landmarks_of_another_network(street: Street, tmp_path: Path, path: Path) -> None:
    damage(path, "UPDATE d2vpr_meta SET value = '{}' WHERE key = 'landmarks'")
    damage(path, "UPDATE sessions SET source = 'another'")
    merge_maps(read_map(street.stored), read_map(path), Pose.of(500, 0, 0, 0, 0, 0, 1), tmp_path / "both.d2map")
    with closing(sqlite3.connect(tmp_path / "both.d2map")) as connection:
        assert connection.execute("SELECT count(*), max(place) FROM landmarks").fetchone() == (PLACES, PLACES)


def test_what_can_have_no_landmarks_is_refused(tmp_path: Path, extractor: FeatureExtractor) -> None:
    path = write_sessions(tmp_path / "a.d2map", ["monday"], 3).path
    damage(path, "DELETE FROM pictures")
    with pytest.raises(UserError, match="has no pictures"):
        store_landmarks(path, extractor)
    damage(path, "UPDATE d2vpr_meta SET value = '0' WHERE key = 'metric'")
    with pytest.raises(UserError, match="without metres"):
        store_landmarks(path, extractor)
    with closing(sqlite3.connect(path)) as connection:
        assert not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'landmarks'").fetchall()


def test_places_of_which_too_little_is_known_are_counted_and_left_out(
    tmp_path: Path, extractor: FeatureExtractor
) -> None:
    path = write_sessions(tmp_path / "a.d2map", ["monday"], 3).path  # uniform pictures, no intrinsics
    assert store_landmarks(path, extractor) == LandmarkCounts(3, unknown=3)
    assert not problems(path)


def test_the_verb_says_what_it_did(street: Street, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = shutil.copy(street.bare, tmp_path / "a.d2map")
    assert main(["map", "landmarks", str(path), "--device", "cpu"]) == 0
    assert main(["map", "landmarks", str(path), "--device", "cpu"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert f"landmarks of {PLACES} places stored" in first and f"{PLACES} had been looked at before" in second
    assert main(["map", "landmarks", str(tmp_path / "b.d2map")]) == 2


@st.composite
def landmarks(draw: st.DrawFn) -> PlaceLandmarks:
    random = np.random.default_rng(draw(st.integers(0, 2**31)))
    count = draw(st.integers(0, 2 * MOST))
    sigmas = 10 ** random.uniform(-3, 3, (count, 3))  # a millimetre to a kilometre
    axes = Rotation.random(count, random_state=0).as_matrix() if count else np.zeros((0, 3, 3))
    covariances = (axes * sigmas[:, None, :] ** 2) @ np.swapaxes(axes, 1, 2)
    pixels = random.uniform(-0.5, 319.5, (count, 2)).astype(np.float32)
    return PlaceLandmarks(random.uniform(-500, 500, (count, 3)), covariances, pixels, unit_rows(count, 1))


@settings(max_examples=30, deadline=None)
@given(landmarks())
def test_what_is_stored_is_read_to_a_part_in_a_hundred(given_: PlaceLandmarks) -> None:
    blob = encode(given_)
    read = decode(blob)
    assert read is not None and len(read) == min(len(given_), MOST) and len(blob) <= 30_000
    kept = slice(0, len(read))
    assert np.allclose(read.positions, given_.positions[kept], atol=1e-4)
    assert np.allclose(read.pixels, given_.pixels[kept], atol=0.01)
    assert ((read.descriptors * given_.descriptors[kept]).sum(axis=1) > 0.999).all()
    assert (np.linalg.eigvalsh(read.covariances) > -1e-9).all()  # however long and thin
    sizes, true = (np.trace(one, axis1=1, axis2=2) for one in (read.covariances, given_.covariances[kept]))
    assert np.allclose(sizes, true, rtol=0.01)


@given(st.binary(max_size=92 * 4))
def test_bytes_of_any_kind_give_finite_landmarks_or_none(blob: bytes) -> None:
    read = decode(blob)
    if read is not None:
        for part in (read.positions, read.covariances, read.pixels, read.descriptors):
            assert np.isfinite(part).all()


def test_a_landmark_that_cannot_be_stored_is_left_out() -> None:
    given_ = PlaceLandmarks(
        np.array([[1.0, 2.0, 3.0], [np.nan, 0, 0], [1e9, 0, 0], [4.0, 5.0, 6.0]]),
        np.stack([np.eye(3)] * 4),
        np.zeros((4, 2), np.float32),
        unit_rows(4, 1),
    )
    read = decode(encode(given_))
    assert read is not None and read.positions.tolist() == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    flat = replace(given_, covariances=np.stack([np.diag([1.0, 1.0, -1.0])] * 4))
    assert encode(flat) == b""


@pytest.mark.parametrize("without", ["--no-pictures", "--no-pose"])
def test_a_build_without_what_landmarks_are_made_from_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], without: str
) -> None:
    assert main(["map", "build", str(tmp_path), "-o", str(tmp_path / "a.d2map"), "--landmarks", without]) == 2
    assert "--landmarks and" in capsys.readouterr().err
