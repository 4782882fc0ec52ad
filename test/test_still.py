"""Odometry that hangs is told from a robot that stands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from places import alike_along_the_way, straight_street, unit_rows, write_places

from d2vpr_ros.geometry import Pose
from d2vpr_ros.localize.odometry import StillWatch, neighbour_similarity

WIDTH = 64
HERE = Pose.planar(3.0, 2.0, 0.5)


def way(count: int) -> npt.NDArray[np.float32]:
    return alike_along_the_way(count, seed=3, width=WIDTH)


def test_pictures_that_move_on_contradict_odometry_that_hangs_until_it_moves_again() -> None:
    watch, pictures, seen = StillWatch(alike=0.6), way(6), []
    for picture in pictures:
        watch.see(picture, HERE)
        seen.append(watch.contradicts)
    assert seen == [False, False, True, True, True, True]  # a step away it might be a person who walks by
    watch.see(pictures[0], HERE)
    assert watch.contradicts  # back where it hung: still no reason to believe it
    watch.see(pictures[0], HERE @ Pose.planar(0.2, 0.0, 0.0))
    assert not watch.contradicts


def test_a_robot_that_stands_or_drives_is_no_contradiction() -> None:
    standing, driving = StillWatch(alike=0.6), StillWatch(alike=0.6)
    noise = 0.2 * unit_rows(20, seed=5, width=WIDTH)
    for number, picture in enumerate(way(20)):
        one = way(1)[0] + noise[number]
        standing.see(one / np.linalg.norm(one), HERE)
        driving.see(picture, Pose.planar(float(number), 0.0, 0.0))
        assert not standing.contradicts and not driving.contradicts


def test_how_alike_neighbours_are_is_read_off_the_map(tmp_path: Path) -> None:
    street = write_places(tmp_path / "m.d2map", straight_street(40), way(40))
    assert neighbour_similarity(street) == pytest.approx(0.5, abs=0.15)
    alone = write_places(tmp_path / "a.d2map", straight_street(1), way(1))
    assert neighbour_similarity(alone) == 1.0
