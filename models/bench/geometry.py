"""What the pictures of a map prove about one image: its pose, its inliers, and what they cost.

    OPENBLAS_NUM_THREADS=1 python -m models.bench.geometry --folder FOLDER --footage FOOTAGE
    python -m models.bench.geometry --folder FOLDER --only towns --seeds 30 --queries 15

One image alone: the first eight candidates of nano, no odometry, no history; of their groups the one with a pose and
most inliers answers. Towns are mapped at noon with 0.1 m of noise in the poses and driven 1.5 m aside under other
conditions. Everything is recorded and mapped by the commands that a user has; FOLDER keeps it, 80 MB. Nothing is fitted
to these towns, nor to the snow pairs, the room and the held-out floors. Times are of one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from d2vpr_ros.describe import Extractor
from d2vpr_ros.describe.features import FeatureExtractor
from d2vpr_ros.multiview import GeometryParams, PlaceGeometry
from models.bench.geometry_answers import (
    CANDIDATES,
    OFF_M,
    Answer,
    PoseFigures,
    ask,
    count_within,
    pose_figures,
    quantile,
    right_inliers,
)
from models.bench.geometry_cost import NANO, STORED_PLACES, Footprint, cost, footprint
from models.bench.geometry_ranking import LOOK_ALIKE, Ranked, look_alike, of_answers, of_benchmark, ranking_figures
from models.bench.geometry_scenes import DARK, DAY, TRUTH, Scene, campus_scene, room_scene, town_scene
from models.bench.timing import ROUNDS, Times, median_ms, processor, ratio
from models.benchmarks import snow, tower
from models.data import HELD_OUT_FLOORS

NAMES = ("towns", "exact", "room", "campus", "wrong", "ranking", "floors", "cost")
OF_FOOTAGE = {"room", "campus", "floors"}
SEEDS = (30, 31, 32)
FLOOR_EVERY = 3  # of the images that are asked for on the floors
NIGHT = "night"
HIGH = (0.5, 0.95, 0.99, 0.999)
ROOMY = GeometryParams(kept_views=1000, kept_landmarks=1000)  # a town's places are looked at once
ROOM_WITHIN = (0.05, 0.15)
NOTHING = "-"

Answers = Mapping[str, Sequence[Answer]]
"""By condition."""


def main(words: Sequence[str] | None = None) -> None:
    args = parsed(words)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    args.folder.mkdir(parents=True, exist_ok=True)
    nano, features, only = Extractor.open("nano"), FeatureExtractor.open(), set(args.only)
    print(f"{processor()}\n")

    if {"towns", "wrong", "ranking"} & only:
        scenes = [town_scene(args.folder, seed, nano, args.queries) for seed in args.seeds]
        conditions = (*DAY, *DARK) if {"towns", "wrong"} & only else (NIGHT,)
        answers = ask_towns(scenes, features, conditions)
    if "towns" in only:
        show("unseen towns, map poses with 0.1 m of noise", pose_table(by_group(answers)))
    if "exact" in only:
        exact = [town_scene(args.folder, seed, nano, args.queries, TRUTH) for seed in args.seeds]
        show("map poses without noise", pose_table(by_group(ask_towns(exact, features, DAY))))
    if "room" in only:
        rooms = [room_scene(args.folder, args.footage, nano, args.queries, with_lens) for with_lens in (True, False)]
        room, lenses = ask_scenes(rooms, features)
        title = "sevenscenes_tsdf, the first 80 % are the map, by intrinsics"
        show(title, pose_table(room), within_lines(room, ROOM_WITHIN), lenses)
    if "campus" in only:
        campus, lenses = ask_scenes([campus_scene(args.folder, args.footage, nano, args.queries)], features)
        show("campus_loop_ros, every other image is the map, by intrinsics", pose_table(campus), lenses)
    if "wrong" in only:
        show("inliers of right and wrong places, with a pose", wrong_table(answers))
    if "ranking" in only:
        ranked = {
            "towns, night": of_answers(answers[NIGHT]),
            "towns, night, two views where there is no pose": of_answers(answers[NIGHT], mixed=True),
        }
        if args.footage:
            benchmarks = *snow(args.footage), tower(args.footage)[0]
            ranked |= {one.name: of_benchmark(one, nano, features) for one in benchmarks}
        show(f"re-ranking the first {CANDIDATES} candidates by inliers", ranking_table(ranked))
    if "floors" in only:
        floors = {
            "floors to fit on": look_alike(args.footage, LOOK_ALIKE, FLOOR_EVERY, nano, features),
            "held-out floors": look_alike(args.footage, HELD_OUT_FLOORS, FLOOR_EVERY, nano, features),
        }
        show("look-alike floors beside right ones, two views", floor_table(floors))
    if "cost" in only:
        town = town_scene(args.folder, args.seeds[0], nano, args.queries)
        geometry, query = PlaceGeometry(town.place_map, features), next(town.drives[DAY[0]]())
        times = cost(geometry, query, nano, args.rounds)
        sizes = footprint(geometry, range(0, len(town.place_map), 10))
        show("cost of one image, one core", cost_table(times), size_lines(sizes))


def parsed(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--footage", type=Path)
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), metavar="SEED", help="of the towns")
    parser.add_argument("--queries", type=int, default=100, help="of each drive, at most (100)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of the timing ({ROUNDS})")
    args = parser.parse_args(words)
    asked = set(args.only or NAMES)
    if args.footage is None and asked & OF_FOOTAGE:
        if args.only:
            parser.error(f"{', '.join(sorted(asked & OF_FOOTAGE))}: needs --footage")
        asked -= OF_FOOTAGE
    args.only = asked
    return args


def ask_towns(
    scenes: Sequence[Scene], features: FeatureExtractor, conditions: Iterable[str]
) -> dict[str, list[Answer]]:
    """Every image of every town; the next town's map is the one that should say no."""
    geometries = [PlaceGeometry(scene.place_map, features, ROOMY) for scene in scenes]
    foreign = [*geometries[1:], *geometries[:1]] if len(scenes) > 1 else [None]
    found: dict[str, list[Answer]] = {condition: [] for condition in conditions}
    for scene, geometry, other in zip(scenes, geometries, foreign, strict=True):
        for condition, answers in found.items():
            answers += [ask(geometry, query, scene, other) for query in scene.drives[condition]()]
    return found


