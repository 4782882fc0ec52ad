"""Small drives to build maps from, and a build and a correction to kill."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import numpy.typing as npt
from places import WIDTH, straight_street, unit_rows, write_places

from d2vpr_ros.describe import ModelIdentity
from d2vpr_ros.geometry import FORWARD_MOUNT, Pose
from d2vpr_ros.images.frame import Frame, PosedFrame
from d2vpr_ros.loops.closure import Closure
from d2vpr_ros.loops.correct import Correction, write_correction
from d2vpr_ros.mapping import BuildOptions, Camera, MapHeader, PlaceMap, Session, read_map
from d2vpr_ros.mapping.loop_table import StoredOdometry
from d2vpr_ros.mapping.session import build_session, open_session

SECOND = 1_000_000_000
Picture = npt.NDArray[np.uint8]


def scene(seed: int, width: int = 64, height: int = 48) -> Picture:
    """Coloured boxes: a picture with edges, another for each seed."""
    draw = np.random.default_rng(seed)
    picture = np.full((height, width, 3), draw.integers(60, 200, 3), np.uint8)
    for _ in range(12):
        x, y = draw.integers(0, width), draw.integers(0, height)
        right, low = x + draw.integers(width // 16, width // 3), y + draw.integers(height // 16, height // 3)
        picture[y:low, x:right] = draw.integers(0, 256, 3)
    return picture


def frame(number: int, picture: Picture | None = None, camera: str = "front") -> PosedFrame:
    """What a camera sees each second that drives 1 m/s along x."""
    rgb = scene(number) if picture is None else picture
    return PosedFrame(Frame(rgb, number * SECOND, camera), Pose.planar(number, 0, 0) @ FORWARD_MOUNT)


def play(frames: Sequence[PosedFrame]) -> Callable[[Callable[[str, Pose, int], bool]], Iterator[PosedFrame]]:
    """The frames as a recording gives them: those that are wanted, when they are asked for."""
    return lambda keep: (posed for posed in frames if keep(posed.frame.camera, posed.pose, posed.frame.stamp_ns))


def camera(name: str, width: int, height: int) -> Camera:
    return Camera(name, width, height, FORWARD_MOUNT)


def a_drive() -> list[PosedFrame]:
    """Two cameras; one hangs for a while, some images are black, and its clock is set back on the way."""
    black = np.zeros((48, 64, 3), np.uint8)
    drive = []
    for number in range(60):
        picture = black if number % 7 == 3 else scene(20) if 20 <= number < 24 else scene(number)
        front = frame(number, picture)
        if number > 40:
            front = replace(front, frame=replace(front.frame, stamp_ns=front.frame.stamp_ns - 30 * SECOND - 1))
        drive.append(front)
        if number % 2:
            drive.append(frame(number, scene(100 + number), "rear"))
    return drive


class CheapExtractor:
    """Describes an image by its own pixels, in no time: for builds that are about storing."""

    identity = ModelIdentity("pixels", "0" * 64, "none", "")
    width = 192

    def prepare(self, image: Picture) -> npt.NDArray[np.float32]:
        coarse = image[:: image.shape[0] // 8, :: image.shape[1] // 8][:8, :8].astype(np.float32).ravel() - 127.5
        return coarse / np.linalg.norm(coarse)

    def describe_prepared(self, prepared: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        return np.stack(prepared)


def report_until_killed(path: str, reports: Connection) -> None:
    """Build the map of `a_drive` there, telling of each place that is stored."""
    extractor = CheapExtractor()
    header = MapHeader(extractor.identity, extractor.width, "map", 1.0)
    with open_session(Path(path), header, Session("drive", "the recording", complete=False)) as (writer, session):
        build_session(writer, session, play(a_drive()), extractor, camera, BuildOptions(), on_stored=reports.send)


def a_correction(path: Path) -> tuple[PlaceMap, Correction]:
    """A map of ten places, and a correction that lifts each by a metre."""
    place_map = write_places(path, straight_street(10), unit_rows(10, 0, WIDTH))
    positions, rotations = place_map.base_poses()
    odometry = {
        number: StoredOdometry(place_map.camera_pose(row), None) for row, number in enumerate(place_map.ids.tolist())
    }
    closure = Closure(1, 10, Pose.planar(0.1, 0, 0), 0.01 * np.eye(6), "metric", 0.999, 150, 1)
    return place_map, Correction(np.arange(10), positions + np.array([0, 0, 1]), rotations, odometry, [closure])


def correct_until_killed(path: str, when: str, reports: Connection) -> None:
    """Correct the map of `a_correction`, killed before, during or after it; tells when it is written."""
    place_map = read_map(path)
    _, correction = a_correction(Path(path).with_name("other.d2map"))
    if when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    count = iter(range(100))

    def on_place() -> None:
        if when == "during" and next(count) == 5:
            os.kill(os.getpid(), signal.SIGKILL)

    write_correction(place_map, correction, on_place)
    reports.send("written")
    os.kill(os.getpid(), signal.SIGKILL)
