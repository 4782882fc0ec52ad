"""A map knows where it lies on the earth, from its origin or from the tags of its places."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from places import unit_rows, write_places, write_sessions

from d2vpr_ros.geodesy import LocalFrame
from d2vpr_ros.geometry import Pose
from d2vpr_ros.mapping import PlaceMap
from d2vpr_ros.mapping.earth import earth_of

ORIGIN = LocalFrame(48.7758, 9.1829, 245.0)


def around_a_block(path: Path, noise_m: float, side_m: float = 100.0) -> tuple[PlaceMap, Pose]:
    """A map with poses in a frame of its own and tags that are off by some noise, and the true T_enu_map."""
    s = np.linspace(0, side_m, 25, endpoint=False)
    ways = [(s, 0 * s), (0 * s + side_m, s), (side_m - s, 0 * s + side_m), (0 * s, side_m - s)]
    poses = [Pose.planar(x, y, 0.0, 2.0) for xs, ys in ways for x, y in zip(xs, ys, strict=True)]
    place_map = write_places(path, poses, unit_rows(len(poses), seed=1))
    truth = Pose.planar(30.0, -12.0, 2.0, -2.0)
    enu = truth.rotation.apply(place_map.positions) + truth.position
    enu[:, :2] += noise_m * np.random.default_rng(3).standard_normal((len(poses), 2))
    header = replace(place_map.header, geo_tagged=True)
    return replace(place_map, header=header, geo=ORIGIN.to_geo(enu)), truth


def test_a_map_with_an_origin_says_where_it_lies(tmp_path: Path) -> None:
    earth = earth_of(write_sessions(tmp_path / "m.d2map", ["monday"], 3, origin=ORIGIN))
    assert earth is not None and earth.deviation_m == 0
    assert earth.to_geo(np.zeros(3)) == pytest.approx((ORIGIN.latitude, ORIGIN.longitude, ORIGIN.altitude))
    there = earth.to_geo(np.array([40.0, -7.0, 0.0]))
    assert earth.to_map(there[0], there[1]) == pytest.approx((40.0, -7.0), abs=1e-3)


def test_tags_tell_where_a_slam_map_lies_and_how_surely(tmp_path: Path) -> None:
    place_map, truth = around_a_block(tmp_path / "m.d2map", noise_m=2.0)
    earth = earth_of(place_map)
    assert earth is not None
    assert earth.deviation_m == pytest.approx(2.0, rel=0.2)
    at = np.array([50.0, 20.0, 2.0])
    east, north, _ = ORIGIN.to_enu(np.array([earth.to_geo(at)]))[0]
    expected = truth.rotation.apply(at) + truth.position
    assert np.hypot(east - expected[0], north - expected[1]) < 1.0
    assert earth.to_map(*earth.to_geo(at)[:2]) == pytest.approx((50.0, 20.0), abs=1e-3)
    along_x = earth.covariance(np.diag([9.0, 1.0, 1.0]))
    east_m = np.array([np.cos(2.0), np.sin(2.0), 0.0])
    assert east_m @ along_x @ east_m == pytest.approx(9.0 + earth.deviation_m**2, rel=0.02)


def test_a_single_bad_tag_turns_nothing(tmp_path: Path) -> None:
    place_map, _ = around_a_block(tmp_path / "m.d2map", noise_m=0.5)
    place_map.geo[7, 0] += 0.1  # 11 km
    earth = earth_of(place_map)
    assert earth is not None and earth.deviation_m < 1.0


def test_tags_that_do_not_tell_are_not_used(tmp_path: Path) -> None:
    untagged = write_sessions(tmp_path / "a.d2map", ["monday"], 3)
    nowhere, _ = around_a_block(tmp_path / "b.d2map", noise_m=100.0)
    room, _ = around_a_block(tmp_path / "c.d2map", noise_m=0.1, side_m=5.0)
    few, _ = around_a_block(tmp_path / "d.d2map", noise_m=0.1)
    few.geo[5:] = np.nan
    assert [earth_of(each) for each in (untagged, nowhere, room, few)] == [None] * 4