def ask_scenes(scenes: Sequence[Scene], features: FeatureExtractor) -> tuple[dict[str, list[Answer]], list[str]]:
    """Every image of scenes with one drive, and what lens each was seen through in the end."""
    answers, lenses = {}, []
    for scene in scenes:
        geometry, (drive,) = PlaceGeometry(scene.place_map, features, ROOMY), scene.drives.values()
        queries = list(drive())
        answers[scene.name] = [ask(geometry, query, scene) for query in queries]
        of_map = geometry.place_lens(0)
        focal = "not known" if of_map is None else f"{of_map.focal_px:.0f} px"
        lenses.append(f"Intrinsics {scene.name}: map {focal}, images {geometry.intrinsics(queries[0].lens)}.")
    return answers, lenses


def by_group(answers: Answers) -> dict[str, list[Answer]]:
    """Each condition, and those by day and those of bad light and weather together."""
    found: dict[str, list[Answer]] = {}
    for group in (DAY, DARK):
        known = [name for name in group if name in answers]
        found |= {name: list(answers[name]) for name in known}
        if len(known) > 1:
            found[f"**{', '.join(known)}**"] = [one for name in known for one in answers[name]]
    return found


def pose_table(answers: Answers) -> list[str]:
    heads = [
        "images", "answered", "position 50 %", "95 %", "turn 50 %", "in the 95 % ellipse", "semi-axis / error",
        "place's own position", "turn",
    ]  # fmt: skip
    return table(heads, {name: pose_cells(pose_figures(list(of))) for name, of in answers.items()})


def pose_cells(found: PoseFigures) -> list[str]:
    return [
        str(found.images),
        percent(found.answered),
        metres(found.median_m),
        metres(found.most_m),
        degrees(found.turn_deg),
        percent(found.inside),
        NOTHING if np.isnan(found.axis_ratio) else f"{found.axis_ratio:.1f}",
        metres(found.place_m),
        degrees(found.place_deg),
    ]


def within_lines(answers: Answers, limits_m: Sequence[float]) -> list[str]:
    lines = []
    for name, one in answers.items():
        near = ", ".join(f"{count_within(one, limit)} within {metres(limit)}" for limit in limits_m)
        lines.append(f"Intrinsics {name}: of {len(one)} images {near}.")
    return lines


