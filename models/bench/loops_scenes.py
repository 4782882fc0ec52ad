"""Scenes in which loop closure is easily wrong: floors of one tower, a town of equal houses, streets that are left.

    OMP_NUM_THREADS=1 python -m models.bench.loops_scenes --folder FOLDER --footage FOOTAGE
    OMP_NUM_THREADS=1 python -m models.bench.loops_scenes --folder FOLDER --footage FOOTAGE --rules
    OMP_NUM_THREADS=1 python -m models.bench.loops_scenes --folder FOLDER --scenes leaving

FOLDER is that of `models.bench.loops`: with `--rules` it is counted, too, what other rules close with the thresholds
that do best on its tours, and streets are left in the tours that it has closed. What is there is not done again.

- tower: walks along the floors of ie_tower, 0.8 m a picture; their order and way on a floor are not known, so only a
  closure between two floors counts as wrong.
- houses: a tour of a town whose houses all look the same; cars, trees and the ways differ. Wrong is what is over 1 m
  off.
- campus: campus_loop_ros once around, with odometry made from its poses (2 % too long, 0.08 degrees a metre). Its
  poses are those of the recording; wrong is what is over 5 m off.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from d2vpr_ros.bags.drive import open_drive
from d2vpr_ros.bags.reader import open_bag
from d2vpr_ros.describe.features import FeatureExtractor
from d2vpr_ros.evaluation.loop_drive import true_poses
from d2vpr_ros.evaluation.loop_scoring import RIGHT_M, Revisits
from d2vpr_ros.evaluation.trajectory_error import relative_errors
from d2vpr_ros.geometry import Array, Pose
from d2vpr_ros.loops.closing import Closing, find_closing
from d2vpr_ros.loops.closure import BELIEVED, Closure
from d2vpr_ros.loops.elimination import Rows
from d2vpr_ros.loops.graph import Poses
from d2vpr_ros.loops.params import DEFAULT_PARAMS
from d2vpr_ros.mapping import PlaceMap, read_map
from d2vpr_ros.mapping.database import connect
from d2vpr_ros.mapping.loop_table import read_closures
from d2vpr_ros.sim.drive import ODOM, TRUTH, record_drive
from d2vpr_ros.sim.layout import Town
from d2vpr_ros.sim.routes import tour
from d2vpr_ros.sim.town import build_town
from models.bench.geometry_scenes import footage_bag
from models.bench.loop_tours import TOURS
from models.bench.loops_rules import Tried, try_all, wrong_elsewhere
from models.bench.town import build_map, is_whole
from models.data import read_rows

PICTURE_M = 0.8  # from one picture of a walk to the next
FLOOR_M = 1000.0  # between floors, so that any closure between two is far off
HOUSES_SEED, HOUSES_M, HOUSES_LAPS = 570, 400.0, 1.15
TOO_LONG, TURN_DEG = 1.02, 0.08  # odometry of the campus: as a share of the way, and a metre
LEFT_M = 30.0  # way after a known street on which closures are looked for


@dataclass(frozen=True, eq=False)
class Scene:
    """A map by odometry.

    Attributes:
        truth: of its places.
        right_m: by which a closure's pose may be off.
    """

    name: str
    place_map: PlaceMap
    truth: Poses
    right_m: float


def tower(folder: Path, footage: Path) -> Scene:
    """Walks along the floors, one after the other."""
    rows = [row for row in read_rows(footage, "ie_tower") if "hallway" in row["video"]]
    rows.sort(key=lambda row: (row["video"], int(row["timestamp"])))
    walks = sorted({row["video"] for row in rows})
    floors = sorted({row["floor"] for row in rows})
    steps: dict[str, int] = dict.fromkeys(walks, 0)
    posed, at = [], []
    for number, row in enumerate(rows):
        step = steps[row["video"]]
        steps[row["video"]] += 1
        pause = 5 * walks.index(row["video"])
        posed.append(_posed(row, number + pause, Pose.planar(PICTURE_M * step, 0, 0)))
        at.append([PICTURE_M * step, FLOOR_M * floors.index(row["floor"]), 0.0])
    path = folder / "tower.d2map"
    build_map(footage_bag(folder, footage, "ie_tower", "walks", posed), path, "--spacing", 0.5, "--no-landmarks")
    return Scene("tower floors", read_map(path), _level(np.array(at)), FLOOR_M / 2)


def campus(folder: Path, footage: Path) -> Scene:
    """Once around, with drifting odometry."""
    rows = read_rows(footage, "campus_loop_ros")
    true = [Pose.of(*(float(row[name]) for name in ("x", "y", "z", "qx", "qy", "qz", "qw"))) for row in rows]
    drifted = [true[0]]
    for before, here in pairwise(true):
        step = before.inverse() @ here
        turn = Pose.planar(0, 0, np.radians(TURN_DEG) * float(np.linalg.norm(step.position)))
        drifted.append(drifted[-1] @ Pose(TOO_LONG * step.position, step.quaternion) @ turn)
    posed = [_posed(row, row["timestamp"], pose) for row, pose in zip(rows, drifted, strict=True)]
    path = folder / "campus.d2map"
    build_map(footage_bag(folder, footage, "campus_loop_ros", "drifted", posed), path, "--no-landmarks")
    rotations = np.stack([pose.rotation.as_matrix() for pose in true])
    return Scene("campus", read_map(path), Poses(np.stack([pose.position for pose in true]), rotations), 5.0)


def houses(folder: Path) -> Scene:
    """A tour past houses that all look the same."""
    bag, path = folder / "houses", folder / "houses.d2map"
    if not is_whole(bag):
        town = build_town(HOUSES_SEED)
        way = tour(town, HOUSES_M, HOUSES_SEED)
        record_drive(bag, HOUSES_SEED, laps=HOUSES_LAPS, way=way, town=of_one_house(town), sensor_seed=HOUSES_SEED)
    build_map(bag, path, "--pose-topic", ODOM, "--no-landmarks")
    with open_bag(bag) as opened:
        truth = true_poses(read_map(path), open_drive(opened, pose_topic=TRUTH))
    return Scene("equal houses", read_map(path), truth, RIGHT_M)


def of_one_house(town: Town) -> Town:
    """The town with the look of its first house on every plot."""
    first = town.houses[0]
    plots = ("front_left", "front_right", "back_right", "back_left")
    alike = [replace(first, **{name: getattr(house, name) for name in plots}) for house in town.houses]
    return replace(town, houses=tuple(alike))


def _posed(row: dict[str, str], timestamp: object, pose: Pose) -> dict[str, str]:
    numbers = zip(("x", "y", "z", "qx", "qy", "qz", "qw"), pose.numbers, strict=True)
    return {"filename": row["filename"], "timestamp": str(timestamp), **{name: str(value) for name, value in numbers}}


def _level(positions: Array) -> Poses:
    return Poses(positions, np.broadcast_to(np.eye(3), (len(positions), 3, 3)))


def wrong(closures: Sequence[Closure], ids: Rows, truth: Poses, right_m: float) -> int:
    """How many are further off."""
    if not closures:
        return 0
    old, new = (np.searchsorted(ids, [getattr(one, end) for one in closures]) for end in ("old", "new"))
    said = Poses(
        np.stack([one.pose.position for one in closures]), np.stack([one.pose.rotation.as_matrix() for one in closures])
    )
    return int((relative_errors(said, truth.between(old, new))[0] > right_m).sum())


def print_scene(scene: Scene, features: FeatureExtractor, tours: Sequence[Tried], folder: Path) -> None:
    """A row of the table, and why candidates were refused."""
    closing: Closing = find_closing(scene.place_map, features)
    kept = [one for one in closing.closures if one.weight >= BELIEVED]
    theirs = "- | -"
    if tours:
        found = try_all(scene.place_map, scene.truth, scene.truth.rotations, features, scene.right_m)
        np.savez(folder / f"tried_scene_{scene.name.replace(' ', '_')}.npz", **vars(found))
        theirs = "{} | {}".format(*wrong_elsewhere(tours, found))
    ours = wrong(kept, scene.place_map.ids, scene.truth, scene.right_m)
    print(f"| {scene.name} | {len(scene.place_map)} | {len(kept)} | {ours} | {theirs} |", flush=True)
    print(f"<!-- refused: {dict(closing.refused)} -->", flush=True)


def print_leaving(folder: Path) -> None:
    """What was closed just after a known street was left, in the tours that are closed."""
    print("\n| tour | known streets left | places within 30 m after | closures there | wrong |\n|---|---|---|---|---|")
    for one in TOURS:
        path, bag = folder / f"closed_{one.seed}.d2map", folder / f"tour_{one.seed}"
        if not (path.exists() and is_whole(bag)):
            continue
        place_map = read_map(path)
        with open_bag(bag) as opened:
            truth = true_poses(place_map, open_drive(opened, pose_topic=TRUTH))
        with connect(path) as connection:
            closures = read_closures(connection, path)
        spacing_m = place_map.spacing_m
        sights = truth.rotations @ place_map.camera_table[int(place_map.cameras[0])].mount.rotation.as_matrix()
        revisits = Revisits.of(truth, sights, spacing_m, DEFAULT_PARAMS.least_way_spacings * spacing_m)
        steps = np.linalg.norm(np.diff(truth.positions, axis=0, prepend=truth.positions[:1]), axis=1)
        way = np.cumsum(steps)
        after = [
            np.flatnonzero((way > way[visit[-1]]) & (way <= way[visit[-1]] + LEFT_M) & (revisits.earlier < 0))
            for visit in revisits.visits
            if visit[-1] < len(way) - 1
        ]
        places = set(place_map.ids[np.concatenate([*after, np.zeros(0, np.int64)])].tolist())
        there = [closure for closure in closures if closure.new in places and closure.weight >= BELIEVED]
        count = wrong(there, place_map.ids, truth, RIGHT_M)
        print(f"| {one.name} | {len(after)} | {len(places)} | {len(there)} | {count} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--footage", type=Path, help="folder of the real footage; without, no tower and no campus")
    parser.add_argument("--rules", action="store_true", help="also other rules, after `models.bench.loops --rules`")
    parser.add_argument("--scenes", nargs="+", choices=("tower", "houses", "campus", "leaving"), metavar="SCENE")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    scenes: dict[str, Callable[[], Scene]] = {"houses": lambda: houses(args.folder)}
    if args.footage:
        scenes |= {
            "tower": lambda: tower(args.folder, args.footage),
            "campus": lambda: campus(args.folder, args.footage),
        }
    asked = args.scenes or [*scenes, "leaving"]
    tours = []
    for one in TOURS:
        kept = args.folder / f"tried_{one.seed}.npz"
        if args.rules and kept.exists():
            with np.load(kept) as stored:
                tours.append(Tried(**{name: stored[name] for name in stored.files}))
    features = FeatureExtractor.open(device="cpu")
    print("| scene | places | closures | wrong | wrong by similarity and 20 inliers | wrong by the first candidate |")
    print("|---|---|---|---|---|---|", flush=True)
    for name in asked:
        if name in scenes:
            print_scene(scenes[name](), features, tours, args.folder)
    if "leaving" in asked:
        print_leaving(args.folder)


if __name__ == "__main__":
    main()
