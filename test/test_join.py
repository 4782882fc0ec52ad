"""Drives join one map only where it is known how their frames lie; whatever fails leaves the map as it was."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builds import SECOND, CheapExtractor, scene
from places import IDENTITY, WIDTH, alike_along_the_way, straight_street, unit_rows, write_places, write_sessions

from d2vpr_ros.bags.drive import open_drive
from d2vpr_ros.bags.reader import open_bag
from d2vpr_ros.bags.writer import BagWriter
from d2vpr_ros.cli.main import main
from d2vpr_ros.errors import UserError
from d2vpr_ros.geodesy import LocalFrame
from d2vpr_ros.geometry import FORWARD_MOUNT, Pose
from d2vpr_ros.mapping import BuildOptions, Camera, KeyframeRule, MapHeader, PlaceMap, Session, read_map
from d2vpr_ros.mapping.align import align
from d2vpr_ros.mapping.append import Appended, append_drive
from d2vpr_ros.mapping.frames import ALIGN, SAME_FRAME, Frames, find_transform
from d2vpr_ros.mapping.join import Joined, join_places, merge_maps
from d2vpr_ros.mapping.recording import build_map
from d2vpr_ros.mapping.store import NewPlace, create_map, open_writable
from d2vpr_ros.sim.drive import record_drive

LUND = LocalFrame(55.7, 13.19, 40.0)
MALMO = LocalFrame(55.6, 13.0, 12.0)
KEEP_ALL = BuildOptions(KeyframeRule(0.9), keep_all=True)
ELSEWHERE = Pose.of(30.0, -20.0, 5.0, 0.1, -0.1, 0.6, 0.8)


def around_the_block(places: int) -> list[Pose]:
    """T_map_base each metre along three streets, with two corners."""
    poses, here = [], Pose.identity()
    for number in range(places):
        poses.append(here)
        here = here @ Pose.planar(1.0, 0.0, np.pi / 2 if number in (places // 3, places * 3 // 4) else 0.0)
    return poses


def write_map(path: Path, origin: LocalFrame | None = None, name: str = "drive", **more: object) -> PlaceMap:
    """Ten places along x with a covariance, in a session of this name."""
    header = MapHeader(IDENTITY, WIDTH, "map", 1.0, origin, geo_tagged=origin is not None)
    descriptors = unit_rows(10, seed=1)
    with create_map(path, replace(header, **more)) as writer:  # type: ignore[arg-type]
        session = writer.begin_session(Session(name, source=name))
        camera = writer.add_camera(session, Camera("front", 6, 4, FORWARD_MOUNT))
        for number, base in enumerate(straight_street(10)):
            covariance = np.diag([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
            place = NewPlace(number, base @ FORWARD_MOUNT, descriptors[number], b"jpeg", None, covariance)
            writer.add_place(session, camera, place)
    return read_map(path)


def merged(one: PlaceMap, two: PlaceMap, frames: Frames) -> tuple[PlaceMap, Joined]:
    out = one.path.with_name("merged.d2map")
    joined = merge_maps(one, two, find_transform(one, two, frames)[0], out)
    return read_map(out), joined


def test_places_on_the_earth_stay_where_they_are(tmp_path: Path) -> None:
    one, two = write_map(tmp_path / "a.d2map", LUND, "a"), write_map(tmp_path / "b.d2map", MALMO, "b")
    both, _ = merged(one, two, None)
    assert both.header.origin == LUND
    assert np.allclose(both.geo[10:, :2], two.geo[:, :2], rtol=0, atol=1e-9)
    assert np.allclose(both.geo[10:, 2], two.geo[:, 2], atol=1e-4)
    assert np.allclose(LUND.to_geo(both.positions[10:])[:, :2], two.geo[:, :2], rtol=0, atol=1e-9)


def test_the_verticals_of_two_frames_on_the_earth_differ(tmp_path: Path) -> None:
    one, two = write_map(tmp_path / "a.d2map", LUND, "a"), write_map(tmp_path / "b.d2map", MALMO, "b")
    both, _ = merged(one, two, None)
    up = -both.camera_pose(10).rotation.apply([0.0, 1.0, 0.0])  # a level camera's
    malmo = LUND.to_enu(np.array([[55.6, 13.0, 12.0], [55.6, 13.0, 13.0]]))
    assert np.allclose(up, malmo[1] - malmo[0], atol=1e-8)
    assert not np.allclose(up, [0, 0, 1], atol=1e-3)


def test_heights_that_differ_by_the_geoid_are_said_with_how_much(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = write_map(tmp_path / "a.d2map", LUND, "monday")
    near, high = replace(LUND, altitude=42.0), replace(LUND, altitude=LUND.altitude + 47.6)
    find_transform(one, write_map(tmp_path / "b.d2map", near, "tuesday"), None)
    assert "its places are" not in caplog.text
    find_transform(one, write_map(tmp_path / "c.d2map", high, "wednesday"), None)
    assert f"wednesday: its places are 47.6 m above those of {one.path} in the common part" in caplog.text


def test_heights_that_gps_did_not_tell_are_not_invented(tmp_path: Path) -> None:
    header = MapHeader(IDENTITY, WIDTH, "map", 1.0, replace(MALMO, altitude=0.0), geo_tagged=True)
    with create_map(tmp_path / "b.d2map", header) as writer:
        session = writer.begin_session(Session("b"))
        camera = writer.add_camera(session, Camera("front", 6, 4, FORWARD_MOUNT))
        place = NewPlace(1, FORWARD_MOUNT, unit_rows(1, seed=2)[0], None, (55.6, 13.0, np.nan))
        writer.add_place(session, camera, place)
    near = write_map(tmp_path / "a.d2map", replace(MALMO, longitude=13.001), "a")
    both, _ = merged(near, read_map(tmp_path / "b.d2map"), None)
    assert abs(both.positions[10, 2]) < 0.01
    assert np.isnan(both.geo[10, 2])


def test_a_stated_transform_moves_poses_and_turns_covariances(tmp_path: Path) -> None:
    one, two = write_map(tmp_path / "a.d2map", name="a"), write_map(tmp_path / "b.d2map", name="b")
    both, _ = merged(one, two, Pose.planar(100.0, 0.0, np.pi / 2))
    assert np.allclose(both.positions[10:], [[100.0, x, 0.0] for x in range(10)], atol=1e-9)
    covariance = both.covariance(12)
    assert covariance is not None and np.allclose(covariance, np.diag([2.0, 1.0, 3.0, 5.0, 4.0, 6.0]))


def test_the_first_map_keeps_its_ids_and_everything_of_the_second_comes_along(tmp_path: Path) -> None:
    one = write_sessions(tmp_path / "a.d2map", ["monday", "tuesday"], 4, ("front", "rear"))
    two = write_sessions(tmp_path / "b.d2map", ["friday"], 4, ("front", "rear"))
    both, joined = merged(one, two, SAME_FRAME)
    assert both.ids[:16].tolist() == one.ids.tolist()
    assert [session.name for session in both.session_table.values()] == ["monday", "tuesday", "friday"]
    assert joined.sessions == ("friday",) and joined.places == tuple(both.ids[16:])
    assert np.array_equal(both.descriptors[16:], two.descriptors)
    assert both.picture(17) == two.picture(1) and both.stamps_ns[16:].tolist() == two.stamps_ns.tolist()
    assert [both.camera_table[int(key)].name for key in both.cameras[16:18]] == ["front", "rear"]


def test_a_session_that_both_maps_have_is_taken_once(tmp_path: Path) -> None:
    one, two = write_map(tmp_path / "a.d2map", name="monday"), write_map(tmp_path / "b.d2map", name="friday")
    both, _ = merged(one, two, SAME_FRAME)
    (tmp_path / "again").mkdir()
    again = replace(both, path=shutil.copy(both.path, tmp_path / "again" / "both.d2map"))
    out = tmp_path / "more.d2map"
    assert merge_maps(write_map(tmp_path / "c.d2map", name="monday"), again, Pose.identity(), out).held == ("monday",)
    assert len(read_map(out)) == 20
    with pytest.raises(UserError, match="nothing to add"):
        merge_maps(both, two, Pose.identity(), tmp_path / "none.d2map")


def test_frames_that_nothing_ties_together_are_refused_with_the_four_ways(tmp_path: Path) -> None:
    one, two = write_map(tmp_path / "a.d2map"), write_map(tmp_path / "b.d2map", LUND)
    with pytest.raises(UserError, match=r"WGS-84.*--same-frame.*--transform.*--align"):
        find_transform(one, two, None)


@pytest.mark.parametrize(
    ("more", "other", "message"),
    [
        ({}, {"frame": "slam"}, "in 'map' and in 'slam'"),
        ({"frame": "odom"}, {"frame": "odom"}, "has another origin in every drive"),
        ({"origin": LUND}, {"origin": MALMO}, "different points of the earth"),
    ],
)
def test_one_frame_is_not_believed_where_the_maps_say_otherwise(
    tmp_path: Path, more: dict[str, object], other: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        find_transform(write_map(tmp_path / "a.d2map", **more), write_map(tmp_path / "b.d2map", **other), SAME_FRAME)


def test_sequences_without_metres_join_each_other_and_nothing_else(tmp_path: Path) -> None:
    one, two = (write_map(tmp_path / f"{name}.d2map", name=name, metric=False) for name in "ab")
    both, _ = merged(one, two, None)
    assert both.positions[10:, 0].tolist() == list(range(10))
    with pytest.raises(UserError, match="in metres"):
        find_transform(one, write_map(tmp_path / "c.d2map"), SAME_FRAME)


def test_maps_with_different_projections_are_refused(tmp_path: Path) -> None:
    one = write_map(tmp_path / "a.d2map", name="a")
    own = replace(IDENTITY, projection="f" * 16, projection_fitted_on="a.d2map")
    two = write_map(tmp_path / "b.d2map", name="b", model=own)
    with pytest.raises(UserError, match=r"projection none against ffffffff"):
        merge_maps(one, two, Pose.identity(), tmp_path / "c.d2map")
    assert not (tmp_path / "c.d2map").exists()


def test_a_merge_replaces_nothing_unasked_and_leaves_both_maps(tmp_path: Path) -> None:
    for name in "ab":
        write_map(tmp_path / f"{name}.d2map", name=name)
    before = [(tmp_path / f"{name}.d2map").read_bytes() for name in "ab"]
    arguments = ["map", "merge", *(str(tmp_path / f"{name}.d2map") for name in "ab"), "--same-frame", "-o"]
    assert main([*arguments, str(tmp_path / "b.d2map"), "--force"]) == 2
    assert main([*arguments, str(tmp_path / "c.d2map")]) == 0
    merged_once = (tmp_path / "c.d2map").read_bytes()
    assert main([*arguments, str(tmp_path / "c.d2map")]) == 2  # exists
    assert (tmp_path / "c.d2map").read_bytes() == merged_once
    assert [(tmp_path / f"{name}.d2map").read_bytes() for name in "ab"] == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.d2map", "b.d2map", "c.d2map"]


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_places_join_a_map_all_or_none(tmp_path: Path, killed: bool) -> None:
    one, two = write_map(tmp_path / "a.d2map", name="a"), write_map(tmp_path / "b.d2map", name="b")

    def stop_at_the_fifth() -> None:
        seen.append(1)
        if len(seen) == 5:
            if killed:
                os._exit(9)
            raise KeyboardInterrupt

    seen: list[int] = []
    child = os.fork() if killed else 0
    if not child:
        with pytest.raises(KeyboardInterrupt), open_writable(one.path) as writer:
            join_places(writer, two, Pose.identity(), stop_at_the_fifth)
    else:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    left = read_map(one.path)
    assert len(left) == 10 and len(left.session_table) == 1
    with open_writable(one.path) as writer:
        assert len(join_places(writer, two, Pose.identity()).places) == 10


def test_the_spacing_of_a_map_is_that_within_its_drives(tmp_path: Path) -> None:
    both = write_sessions(tmp_path / "a.d2map", [f"day {day}" for day in range(8)], 2, ("front", "rear"))
    assert both.spacing_m == pytest.approx(1.0)  # 10 m lie between the drives, nothing between the cameras


# Appending, with pictures that describe themselves.


def record_street(path: Path, start: Pose, numbers: range, topic: str = "/odom") -> Path:
    """A drive past numbered scenes a metre apart, in a frame that begins elsewhere."""
    way = around_the_block(60)
    with BagWriter(path) as bag:
        for step, number in enumerate(numbers):
            stamp = step * SECOND
            if topic == "/odom":
                bag.odometry(topic, stamp, "odom", "base_link", start @ way[number], (0,) * 6, np.eye(6))
            else:
                bag.pose(topic, stamp, "map", start @ way[number])
            bag.image("/camera/image", stamp, scene(number), "camera_optical_frame")
    return path


def append(path: Path, bag_path: Path, frames: Frames, on_image: Callable[[], object] = lambda: None) -> Appended:
    with open_bag(bag_path) as bag:
        extractor = CheapExtractor()
        return append_drive(read_map(path), open_drive(bag), extractor, KEEP_ALL, frames, on_image)  # type: ignore[arg-type]


@pytest.fixture
def street(tmp_path: Path) -> Path:
    """A map of 60 places."""
    path = tmp_path / "street.d2map"
    with open_bag(record_street(tmp_path / "first", Pose.identity(), range(60))) as bag:
        build_map(path, open_drive(bag), CheapExtractor(), KEEP_ALL)  # type: ignore[arg-type]
    return path


def test_a_drive_with_its_own_zero_is_found_in_the_map_and_added(street: Path, tmp_path: Path) -> None:
    second = record_street(tmp_path / "second", ELSEWHERE, range(10, 60))
    appended = append(street, second, ALIGN)
    both = read_map(street)
    assert [session.name for session in both.session_table.values()] == ["first", "second"]
    assert np.allclose(both.positions[60:], both.positions[10:60], atol=1e-3)
    assert "50 of 50 place matches agree" in appended.frames
    with pytest.raises(UserError, match="already holds all of second"):
        append(street, second, ALIGN)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["first", "second", "street.d2map"]


def test_an_append_that_is_stopped_leaves_the_map_and_goes_on_when_run_again(street: Path, tmp_path: Path) -> None:
    second, before, seen = record_street(tmp_path / "second", ELSEWHERE, range(60)), street.read_bytes(), []

    def stop_on_the_way() -> None:
        seen.append(1)
        if len(seen) == 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        append(street, second, ALIGN, stop_on_the_way)
    assert street.read_bytes() == before
    appended = append(street, second, ALIGN)
    assert appended.built is not None and appended.built.earlier > 0
    assert len(read_map(street)) == 120


def test_an_append_of_another_street_is_refused_and_its_places_are_kept(street: Path, tmp_path: Path) -> None:
    other, before = tmp_path / "other", street.read_bytes()
    with BagWriter(other) as bag:
        for step, pose in enumerate(around_the_block(60)):
            bag.odometry("/odom", step * SECOND, "odom", "base_link", pose, (0,) * 6, np.eye(6))
            bag.image("/camera/image", step * SECOND, scene(1000 + step), "camera_optical_frame")
    with pytest.raises(UserError, match=r"place matches agree.*what was built is kept") as refused:
        append(street, other, ALIGN)
    assert street.read_bytes() == before
    (waiting,) = tmp_path.glob("street.append-*.d2map")
    assert str(waiting) in str(refused.value)
    appended = append(street, other, Pose.planar(0.0, 500.0, 0.0))  # now its place is known
    assert appended.built is None and len(appended.joined.places) == 60
    assert not waiting.exists()


def test_a_drive_is_not_described_when_its_frame_or_the_model_does_not_fit(street: Path, tmp_path: Path) -> None:
    second = record_street(tmp_path / "second", ELSEWHERE, range(60))
    with pytest.raises(UserError, match="Four ways"):
        append(street, second, None)
    assert main(["map", "append", str(street), str(second), "--align"]) == 2  # nano did not make this map
    assert not list(tmp_path.glob("street.append-*"))


# Alignment.


def test_a_street_that_the_map_shows_twice_is_not_aligned(tmp_path: Path) -> None:
    way, looks = around_the_block(60), alike_along_the_way(60, seed=1, width=WIDTH)
    noise = 0.05 * unit_rows(180, seed=2)
    again = [Pose.planar(500.0, 0.0, 0.0) @ pose for pose in way]
    twice = write_places(tmp_path / "a.d2map", way + again, np.vstack([looks, looks]) + noise[:120])
    once = write_places(tmp_path / "b.d2map", way, looks + noise[120:])
    with pytest.raises(UserError, match="parts of the map look alike"):
        align(twice, once)
    assert np.allclose(align(once, once).transform.numbers, Pose.identity().numbers, atol=1e-6)


def test_a_corner_that_looks_alike_is_too_short_to_align_by(tmp_path: Path) -> None:
    one, two = unit_rows(300, seed=1), unit_rows(300, seed=2)
    two[50:80] = one[50:80]
    steps = [0.5 if 50 <= number < 80 else 2.0 for number in range(300)]  # slowly around the corner
    way = [Pose.planar(x, 0.0, 0.0) for x in np.cumsum(steps)]
    with pytest.raises(UserError, match="that agree cover"):
        align(write_places(tmp_path / "a.d2map", way, one), write_places(tmp_path / "b.d2map", way, two))


def test_wrong_matches_are_outvoted(tmp_path: Path) -> None:
    way, looks = around_the_block(200), unit_rows(200, seed=1)
    others = looks + 0.02 * unit_rows(200, seed=2)
    mixed = np.random.default_rng(3).permutation(80)
    others[:80] = others[mixed]  # two in five look like another place
    moved = [ELSEWHERE.inverse() @ pose for pose in way]
    found = align(write_places(tmp_path / "a.d2map", way, looks), write_places(tmp_path / "b.d2map", moved, others))
    assert np.allclose(found.transform.numbers, ELSEWHERE.numbers, atol=0.02)


@pytest.fixture(scope="module")
def towns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same streets twice, the second time a little aside, and those of another town."""
    folder = tmp_path_factory.mktemp("towns")
    drives = {"first": (7, "noon", 0.0), "second": (7, "noon", 0.5), "other": (3, "noon", 0.0)}
    for number, (name, (seed, condition, aside)) in enumerate(drives.items()):
        record_drive(
            folder / name, seed, condition, lateral_offset_m=aside, sensor_seed=number,
            duration_s=20.0, rate_hz=2.5, width=128, height=96,
        )  # fmt: skip
    return folder


