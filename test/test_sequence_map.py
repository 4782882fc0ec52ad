"""A map without metres tells which place it is, never where: no pose comes out of it, whatever goes in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from builds import CheapExtractor
from places import alike_along_the_way, unit_rows

from d2vpr_ros.geometry import FORWARD_MOUNT, Pose
from d2vpr_ros.localize import Estimate, Localizer, RejectReason, State
from d2vpr_ros.mapping import Camera, MapHeader, PlaceMap, Session, read_map
from d2vpr_ros.mapping.store import NewPlace, create_map

SECOND = 1_000_000_000
PLACES = 60
MAST = Pose.planar(0.5, 0.2, 0.3, z=2.0) @ FORWARD_MOUNT


@pytest.fixture
def extractor() -> CheapExtractor:
    return CheapExtractor()


def write_sequences(path: Path, extractor: CheapExtractor, seeds: list[int], interval_s: float = 1.0) -> PlaceMap:
    """Drives of 60 places each, one after the other."""
    header = MapHeader(extractor.identity, extractor.width, "map", 1.0, metric=False)
    with create_map(path, header) as writer:
        for seed in seeds:
            session = writer.begin_session(Session(f"drive {seed}"))
            camera = writer.add_camera(session, Camera("front", 6, 4, MAST))
            for number, descriptor in enumerate(alike_along_the_way(PLACES, seed, extractor.width)):
                stamp_ns = round((1000 * seed + number * interval_s) * SECOND)
                writer.add_place(session, camera, NewPlace(stamp_ns, Pose.of(number, 0, 0, 0, 0, 0, 1), descriptor))
    return read_map(path)


def much_changed(descriptors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    seen = descriptors + 0.5 * unit_rows(len(descriptors), seed=9, width=descriptors.shape[1])
    return np.asarray(seen / np.linalg.norm(seen, axis=1, keepdims=True), np.float32)


def drive(localizer: Localizer, rows: list[int], odometry: list[Pose | None], step_s: float = 1.0) -> list[Estimate]:
    seen = much_changed(localizer.map.descriptors[rows])
    return [
        localizer.match(descriptor, round(number * step_s * SECOND), pose)
        for number, (descriptor, pose) in enumerate(zip(seen, odometry, strict=True))
    ]


@pytest.mark.parametrize("interval_s", [0.2, 1.0, 5.0])
def test_a_drive_past_known_places_is_matched_without_a_pose(
    tmp_path: Path, extractor: CheapExtractor, interval_s: float
) -> None:
    localizer = Localizer(write_sequences(tmp_path / "m.d2map", extractor, [4, 5], interval_s), extractor)
    rows = list(range(70, 95))
    estimates = drive(localizer, rows, [None] * len(rows), interval_s)
    for estimate, row in list(zip(estimates, rows, strict=True))[12:]:
        assert (estimate.state, estimate.reject_reason) == (State.CANDIDATE, RejectReason.NO_METRES)
        assert abs(estimate.matches[0].row - row) <= 1
        assert estimate.matches[0].accepted
    assert all(estimate.pose is None and estimate.covariance is None for estimate in estimates)


def test_odometry_and_mounts_play_no_part(tmp_path: Path, extractor: CheapExtractor) -> None:
    place_map = write_sequences(tmp_path / "m.d2map", extractor, [4])
    rows = list(range(10, 30))
    wild = [Pose.planar(100.0 * row, -50.0, row) for row in rows]
    answers = [
        [
            [match.row for match in estimate.matches]
            for estimate in drive(Localizer(place_map, extractor, mount=mount), rows, odometry)
        ]
        for mount, odometry in ((None, [None] * len(rows)), (MAST, wild))
    ]
    assert answers[0] == answers[1]


def test_a_place_of_another_session_is_not_the_next_one_whatever_its_number(
    tmp_path: Path, extractor: CheapExtractor
) -> None:
    localizer = Localizer(write_sequences(tmp_path / "m.d2map", extractor, [4, 5]), extractor)
    rows = [*range(10, 25), *range(PLACES + 25, PLACES + 27)]
    estimates = drive(localizer, rows, [None] * len(rows))
    assert estimates[14].matches[0].accepted
    assert not any(estimate.matches[0].accepted and estimate.matches[0].row >= PLACES for estimate in estimates[15:])
