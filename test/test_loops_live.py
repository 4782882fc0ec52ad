"""Loops of a map that is being built: places come as they are stored, and odometry may begin anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from d2vpr_ros.describe import ModelIdentity
from d2vpr_ros.describe.features import FeatureExtractor
from d2vpr_ros.geometry import FORWARD_MOUNT, Pose, distance
from d2vpr_ros.loops.live import LiveLoops
from d2vpr_ros.mapping import Camera, MapHeader, Session
from d2vpr_ros.mapping.place_map import read_map, read_new_places
from d2vpr_ros.mapping.store import MapWriter, NewPlace, create_map

SECOND = 1_000_000_000
NUMBERS = 16


class Street:
    """A map file that grows: places a metre and a second apart, like nothing else, without pictures."""

    def __init__(self, writer: MapWriter, path: Path) -> None:
        self.path = path
        self.session = writer.begin_session(Session("drive"))
        self._writer = writer
        self._camera = writer.add_camera(self.session, Camera("front", 64, 48, FORWARD_MOUNT))
        self._random, self._seconds = np.random.default_rng(0), 0

    def drive(self, first_m: int, last_m: int) -> None:
        for metres in range(first_m, last_m):
            descriptor = self._random.normal(size=NUMBERS).astype(np.float32)
            base = Pose.planar(metres, 0.0, 0.0)
            place = NewPlace(self._seconds * SECOND, base @ FORWARD_MOUNT, descriptor / np.linalg.norm(descriptor))
            self._writer.add_place(self.session, self._camera, place)
            self._seconds += 1


@pytest.fixture
def street(tmp_path: Path) -> Iterator[Street]:
    path = tmp_path / "street.d2map"
    header = MapHeader(ModelIdentity("test", "0" * 64, "none", ""), NUMBERS, "map", 1.0, None, geo_tagged=False)
    with create_map(path, header) as writer:
        yield Street(writer, path)


@pytest.fixture(scope="module")
def features() -> FeatureExtractor:
    return FeatureExtractor.open("xfeat", device="cpu")


def test_new_places_are_read_once_and_as_the_whole_map_has_them(street: Street) -> None:
    street.drive(0, 5)
    first = read_new_places(street.path, after=0)
    assert first is not None and len(first) == 5
    street.drive(5, 8)
    new = read_new_places(street.path, int(first.ids[-1]))
    whole = read_map(street.path)
    assert new is not None and new.ids.tolist() == whole.ids[5:].tolist()
    assert np.array_equal(new.descriptors, whole.descriptors[5:])
    assert read_new_places(street.path, int(whole.ids[-1])) is None


def test_a_drive_without_loops_is_where_its_odometry_says(street: Street, features: FeatureExtractor) -> None:
    live = LiveLoops(street.path, street.session, features)
    assert list(live.take_new()) == [] and live.correct() is None
    street.drive(0, 4)
    taken = list(live.take_new())
    assert len(taken) == 4 and not any(closures for _, closures in taken)
    corrected = live.correct()
    assert corrected is not None and corrected.map_odom is not None
    street.drive(4, 6)
    assert len(list(live.take_new())) == 2
    gone_on = live.gone_on(corrected)
    assert gone_on.stamps_ns.tolist() == [second * SECOND for second in range(6)]
    assert distance(gone_on.poses[-1], Pose.planar(5.0, 0.0, 0.0)) < 1e-9


def test_map_to_odom_is_unknown_once_the_odometry_began_anew(street: Street, features: FeatureExtractor) -> None:
    live = LiveLoops(street.path, street.session, features)
    street.drive(0, 60)
    list(live.take_new())
    before = live.correct()
    assert before is not None and before.map_odom is not None
    street.drive(0, 3)  # back at its zero, a second later
    list(live.take_new())
    assert live.gone_on(before).map_odom is None
    after = live.correct()
    assert after is not None and after.map_odom is None
    assert after.closing.pieces == 2


def test_places_of_earlier_sessions_are_known_and_not_moved(street: Street, features: FeatureExtractor) -> None:
    street.drive(0, 3)
    live = LiveLoops(street.path, street.session + 1, features)
    list(live.take_new())
    assert live.correct() is None  # nothing of this session yet
