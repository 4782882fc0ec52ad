"""Where training finds places: maps built from bags, the simulated town, plain images."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from places import IDENTITY, WIDTH, unit_rows, write_sessions

from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import FORWARD_MOUNT, Pose
from d2vpr_ros.images.compose import encode_jpeg
from d2vpr_ros.mapping import Camera, MapHeader, Session, read_map
from d2vpr_ros.mapping.store import NewPlace, create_map
from models.batches import PlaceImages, Transform
from models.map_places import read_map_places
from models.places import with_enough_images
from models.rand_augment import RandAugment
from models.recipes import Data

STREET_M = 60


def write_street(path: Path, days: int) -> Path:
    """One street driven each day, half a metre beside the day before, and on the last day back again."""
    with create_map(path, MapHeader(IDENTITY, WIDTH, "map", 1.0, None)) as writer:
        for day in range(days + 1):
            session = writer.begin_session(Session(f"day {day}"))
            camera = writer.add_camera(session, Camera("front", 6, 4, FORWARD_MOUNT))
            back = day == days
            for x, descriptor in enumerate(unit_rows(STREET_M, day)):
                base = Pose.planar(float(x), 0.5 * day, math.pi if back else 0.0)
                jpeg = encode_jpeg(np.full((4, 6, 3), 200 if back else x, np.uint8))
                stamp = (100_000 * day + x) * 1_000_000_000
                writer.add_place(session, camera, NewPlace(stamp, base @ FORWARD_MOUNT, descriptor, jpeg))
    return path


def test_near_images_of_all_drives_that_face_alike_are_one_place(tmp_path: Path) -> None:
    place_map = read_map(write_street(tmp_path / "street.d2map", days=2))
    places = read_map_places(tmp_path, radius_m=3.0)
    assert set(places.groups) == {"street"}
    days = [{place_map.session_table[int(number)].name for number in place_map.sessions[rows]} for rows in places.rows]
    forward = [rows for rows, seen in zip(places.rows, days, strict=True) if seen == {"day 0", "day 1"}]
    back = [rows for rows, seen in zip(places.rows, days, strict=True) if seen == {"day 2"}]
    assert len(forward) == len(back) == 6  # every 10 metres of 60
    assert not any("day 2" in seen and len(seen) > 1 for seen in days)  # the way back shows other places
    for one, other in itertools.pairwise(forward):
        apart = np.linalg.norm(place_map.positions[one][:, None] - place_map.positions[other], axis=2)
        assert apart.min() >= 3.0
    x = place_map.positions[forward[2][0], 0]
    assert abs(places.read(int(forward[2][0])).mean() - x) < 2  # its own picture

    assert len(read_map_places(tmp_path, 3.0, least_sessions=2)) == len(forward)
    assert len(with_enough_images(places, 5, tmp_path)) < len(places)


def test_every_map_of_a_folder_is_a_group_and_changes_the_fingerprint(tmp_path: Path) -> None:
    write_street(tmp_path / "a.d2map", days=1)
    one = read_map_places(tmp_path, 3.0)
    write_street(tmp_path / "b.d2map", days=1)
    two = Data("maps", radius_m=3.0, images_per_place=2).read(tmp_path)
    assert set(two.groups) == {"a", "b"} and two.fingerprint != one.fingerprint
    images, labels = PlaceImages(two, 2, Transform(28, augment=RandAugment(0)))[len(two) - 1, (0, 0)]
    assert images.shape == (2, 3, 28, 28) and labels.tolist() == [len(two) - 1] * 2


def test_maps_that_cannot_be_trained_on_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no maps"):
        read_map_places(tmp_path, 3.0)
    write_sessions(tmp_path / "short.d2map", ["one"], 3)
    with pytest.raises(UserError, match="none of 1 places has 4 images"):
        Data("maps", radius_m=5.0).read(tmp_path)


def test_the_town_is_rendered_once_and_its_places_are_grouped_by_town(tmp_path: Path) -> None:
    data = Data("town", images_per_place=2, town={"first": 1000, "last": 1001, "places": 2, "views": 2})
    places = data.read(tmp_path / "town.npy")
    assert len(places) == 4 and list(places.groups) == ["town 1000"] * 2 + ["town 1001"] * 2
    assert places.read(3).shape == (224, 224, 3)
    rendered = (tmp_path / "town.npy").stat().st_mtime_ns
    assert data.read(tmp_path / "town.npy").fingerprint == places.fingerprint
    assert (tmp_path / "town.npy").stat().st_mtime_ns == rendered
    with pytest.raises(UserError, match="the recipe needs others"):
        Data("town", town={"first": 1000, "last": 1001, "places": 3, "views": 4}).read(tmp_path / "town.npy")


def test_plain_images_are_a_place_each(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / "deep").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "deep" / f"{number}.png"), np.full((8, 9, 3), 50 * number, np.uint8))
    places = Data("images", images_per_place=1).read(tmp_path)
    assert len(places) == 3 and places.read(2).max() == 100
    images, _ = PlaceImages(places, 1, Transform(28, "bilinear", RandAugment(0)))[2, (0,)]
    assert torch.equal(images, torch.full((1, 3, 28, 28), 100, dtype=torch.uint8))
