"""Pairs of pictures of which it is known whether they show one place, for models/bench/verification.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from d2vpr_ros.describe import Extractor
from d2vpr_ros.geometry import Array, Pose, distance, turn
from d2vpr_ros.images.decode import decode_compressed
from d2vpr_ros.localize.verification import Picture
from d2vpr_ros.mapping.picture import encode_picture, shrink
from d2vpr_ros.sim.conditions import CONDITIONS
from d2vpr_ros.sim.render import CAMERA_MOUNT, Renderer
from d2vpr_ros.sim.town import build_town
from models.data import HELD_OUT_FLOORS, read_rgb, read_rows, tower_pictures
from models.town_views import places_apart

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class PairSet:
    """Pictures of queries and of places (through JPEG, as stored), and which of them are compared.

    Attributes:
        same, different: (queries, places) of pairs.
        turned: T_place_query's rotation of the i-th query and place, where known.
        k: (3, 3) of all pictures, where known.
    """

    name: str
    queries: list[Picture]
    places: list[Picture]
    same: Flags
    different: Flags
    k: Array | None = None
    turned: list[Rotation] | None = None


def town_sets(seeds: list[int], count: int, yaw_deg: float) -> Iterator[PairSet]:
    """Queries 1.5 m to a side of the places, up to 1.5 m before or behind and up to `yaw_deg` turned."""
    renderer = Renderer(320, 240)
    for seed in seeds:
        random, town = np.random.default_rng(seed), build_town(seed)
        places = places_apart(seed, count, 6.0, random)
        renderer.load(town, CONDITIONS["noon"])
        stored = [through_jpeg(renderer.render(place @ CAMERA_MOUNT)) for place in places]
        for name in ("noon", "dusk", "night", "snow"):
            renderer.load(town, replace(CONDITIONS[name], moved_objects=12 + seed))
            yaws = np.radians(random.uniform(-yaw_deg, yaw_deg, count))
            bases = [
                place @ Pose.planar(random.uniform(-1.5, 1.5), random.choice([-1.5, 1.5]), yaw)
                for place, yaw in zip(places, yaws, strict=True)
            ]
            elsewhere = [[distance(base, place) > 40 or turn(base, place) > 1.5 for place in places] for base in bases]
            turned = [
                (place @ CAMERA_MOUNT).rotation.inv() * (base @ CAMERA_MOUNT).rotation
                for base, place in zip(bases, places, strict=True)
            ]
            queries = [renderer.render(base @ CAMERA_MOUNT) for base in bases]
            same, k = np.eye(count, dtype=bool), renderer.camera_matrix
            yield PairSet(f"town {name}", queries, stored, same, np.array(elsewhere), k, turned)


def footage_sets(footage: Path) -> Iterator[PairSet]:
    """The real pictures."""
    rows = read_rows(footage, "campus_loop_ros")
    gaps = between(np.array([[float(row["x"]), float(row["y"])] for row in rows]))
    frames = [read_rgb(footage / "campus_loop_ros" / row["filename"]) for row in rows]
    next_to = abs(np.subtract.outer(np.arange(len(rows)), np.arange(len(rows)))) == 1
    yield PairSet("campus 3 m apart", frames, [through_jpeg(frame) for frame in frames], next_to, gaps > 25)

    pictures = tower_pictures(footage)
    starts = [n for n in range(len(pictures) - 1) if pictures[n].video == pictures[n + 1].video]
    for name, held_out, step in (("tower", False, 6), ("tower held out", True, 3)):
        chosen = [n for n in starts if (pictures[n].floor in HELD_OUT_FLOORS) == held_out][::step]
        floors = np.array([pictures[n].floor for n in chosen])
        queries = [shrink(read_rgb(pictures[n].path)) for n in chosen]
        stored = [through_jpeg(read_rgb(pictures[n + 1].path)) for n in chosen]
        yield PairSet(name, queries, stored, np.eye(len(chosen), dtype=bool), floors[:, None] != floors)

    rows = read_rows(footage, "opensfm_lund")
    metres = 111_320 * np.array([np.cos(np.radians(55.7)), 1.0])
    gaps = between(np.array([[float(row["lon"]), float(row["lat"])] for row in rows]) * metres)
    frames = [shrink(read_rgb(footage / "opensfm_lund" / row["filename"])) for row in rows]
    near = (gaps < 12) & ~np.eye(len(rows), dtype=bool)
    yield PairSet("lund within 12 m", frames, [through_jpeg(frame) for frame in frames], near, gaps > 80)

    rows = read_rows(footage, "grief_stromovka_pairs")
    is_green = np.array([row["traverse"] == "season_00" for row in rows])
    frames = [read_rgb(footage / "grief_stromovka_pairs" / row["filename"]) for row in rows]
    green, snow = ([frames[n] for n in np.flatnonzero(chosen)] for chosen in (is_green, ~is_green))
    apart = abs(np.subtract.outer(np.arange(len(snow)), np.arange(len(green))))
    yield PairSet("grief snow", snow, [through_jpeg(picture) for picture in green], apart == 0, apart > 3)

    rows = read_rows(footage, "sevenscenes_tsdf")
    keys = ("x", "y", "z", "qx", "qy", "qz", "qw")
    poses = [Pose.of(*(float(row[key]) for key in keys)) for row in rows]
    frames = [read_rgb(footage / "sevenscenes_tsdf" / row["filename"]) for row in rows]
    asked, kept = range(400, 500, 4), range(0, 400, 10)
    far = np.array([[distance(poses[a], poses[b]) for b in kept] for a in asked])
    angle = np.array([[turn(poses[a], poses[b]) for b in kept] for a in asked])
    stored = [through_jpeg(frames[b]) for b in kept]
    yield PairSet("sevenscenes", [frames[a] for a in asked], stored, (far < 0.5) & (angle < 0.5), angle > 1.2)


def through_jpeg(rgb: Picture) -> Picture:
    return decode_compressed(np.frombuffer(encode_picture(rgb), np.uint8))


def between(positions: Array) -> Array:
    return np.asarray(cdist(positions, positions))


def choose(one: PairSet, extractor: Extractor, random: np.random.Generator) -> PairSet:
    """Of the different places six at random and the six most alike for each query."""
    similar = extractor.describe(one.queries) @ extractor.describe(one.places).T
    kept = np.zeros_like(one.different)
    for row, allowed in enumerate(one.different):
        columns = np.flatnonzero(allowed)
        kept[row, columns[np.argsort(-similar[row, columns])[:6]]] = True
        kept[row, random.permutation(columns)[:6]] = True
    return replace(one, different=kept)
