"""Where the time of one image goes, from its bytes to the answer, on a small map of drawn pictures."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from d2vpr_ros.describe import Extractor
from d2vpr_ros.geometry import FORWARD_MOUNT, Pose
from d2vpr_ros.images.compose import encode_jpeg
from d2vpr_ros.images.decode import decode_compressed
from d2vpr_ros.localize import Localizer
from d2vpr_ros.mapping import Camera, MapHeader, Session, read_map
from d2vpr_ros.mapping.store import NewPlace, create_map

PLACES = 40
_HEIGHT, _WIDTH, _STEP = 480, 640, 64
_SECOND = 1_000_000_000


@dataclass(frozen=True)
class Stage:
    """Attributes:
    name: decode (a JPEG of 640 x 480), preprocess (to the network's size), describe (one image), search, match (from
        descriptor to answer: search, belief, decision; without comparing pictures).
    ms, p95_ms: median and 95th percentile.
    """

    name: str
    ms: float
    p95_ms: float


def measure_stages(extractor: Extractor, folder: Path, rounds: int) -> list[Stage]:
    """Drive along the map that is made in the folder, image by image."""
    localizer = Localizer(read_map(draw_map(folder / "bench.d2map", extractor)), extractor)
    spent: dict[str, list[float]] = {name: [] for name in ("decode", "preprocess", "describe", "search", "match")}
    jpegs = [np.frombuffer(encode_jpeg(picture), np.uint8) for picture in pictures()]
    for number in range(rounds):
        at = number % PLACES
        if at == 0:
            localizer.reset()
        clocks = [time.perf_counter()]
        rgb = decode_compressed(jpegs[at])
        clocks.append(time.perf_counter())
        prepared = extractor.prepare(rgb)
        clocks.append(time.perf_counter())
        (descriptor,) = extractor.describe_prepared([prepared])
        clocks.append(time.perf_counter())
        localizer.search.nearest(descriptor, 200)
        clocks.append(time.perf_counter())
        localizer.match(descriptor, number * _SECOND)
        clocks.append(time.perf_counter())
        for name, seconds in zip(spent, np.diff(clocks), strict=True):
            spent[name].append(1e3 * seconds)
    return [Stage(name, statistics.median(ms), float(np.percentile(ms, 95))) for name, ms in spent.items()]


def draw_map(path: Path, extractor: Extractor) -> Path:
    """A map with a place every metre along one long drawn picture."""
    header = MapHeader(extractor.identity, extractor.width, "map", 1.0)
    with create_map(path, header) as writer:
        session = writer.begin_session(Session("bench"))
        camera = writer.add_camera(session, Camera("front", _WIDTH, _HEIGHT, FORWARD_MOUNT))
        for number, picture in enumerate(pictures()):
            (descriptor,) = extractor.describe([picture])
            pose = Pose.planar(float(number), 0.0, 0.0) @ FORWARD_MOUNT
            writer.add_place(session, camera, NewPlace(number * _SECOND, pose, descriptor))
    return path


def pictures() -> Iterator[npt.NDArray[np.uint8]]:
    """(480, 640, 3) views along a wide picture of rectangles, always the same ones."""
    random = np.random.default_rng(0)
    wide = np.full((_HEIGHT, PLACES * _STEP + _WIDTH, 3), 128, np.uint8)
    for _ in range(900):
        x, y, w, h = (int(v) for v in random.integers([-40, -40, 10, 10], [wide.shape[1], _HEIGHT, 200, 200]))
        cv2.rectangle(wide, (x, y), (x + w, y + h), [int(v) for v in random.integers(0, 255, 3)], -1)
    for number in range(PLACES):
        yield np.ascontiguousarray(wide[:, number * _STEP : number * _STEP + _WIDTH])