def test_two_drives_through_one_town_are_aligned_and_two_towns_are_refused(
    towns: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each odometry starts at its own zero and drifts; the truth is known."""
    path = tmp_path / "town.d2map"
    words = ["map", "build", str(towns / "first"), "-o", str(path), "--pose-topic", "/ground_truth/pose"]
    assert main([*words, "--no-landmarks"]) == 0
    arguments = ["--pose-topic", "/odom", "--align", "--no-landmarks"]
    assert main(["map", "append", str(path), str(towns / "second"), *arguments]) == 0
    assert "place matches agree" in capsys.readouterr().out
    both = read_map(path)
    with open_bag(towns / "second") as bag:
        truth = open_drive(bag, pose_topic="/ground_truth/pose")
        true = {posed.frame.stamp_ns: posed.pose for posed in truth.frames()}
    rows = np.flatnonzero(both.sessions == 2)
    off = [np.linalg.norm(both.positions[row] - true[int(both.stamps_ns[row])].position) for row in rows]
    assert len(rows) > 30 and max(off) < 1.5  # half a metre aside, and odometry's drift over 100 m

    before = path.read_bytes()
    assert main(["map", "append", str(path), str(towns / "other"), *arguments]) == 2
    assert "cannot be aligned" in capsys.readouterr().err
    assert path.read_bytes() == before
