"""What the geometry is measured on: maps, and images of which it is known where they were taken.

Maps and drives are made by the commands that a user has, in a folder that keeps them.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from d2vpr_ros.bags.drive import open_drive
from d2vpr_ros.bags.reader import open_bag
from d2vpr_ros.describe import Extractor
from d2vpr_ros.geometry import Pose
from d2vpr_ros.mapping import PlaceMap, read_map
from d2vpr_ros.multiview import Lens, camera_lens
from d2vpr_ros.multiview.view import Picture
from models.bench.town import ASIDE_M, build_map, command, is_whole
from models.bench.town import drive as town_drive
from models.data import read_rows

DAY, DARK = ("dusk", "overcast"), ("night", "rain", "snow")
QUERY_RATE_HZ = 0.5  # an image each 10 m: 43 in a lap
SLAM, TRUTH = "/slam/pose", "/ground_truth/pose"
ROOM_SHARE, ROOM_SPACING_M = 0.8, 0.05


@dataclass(frozen=True, eq=False)
class Query:
    """An image whose pose is known.

    Attributes:
        rgb: (H, W, 3) uint8.
        descriptor: (D,) float32 of unit length.
        truth: T_map_cameraOptical.
        lens: None where not known.
    """

    rgb: Picture
    descriptor: npt.NDArray[np.float32]
    truth: Pose
    lens: Lens | None


@dataclass(frozen=True, eq=False)
class Scene:
    """A map and drives through it.

    Attributes:
        drives: by name, images when they are asked for.
        axes: of a position, those in which the error counts: x and y for a robot, all three for a camera in the hand.
        near_m: a place within this distance of the camera is a right one.
    """

    name: str
    place_map: PlaceMap
    drives: Mapping[str, Callable[[], Iterator[Query]]]
    axes: tuple[int, ...]
    near_m: float


def town_scene(folder: Path, seed: int, extractor: Extractor, most: int, pose_topic: str = SLAM) -> Scene:
    """A town at noon, and drives 1.5 m aside under other conditions; mapped with noisy poses, or with the true ones."""
    noisy = pose_topic == SLAM
    path = folder / f"{seed}{'' if noisy else '_exact'}.d2map"
    build_map(town_drive(folder, seed, "noon"), path, "--pose-topic", pose_topic)
    drives = {}
    for condition in (*DAY, *DARK):
        bag = town_drive(folder, seed, condition, ASIDE_M, QUERY_RATE_HZ)
        drives[condition] = partial(read_queries, bag, extractor, most)
    return Scene(f"town {seed}", read_map(path), drives, (0, 1), 10.0)


def room_scene(folder: Path, footage: Path, extractor: Extractor, most: int, with_lens: bool = True) -> Scene:
    """sevenscenes_tsdf: the first four fifths are the map; with the intrinsics beside it, or with none."""
    name, rows = "sevenscenes_tsdf", read_rows(footage, "sevenscenes_tsdf")
    cut, suffix = round(ROOM_SHARE * len(rows)), "" if with_lens else "_no_lens"
    options: tuple[object, ...] = ("--pose-of", "camera_optical")
    options += ("--intrinsics", footage / name / "camera-intrinsics.txt") if with_lens else ()
    bags = [
        footage_bag(folder, footage, name, part + suffix, chosen, *options)
        for part, chosen in (("map", rows[:cut]), ("queries", rows[cut:]))
    ]
    path = folder / f"{name}{suffix}.d2map"
    build_map(bags[0], path, "--pose-topic", SLAM, "--spacing", ROOM_SPACING_M)
    drives = {"": partial(read_queries, bags[1], extractor, most)}
    return Scene("as stated" if with_lens else "not known", read_map(path), drives, (0, 1, 2), 0.5)


def campus_scene(folder: Path, footage: Path, extractor: Extractor, most: int) -> Scene:
    """campus_loop_ros: every other image is the map; nothing is known of the lens."""
    name, rows = "campus_loop_ros", read_rows(footage, "campus_loop_ros")
    bags = [footage_bag(folder, footage, name, part, rows[first::2]) for first, part in enumerate(("map", "queries"))]
    path = folder / f"{name}.d2map"
    build_map(bags[0], path, "--pose-topic", SLAM, "--max-gap", 5)
    return Scene("not known", read_map(path), {"": partial(read_queries, bags[1], extractor, most)}, (0, 1), 5.0)


def footage_bag(
    folder: Path, footage: Path, name: str, part: str, rows: list[dict[str, str]], *options: object
) -> Path:
    """Some images of a footage's folder as a bag."""
    bag, table = folder / f"{name}_{part}", folder / f"{name}_{part}.csv"
    if not is_whole(bag):
        with table.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
        command("bag", "from-images", footage / name, table, "-o", bag, *options)
    return bag


def read_queries(bag_path: Path, extractor: Extractor, most: int) -> Iterator[Query]:
    """The images of a bag with their true poses, at most so many, evenly spread."""
    with open_bag(bag_path) as bag:
        drive = open_drive(bag, pose_topic=TRUTH, max_gap_s=5.0)
        camera = next(iter(drive.cameras.values()))
        lens = camera_lens(camera.calibration)
        step = max(1, -(-drive.total // most))
        for number, posed in enumerate(drive.frames()):
            if number % step == 0:
                rgb = posed.frame.rgb
                yield Query(rgb, extractor.describe([rgb])[0], posed.pose, lens)
