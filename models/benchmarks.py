"""What a model is measured on: pictures of the database, pictures of the queries, and which show the same place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from d2vpr_ros.geometry import Pose
from d2vpr_ros.sim.conditions import condition_named
from d2vpr_ros.sim.render import CAMERA_MOUNT, Renderer
from d2vpr_ros.sim.routes import loop
from d2vpr_ros.sim.town import build_town
from models.data import HELD_OUT_FLOORS, read_rgb, read_rows, tower_pictures

Image = npt.NDArray[np.uint8]
FOOTAGE = ("snow", "campus", "tower", "sevenscenes")
MAP_EVERY, LATERAL_M, RADIUS_M = 10, 1.0, 10.0  # of the town; the way has a point each half metre


@dataclass(frozen=True, eq=False)
class Benchmark:
    """One table row.

    Attributes:
        name: what is measured.
        rule: what counts as correct; every query counts.
        database, queries: (H, W, 3) uint8 RGB pictures.
        positives: (queries, database) bool.
        notes: lines printed with the result: the protocol, its pitfalls, published recalls.
        labelled: whether `positives` says anything; without, there is no recall.
    """

    name: str
    rule: str
    database: Sequence[Image]
    queries: Sequence[Image]
    positives: npt.NDArray[np.bool_]
    notes: tuple[str, ...] = ()
    labelled: bool = True


def _read(folder: Path, rows: Iterable[dict[str, str]]) -> list[Image]:
    return [read_rgb(folder / row["filename"]) for row in rows]


def _positions(rows: list[dict[str, str]]) -> npt.NDArray[np.float64]:
    return np.array([[float(row[axis] or 0) for axis in "xyz"] for row in rows])


def _within(
    queries: npt.NDArray[np.float64], database: npt.NDArray[np.float64], radius: float
) -> npt.NDArray[np.bool_]:
    return np.linalg.norm(queries[:, None] - database[None], axis=2) <= radius


def snow(footage: Path) -> list[Benchmark]:
    """A park path in the green season (database) and in deep snow (queries)."""
    rows = read_rows(footage, "grief_stromovka_pairs")
    green = [row for row in rows if row["traverse"] == "season_00"]
    white = [row for row in rows if row["traverse"] == "season_01"]
    apart = np.abs(np.array([[int(q["place"]) - int(d["place"]) for d in green] for q in white]))
    folder = footage / "grief_stromovka_pairs"
    database, queries = _read(folder, green), _read(folder, white)
    return [
        Benchmark("snow pairs", "equal place", database, queries, apart == 0),
        Benchmark("snow pairs, +-1", "place +-1", database, queries, apart <= 1),
    ]


def campus(footage: Path) -> list[Benchmark]:
    """Every other frame of a robot's loop is the map."""
    rows = read_rows(footage, "campus_loop_ros")
    images, places = _read(footage / "campus_loop_ros", rows), _positions(rows)
    positives = _within(places[1::2], places[::2], 5.0)
    return [Benchmark("campus loop", "5 m", images[::2], images[1::2], positives)]


def sevenscenes(footage: Path) -> list[Benchmark]:
    """The first four fifths of a walk through one room are the map, the rest queries."""
    rows = read_rows(footage, "sevenscenes_tsdf")
    images, places = _read(footage / "sevenscenes_tsdf", rows), _positions(rows)
    cut = len(rows) * 4 // 5
    positives = _within(places[cut:], places[:cut], 0.5)
    return [Benchmark("room (7-Scenes)", "0.5 m", images[:cut], images[cut:], positives)]


def tower(footage: Path) -> list[Benchmark]:
    """Floors nobody trained on: find the frames a second before and after, alone or among all look-alike floors."""
    pictures = tower_pictures(footage)
    held_out = [picture for picture in pictures if picture.floor in HELD_OUT_FLOORS]
    kept, asked = [p for p in held_out if p.second % 2 == 0], [p for p in held_out if p.second % 2 == 1]
    others = [picture for picture in pictures if picture.floor not in HELD_OUT_FLOORS]
    queries, database = [read_rgb(p.path) for p in asked], [read_rgb(p.path) for p in kept]
    distractors = [read_rgb(p.path) for p in others]

    def near(places: list[tuple[str, int]]) -> npt.NDArray[np.bool_]:
        return np.array([[q.video == video and abs(q.second - second) == 1 for video, second in places] for q in asked])

    own = near([(p.video, p.second) for p in kept])
    among = np.hstack([own, np.zeros((len(asked), len(others)), bool)])
    return [
        Benchmark("tower, held-out floors", "frame +-1 s", database, queries, own),
        Benchmark("tower, all floors", "frame +-1 s", database + distractors, queries, among),
    ]


def town(seed: int, map_condition: str, query_conditions: Sequence[str]) -> list[Benchmark]:
    """A loop through a town no training saw: map along its middle, queries 1 m beside it under other conditions."""
    renderer, built = Renderer(320, 240), build_town(seed)
    way = loop(built)
    ahead = np.roll(way, -1, axis=0) - way
    poses = [
        Pose.planar(float(x), float(y), float(np.arctan2(dy, dx))) for (x, y), (dx, dy) in zip(way, ahead, strict=True)
    ]

    def drive(condition: str, first: int, lateral: float) -> list[Image]:
        renderer.load(built, condition_named(condition))
        beside = Pose.planar(0.0, lateral, 0.0)
        return [renderer.render(pose @ beside @ CAMERA_MOUNT) for pose in poses[first::MAP_EVERY]]

    asked = np.array([pose.position + pose.rotation.apply([0.0, LATERAL_M, 0.0]) for pose in poses[5::MAP_EVERY]])
    positives = _within(asked, np.array([pose.position for pose in poses[::MAP_EVERY]]), RADIUS_M)
    database = drive(map_condition, 0, 0.0)
    return [
        Benchmark(
            f"town {seed}, {map_condition} to {condition}",
            f"{RADIUS_M:g} m",
            database,
            drive(condition, 5, LATERAL_M),
            positives,
        )
        for condition in query_conditions
    ]
