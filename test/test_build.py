"""A build takes the frames that are due, leaves out what tells no place, and says so; killed, it goes on."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from builds import SECOND, CheapExtractor, a_drive, camera, frame, play, report_until_killed, scene

from d2vpr_ros.describe import Extractor
from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import Pose
from d2vpr_ros.images.compose import decode_jpeg
from d2vpr_ros.images.decode import decode_compressed
from d2vpr_ros.images.frame import PosedFrame
from d2vpr_ros.mapping import BuildOptions, KeyframeRule, MapBuilder, MapHeader, Session, read_map
from d2vpr_ros.mapping.channel import Channel
from d2vpr_ros.mapping.counts import BuildCounts
from d2vpr_ros.mapping.keyframes import KeyframeSelector
from d2vpr_ros.mapping.picture import shrink
from d2vpr_ros.mapping.quality import find_flaw
from d2vpr_ros.mapping.session import build_session, open_session
from d2vpr_ros.mapping.store import open_writable
from d2vpr_ros.sim.conditions import condition_named
from d2vpr_ros.sim.drive import drive_way
from d2vpr_ros.sim.render import CAMERA_MOUNT, Renderer
from d2vpr_ros.sim.routes import loop
from d2vpr_ros.sim.sensors import poses
from d2vpr_ros.sim.town import build_town

DEFAULTS = BuildOptions()


@pytest.fixture(scope="module")
def nano() -> Extractor:
    return Extractor.open("nano", device="cpu")


@dataclass
class Build:
    """One way to build, into one file."""

    path: Path
    extractor: Extractor
    source: str = "the recording"
    metric: bool = True

    def __call__(self, frames: list[PosedFrame], options: BuildOptions = DEFAULTS, **more: object) -> BuildCounts:
        header = MapHeader(self.extractor.identity, self.extractor.width, "map", 1.0, metric=self.metric)
        with open_session(self.path, header, Session("drive", self.source, complete=False)) as (writer, session):
            return build_session(writer, session, play(frames), self.extractor, camera, options, **more)


@pytest.fixture
def build(tmp_path: Path, nano: Extractor) -> Build:
    return Build(tmp_path / "town.d2map", nano)


def stamps(path: Path) -> list[int]:
    return (read_map(path).stamps_ns // SECOND).tolist()


# Which frames are due


def taken(rule: KeyframeRule, poses: list[Pose], step_s: float = 1.0) -> list[bool]:
    selector, result = KeyframeSelector(rule), []
    for number, pose in enumerate(poses):
        result.append(selector.wants(pose, round(number * step_s * 1e9)))
        if result[-1]:
            selector.take(pose, round(number * step_s * 1e9))
    return result


def test_keyframes_are_taken_by_distance_and_by_turn() -> None:
    rule = KeyframeRule(spacing_m=1.0, turn_deg=20.0)
    assert taken(rule, [Pose.planar(0.5 * step, 0, 0) for step in range(5)]) == [True, False, True, False, True]
    turning = [Pose.planar(0, 0, np.radians(15 * step)) for step in range(5)]
    assert taken(rule, turning) == [True, False, True, False, True]


def test_keyframes_are_taken_by_time_where_an_interval_is_given() -> None:
    standing = [Pose.identity()] * 5
    assert taken(KeyframeRule(), standing) == [True, False, False, False, False]
    assert taken(KeyframeRule(max_interval_s=2.0), standing) == [True, False, True, False, True]


def test_each_camera_has_keyframes_of_its_own(build: Build) -> None:
    both = [frame(number, camera=name) for number in range(3) for name in ("front", "rear")]
    assert build(both).places == 6
    names = [read_map(build.path).camera_table[number].name for number in read_map(build.path).cameras.tolist()]
    assert names == ["front", "rear"] * 3


# What tells no place


def smeared(picture: np.ndarray) -> np.ndarray:
    return cv2.blur(picture, (41, 1))


@pytest.mark.parametrize(
    ("spoil", "flaw"),
    [
        (lambda picture: picture // 20, "black"),
        (lambda picture: np.clip(picture.astype(int) + 250, 0, 255).astype(np.uint8), "blown out"),
        (smeared, "blurred"),
        (lambda picture: picture, ""),
        (lambda picture: picture // 4, ""),  # dark, but there is something to see
    ],
)
def test_an_image_that_tells_no_place_is_known_by_its_flaw(spoil: Callable, flaw: str) -> None:
    noise = np.random.default_rng(1).normal(0, 3, (240, 320, 3))
    image = spoil(scene(3, 320, 240))
    assert find_flaw(np.clip(image + noise, 0, 255).astype(np.uint8) if flaw == "black" else image) == flaw


def test_night_and_fog_of_the_simulated_town_are_not_useless() -> None:
    town = build_town(7)
    way = poses(drive_way(loop(town, 0), np.arange(0.0, 200.0, 40.0), 1.0, 0.0))
    with closing(Renderer(320, 240)) as renderer:
        for name in ("night", "night_rain", "fog"):
            renderer.load(town, condition_named(name))
            assert {find_flaw(renderer.render(base @ CAMERA_MOUNT)) for base in way} == {""}


@pytest.mark.footage
def test_no_image_of_real_footage_is_useless(footage: Path) -> None:
    paths = [path for folder in sorted(footage.iterdir()) for path in sorted(folder.glob("images/**/*.*"))[::40]]
    flaws = {path: find_flaw(shrink(decode_compressed(np.fromfile(path, np.uint8)))) for path in paths}
    assert not {path: flaw for path, flaw in flaws.items() if flaw}


def test_the_next_good_frame_takes_the_place_of_a_useless_one(build: Build) -> None:
    black = np.zeros((48, 64, 3), np.uint8)
    drive = [replace(frame(number), pose=Pose.planar(number / 4, 0, 0)) for number in range(12)]
    drive[4] = replace(drive[4], frame=replace(drive[4].frame, rgb=black))
    counts = build(drive)
    assert stamps(build.path) == [0, 5, 9]
    assert counts.left_out == {"black": 1, "too close to the last place": 8}
    assert str(counts) == "3 places from 12 images; left out: 8 too close to the last place, 1 black"


def test_a_camera_that_hangs_gives_one_place(build: Build) -> None:
    drive = [frame(0), *(frame(number, scene(1)) for number in range(1, 5)), frame(5)]
    counts = build(drive)
    assert stamps(build.path) == [0, 1, 5]
    assert counts.left_out == {"repeating the last place": 3}


def test_everything_is_kept_on_request(build: Build) -> None:
    drive = [frame(number, np.zeros((48, 64, 3), np.uint8)) for number in range(3)]
    assert build(drive, BuildOptions(keep_all=True)).places == 3


# What is stored


def test_pictures_are_small_or_left_out(build: Build, nano: Extractor, tmp_path: Path) -> None:
    wide = [frame(0, scene(0, 800, 400))]
    build(wide)
    picture = decode_jpeg(read_map(build.path).picture(0) or b"")
    assert picture is not None and picture.shape == (160, 320, 3)
    assert (read_map(build.path).camera_table[1].width, read_map(build.path).camera_table[1].height) == (320, 160)
    without = Build(tmp_path / "plain.d2map", nano)
    without(wide, BuildOptions(pictures=False))
    assert read_map(without.path).picture(0) is None


def test_a_map_without_metres_numbers_its_places(tmp_path: Path, nano: Extractor) -> None:
    build = Build(tmp_path / "sequence.d2map", nano, metric=False)
    build([frame(number) for number in range(10)], BuildOptions(KeyframeRule(max_interval_s=2.0)))
    place_map = read_map(build.path)
    assert stamps(build.path) == [0, 2, 4, 6, 8]
    assert place_map.positions.tolist() == [[number, 0, 0] for number in range(5)]
    assert (place_map.quaternions == [0, 0, 0, 1]).all()
    assert not place_map.header.metric


# Threads


def test_what_waits_is_bounded_however_slow_the_disk_is(build: Build, nano: Extractor) -> None:
    header = MapHeader(nano.identity, nano.width, "map", 1.0)
    disk, asked = threading.Event(), 0
    with open_session(build.path, header, Session("drive", "x")) as (writer, session):
        options = BuildOptions(waiting=4)
        with MapBuilder(writer, nano, session, camera, options, lambda place: disk.wait(30)) as builder:
            # One is being stored, the rest wait: 16 described, 8 being described, 4 to be described.
            while builder.add(frame(asked), wait=asked < 20):
                asked += 1
                assert asked <= 1 + 16 + 8 + 4
            assert builder.counts.left_out == {"lost because describing was too slow": 1}
            assert builder.waiting == asked
            disk.set()
            assert builder.save()
            assert builder.counts.places == asked
    assert len(read_map(build.path)) == asked


def test_what_goes_wrong_in_storing_stops_the_build_and_is_told(build: Build) -> None:
    def fail(place: int) -> None:
        if place == 3:
            raise RuntimeError("the disk is on fire")

    with pytest.raises(RuntimeError, match="on fire"):
        build([frame(number) for number in range(100)], BuildOptions(waiting=1), on_stored=fail)
    assert stamps(build.path) == [0, 1, 2]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("d2vpr")]


def test_an_unreadable_end_of_the_recording_keeps_what_was_before(build: Build) -> None:
    def cut_off() -> Iterator[PosedFrame]:
        yield from [frame(0), frame(1)]
        raise UserError("the bag is cut off")

    header = MapHeader(build.extractor.identity, build.extractor.width, "map", 1.0)
    with (
        pytest.raises(UserError, match="cut off"),
        open_session(build.path, header, Session("d", "x", False)) as opened,
    ):
        build_session(*opened, lambda keep: cut_off(), build.extractor, camera, BuildOptions())
    assert stamps(build.path) == [0, 1]


def test_a_channel_hands_over_in_order_and_ends() -> None:
    channel: Channel[int] = Channel(3)
    assert [channel.put(number, wait=False) for number in range(4)] == [True, True, True, False]
    assert channel.take(2) == [0, 1]
    channel.close()
    assert not channel.put(9)
    assert (channel.take(5), channel.take(5)) == ([2], [])


# Going on


def rows(path: Path) -> list[tuple[object, ...]]:
    """What tells one map's places from another's, but for rounding in the descriptors."""
    place_map = read_map(path)
    cameras = [place_map.camera_table[number].name for number in place_map.cameras.tolist()]
    numbers = np.hstack([place_map.positions, place_map.quaternions]).tolist()
    return list(zip(cameras, place_map.stamps_ns.tolist(), numbers, strict=True))


@pytest.mark.parametrize("stop_after", [1, 2, 17, 30])
def test_a_build_that_was_interrupted_goes_on_and_ends_as_if_it_had_not_been(tmp_path: Path, stop_after: int) -> None:
    extractor = CheapExtractor()
    whole = Build(tmp_path / "whole.d2map", extractor)
    expected = whole(a_drive())

    def interrupt(place: int) -> None:
        if place == stop_after:
            raise KeyboardInterrupt

    halved = Build(tmp_path / "halved.d2map", extractor)
    with pytest.raises(KeyboardInterrupt):
        halved(a_drive(), on_stored=interrupt)
    before = len(read_map(halved.path))
    assert stop_after <= before < expected.places
    counts = halved(a_drive())
    assert counts.earlier > 0
    assert before + counts.places == expected.places
    assert rows(halved.path) == rows(whole.path)
    assert all(session.complete for session in read_map(halved.path).session_table.values())


def test_a_sequence_map_goes_on_counting(tmp_path: Path) -> None:
    build = Build(tmp_path / "sequence.d2map", CheapExtractor(), metric=False)

    def interrupt(place: int) -> None:
        if place == 4:
            raise KeyboardInterrupt

    options = BuildOptions(KeyframeRule(max_interval_s=2.0))
    with pytest.raises(KeyboardInterrupt):
        build([frame(number) for number in range(20)], options, on_stored=interrupt)
    build([frame(number) for number in range(20)], options)
    assert read_map(build.path).positions[:, 0].tolist() == list(range(10))
    assert stamps(build.path) == list(range(0, 20, 2))


def test_a_map_that_holds_the_recording_or_another_is_left_as_it_is(tmp_path: Path) -> None:
    build = Build(tmp_path / "town.d2map", CheapExtractor())
    build([frame(0), frame(1)])
    before = build.path.read_bytes()
    with pytest.raises(UserError, match=r"already holds all of drive.*d2vpr map append"):
        build([frame(0), frame(1)])
    build.source = "another recording"
    with pytest.raises(UserError, match=r"exists already.*d2vpr map append"):
        build([frame(0), frame(1)])
    assert build.path.read_bytes() == before


def test_a_recording_that_changed_since_is_not_gone_on_with(tmp_path: Path) -> None:
    build = Build(tmp_path / "town.d2map", CheapExtractor())

    def interrupt(place: int) -> None:
        if place == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build([frame(number) for number in range(20)], on_stored=interrupt)
    with pytest.raises(UserError, match=r"no image of front at 4\.000 s"):
        build([frame(number) for number in range(3)])


def test_a_map_that_was_begun_but_never_got_a_table_is_begun_anew(tmp_path: Path) -> None:
    build = Build(tmp_path / "town.d2map", CheapExtractor())
    build.path.touch()
    assert build([frame(0)]).places == 1


def test_a_killed_build_loses_nothing_that_it_reported(tmp_path: Path) -> None:
    """SIGKILL at random moments; models/bench/kill_build.py does the same to the command, 50 times."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["builds"])
    whole, killed = Build(tmp_path / "whole.d2map", CheapExtractor()), tmp_path / "killed.d2map"
    whole(a_drive())
    draw, places = random.Random(3), 0
    for _ in range(3):
        reports, sender = context.Pipe(duplex=False)
        process = context.Process(target=report_until_killed, args=(str(killed), sender))
        process.start()
        sender.close()
        reported: list[int] = [reports.recv() for _ in range(draw.randint(1, 15))]
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        while True:
            try:
                reported.append(reports.recv())
            except EOFError:
                break
        with open_writable(killed) as writer:
            assert writer.has_sessions()
        assert set(reported) <= set(read_map(killed).ids.tolist())
        assert len(read_map(killed)) > places
        places = len(read_map(killed))
    Build(killed, CheapExtractor())(a_drive())
    assert rows(killed) == rows(whole.path)