def wrong_table(answers: Answers) -> list[str]:
    """Inliers at the low end of right places and at the high end of wrong ones."""
    rows: dict[str, list[str]] = {}
    for title, group in ((", ".join(DAY), DAY), (", ".join(DARK), DARK)):
        every = [one for name in group for one in answers[name]]
        far, foreign = [pair for one in every for pair in one.far], [pair for one in every for pair in one.foreign]
        rows[f"right, {title}"] = low_cells(right_inliers(every))
        rows[f"over 15 m away, {title}"] = high_cells([inliers for inliers, _ in far])
        rows[f"those with a pose over {OFF_M:g} m off, {title}"] = high_cells(
            [inliers for inliers, off in far if off > OFF_M]
        )
        rows[f"another town's, {title}"] = high_cells([inliers for inliers, _ in foreign])
    return table(["pairs", "5 %", *(f"{100 * share:g} %" for share in HIGH)], rows)


def low_cells(inliers: Sequence[int]) -> list[str]:
    return [str(len(inliers)), f"**{quantile(inliers, 0.05):.0f}**", f"{quantile(inliers, 0.5):.0f}", "", "", ""]


def high_cells(inliers: Sequence[int]) -> list[str]:
    return [str(len(inliers)), "", *(f"{quantile(inliers, share):.0f}" for share in HIGH)]


def ranking_table(ranked: Mapping[str, Sequence[Ranked]]) -> list[str]:
    heads = ["images", "recall@1 by descriptor", "by inliers", "answered at 99 %", "at 100 %"]
    rows = {}
    for name, of in ranked.items():
        found = ranking_figures(of)
        shares = (found.by_descriptor, found.by_inliers, found.answered_99, found.answered_100)
        rows[name] = [str(found.images), *(f"{share:.3f}" for share in shares)]
    return table(heads, rows)


def floor_table(floors: Mapping[str, tuple[Sequence[Ranked], Sequence[Ranked]]]) -> list[str]:
    heads = ["images", "inliers 5 %", "50 %", "95 %", "100 %", "margin 5 %", "50 %", "95 %", "100 %"]
    rows = {}
    for name, (own, other) in floors.items():
        found = [one for one in own if one.right[one.best]]
        missed = [one for one in own if not one.right[one.best]]
        kinds = {"the right place": found, "its floor, another place": missed, "another floor": other}
        for kind, ranked in kinds.items():
            inliers, margins = [int(one.inliers.max()) for one in ranked], [one.margin for one in ranked]
            cells = [f"{quantile(of, share):.0f}" for of in (inliers, margins) for share in (0.05, 0.5, 0.95, 1.0)]
            rows[f"{name}: {kind}"] = [str(len(ranked)), *cells]
    return table(heads, rows)


def cost_table(times: Times) -> list[str]:
    rows = {name: [f"{median_ms(times, name):.1f}", f"{ratio(times, name, NANO):.2f}"] for name in times}
    return table(["ms", f"times {NANO}"], rows)


def size_lines(found: Footprint) -> list[str]:
    return [
        f"{found.count:.0f} landmarks a place. In memory {found.view / 1e3:.0f} kB of a place's features and "
        f"{found.landmarks / 1e3:.0f} kB of its landmarks: {found.memory:.0f} MB for a map of {STORED_PLACES} places, "
        f"both caches full. A place's picture takes {found.picture / 1e3:.1f} kB of the map; its landmarks, were they "
        f"stored, {found.stored / 1e3:.1f} kB."
    ]


def table(heads: Sequence[str], rows: Mapping[str, Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = [f"| | {' | '.join(heads)} |", "|---|" + "---:|" * len(heads)]
    return lines + [f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()]


def show(title: str, *parts: Sequence[str]) -> None:
    print(f"## {title}\n")
    for lines in parts:
        print("\n".join(lines) + "\n", flush=True)


def percent(share: float) -> str:
    return NOTHING if np.isnan(share) else f"{100 * share:.0f} %"


def metres(value: float) -> str:
    return NOTHING if np.isnan(value) else f"{value:.2f} m" if value >= 0.1 else f"{value:.3f} m"


def degrees(value: float) -> str:
    return NOTHING if np.isnan(value) else f"{value:.1f} deg"


if __name__ == "__main__":
    main()
