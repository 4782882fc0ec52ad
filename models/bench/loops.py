"""What loop closure finds and what it is worth, on ten tours of towns that nothing was fitted on.

    OMP_NUM_THREADS=1 python -m models.bench.loops --folder FOLDER
    OMP_NUM_THREADS=1 python -m models.bench.loops --folder FOLDER --rules   # and other rules on the same pictures
    OMP_NUM_THREADS=1 python -m models.bench.loops --folder FOLDER --two-towns
    OMP_NUM_THREADS=1 python -m models.bench.loops --folder FOLDER --gtsam PYTHON --evo PYTHON

FOLDER keeps the bags, 2 GB, the maps and the numbers of each tour (TOUR.json): what is there is not done again.
`gtsam_reference.py` and `evo_reference.py` say how to get a Python for the last line: the same graph is solved by GTSAM
with GNC, and evo measures the same trajectories.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from d2vpr_ros.bags.drive import open_drive
from d2vpr_ros.bags.reader import open_bag
from d2vpr_ros.cli.main import main as d2vpr
from d2vpr_ros.describe.features import FeatureExtractor
from d2vpr_ros.evaluation.loop_drive import close_and_score, true_poses
from d2vpr_ros.evaluation.loop_results import write_page
from d2vpr_ros.evaluation.trajectory_error import absolute_error, step_error
from d2vpr_ros.geometry import Array, Pose
from d2vpr_ros.loops.closer import LoopCloser
from d2vpr_ros.loops.closing import Closing, find_closing, odometry_of, place_of, solve_closing
from d2vpr_ros.loops.closure import Closure
from d2vpr_ros.loops.graph import Poses
from d2vpr_ros.loops.robust import joined, measured_closures, measured_of
from d2vpr_ros.mapping import PlaceMap, read_map
from d2vpr_ros.mapping.loop_table import StoredOdometry
from d2vpr_ros.sim.drive import ODOM, TRUTH
from models.bench.loop_tours import TOURS, Tour, record
from models.bench.loops_rules import Tried, first_candidate, swarm_slam, try_all
from models.bench.loops_solver import by_gtsam

COLUMNS = (
    ("revisited_closed", "closed", "{:.1%}"),
    ("visits_found", "visits", "{}"),
    ("visits", "of", "{}"),
    ("wrong_closures", "wrong", "{}"),
    ("trajectory_error_before_m", "odometry, m", "{:.2f}"),
    ("trajectory_error_after_m", "corrected, m", "{:.2f}"),
    ("trajectory_error_ratio", "ratio", "{:.2f}"),
    ("scaled_error_after_m", "with scale, m", "{:.2f}"),
    ("true_closures_m", "true closures, m", "{:.2f}"),
    ("true_closures_scaled_m", "with scale, m", "{:.2f}"),
    ("revisit_error_p95_m", "revisits 95 %, m", "{:.2f}"),
    ("closure_error_m", "closure, m", "{:.3f}"),
    ("closure_error_deg", "deg", "{:.2f}"),
    ("closure_coverage_95", "in ellipsoid", "{:.1%}"),
    ("closing_ms_a_place", "ms a place", "{:.0f}"),
    ("gtsam_error_m", "GTSAM, m", "{:.2f}"),
    ("evo_apart_m", "evo apart, m", "{:.1e}"),
)

_APART = ("--transform", "0", "0", "0", "0", "0", "0", "1")  # of two odometries; anything would do


def build(one: Tour, folder: Path) -> tuple[Path, Path]:
    """The bag of a tour, and the map that odometry makes of it."""
    bag, built = record(one, folder), folder / f"tour_{one.seed}.d2map"
    if not built.exists():
        partial = folder / f"partial_{one.seed}.d2map"
        for ending in ("", "-wal", "-shm"):
            partial.with_name(partial.name + ending).unlink(missing_ok=True)
        if d2vpr(["map", "build", str(bag), "-o", str(partial), "--pose-topic", ODOM, "--no-landmarks"]) != 0:
            raise SystemExit(f"{bag}: no map")
        partial.rename(built)
    return bag, built


def measure(one: Tour, folder: Path, gtsam: Path | None, evo: Path | None) -> dict[str, Any]:
    """All numbers of a tour; its page and its numbers are kept in the folder."""
    kept = folder / f"tour_{one.seed}.json"
    if kept.exists():
        return dict(json.loads(kept.read_text(encoding="utf-8")))
    bag, built = build(one, folder)
    closed = folder / f"closed_{one.seed}.d2map"
    shutil.copyfile(built, closed)
    features = FeatureExtractor.open(device="cpu")
    with open_bag(bag) as opened:
        scores, closing = close_and_score(closed, open_drive(opened, pose_topic=TRUTH), features)
    numbers: dict[str, Any] = {"tour": one.name, **scores.numbers(), "refused": dict(closing.refused)}
    if closing.closures:
        exact = absolute_error(solved_by_truth(read_map(built), closing.closures, scores.truth, features),
                               scores.truth.positions)  # fmt: skip
        numbers |= {"true_closures_m": exact.rigid_m, "true_closures_scaled_m": exact.scaled_m}
    if gtsam is not None and closing.closures:
        positions = solved_by_gtsam(gtsam, read_map(built), closing, features)
        numbers["gtsam_error_m"] = absolute_error(positions, scores.truth.positions).rigid_m
    if evo is not None:
        numbers["evo_apart_m"] = max(apart_from_evo(evo, part, scores.truth) for part in (scores.before, scores.after))
    write_page(folder / f"tour_{one.seed}.html", scores, one.name, closing.refused, [("tour", one.name)])
    kept.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    return numbers


def solved_by_gtsam(python: Path, place_map: PlaceMap, closing: Closing, features: FeatureExtractor) -> Array:
    """(N, 3) positions by GTSAM with GNC, on the same odometry and the same closures."""
    closer, _ = knowing_all(place_map, features)
    edges, _ = closer.edges()
    steps = measured_of(place_map.ids, edges, "step", planar=closer.is_planar)
    seen = measured_closures(place_map.ids, closing.closures, closer.is_planar)
    start = Poses(*place_map.base_poses())
    return by_gtsam(python, start, joined(steps, seen), len(edges), robust=True)["positions"]


def solved_by_truth(
    place_map: PlaceMap, closures: Sequence[Closure], truth: Poses, features: FeatureExtractor
) -> Array:
    """(N, 3) positions by our solver with closures of the same places that are exactly true.

    What is off then is what odometry and closures of these places do not tell, however good the closures are.

    Args:
        place_map: with the odometry of its places as its poses, or as what it keeps of them.
        truth: T_frame_base of its places.
    """
    closer, odometry = knowing_all(place_map, features)
    old, new = (np.searchsorted(place_map.ids, [getattr(one, end) for one in closures]) for end in ("old", "new"))
    true = truth.between(old, new)
    turned = Rotation.from_matrix(true.rotations).as_quat()
    closer.closures = [
        replace(one, pose=Pose(*pose)) for one, *pose in zip(closures, true.positions, turned, strict=True)
    ]
    solved = solve_closing(place_map, closer, odometry, np.zeros(len(place_map), np.bool_)).correction
    assert solved is not None
    return solved.positions


def knowing_all(place_map: PlaceMap, features: FeatureExtractor) -> tuple[LoopCloser, dict[int, StoredOdometry]]:
    """A closer that has taken all places of a map without a search, and their odometry."""
    odometry = odometry_of(place_map, np.zeros(len(place_map), np.bool_))
    closer = LoopCloser(place_map.path, place_map.header, features)
    for row in range(len(place_map)):
        closer.know(place_of(place_map, row, odometry[int(place_map.ids[row])]))
    return closer, odometry


def apart_from_evo(python: Path, estimate: Poses, truth: Poses) -> float:
    """The largest difference between our errors and evo's, metres."""
    with tempfile.TemporaryDirectory() as folder:
        stored = Path(folder) / "trajectories.npz"
        np.savez(
            stored,
            estimate_positions=estimate.positions,
            estimate_rotations=estimate.rotations,
            truth_positions=truth.positions,
            truth_rotations=truth.rotations,
        )
        apart = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
        script = str(Path(__file__).parent / "evo_reference.py")
        said = subprocess.run([python, script, stored], check=True, env=apart, capture_output=True, text=True)
    theirs, ours = json.loads(said.stdout), absolute_error(estimate.positions, truth.positions)
    step_m, _ = step_error(estimate, truth)
    pairs = ((ours.rigid_m, "rigid_m"), (ours.scaled_m, "scaled_m"), (step_m, "step_m"))
    return max(abs(value - theirs[name]) for value, name in pairs)


def tried(one: Tour, folder: Path) -> Tried:
    """What other rules see of a tour; kept in the folder."""
    kept = folder / f"tried_{one.seed}.npz"
    if not kept.exists():
        bag, built = build(one, folder)
        place_map = read_map(built)
        with open_bag(bag) as opened:
            truth = true_poses(place_map, open_drive(opened, pose_topic=TRUTH))
        mounts = np.array([place_map.camera_table[int(key)].mount.rotation.as_matrix() for key in place_map.cameras])
        found = try_all(place_map, truth, truth.rotations @ mounts, FeatureExtractor.open(device="cpu"))
        np.savez(kept, **vars(found))
    with np.load(kept) as stored:
        return Tried(**{name: stored[name] for name in stored.files})


def print_two_towns(pairs: list[tuple[Tour, Tour]], folder: Path) -> None:
    """Two towns as one drive: every closure between them is wrong."""
    print("\n| first town | second town | places | closures within one | between both: wrong |")
    print("|---|---|---|---|---|")
    for first, second in pairs:
        together = folder / f"together_{first.seed}_{second.seed}.d2map"
        if not together.exists():
            maps = [str(build(one, folder)[1]) for one in (first, second)]
            if d2vpr(["map", "merge", *maps, "-o", str(together), *_APART]) != 0:
                raise SystemExit(f"{together}: no map")
        place_map = read_map(together)
        closing = find_closing(place_map, FeatureExtractor.open(device="cpu"))
        town = dict(zip(place_map.ids.tolist(), place_map.sessions.tolist(), strict=True))
        wrong = sum(town[one.old] != town[one.new] for one in closing.closures)
        within = len(closing.closures) - wrong
        print(f"| {first.name} | {second.name} | {len(place_map)} | {within} | {wrong} |", flush=True)


def print_table(rows: list[dict[str, Any]]) -> None:
    shown = [column for column in COLUMNS if any(column[0] in row for row in rows)]
    print("| tour | " + " | ".join(name for _, name, _ in shown) + " |")
    print("|---" * (len(shown) + 1) + "|")
    for row in rows:
        values = [form.format(row[key]) if row.get(key) is not None else "-" for key, _, form in shown]
        print(f"| {row['tour']} | " + " | ".join(values) + " |")
    for name, of in (("by day", [row for row in rows if "then" not in row["tour"]]),
                     ("another light", [row for row in rows if "then" in row["tour"]])):  # fmt: skip
        if of:
            revisited = sum(row["revisited"] for row in of)
            closed = sum(row["revisited"] * (row["revisited_closed"] or 0.0) for row in of) / max(1, revisited)
            long = sum(row["long_visits_found"] for row in of), sum(row["long_visits"] for row in of)
            ratios = [row["trajectory_error_ratio"] for row in of]
            print(
                f"{name}: {closed:.1%} of {revisited} places seen before closed, {long[0]} of {long[1]} visits over "
                f"20 m, {sum(row['wrong_closures'] for row in of)} wrong; trajectory error after / before: mean "
                f"{np.mean(ratios):.2f}, worst {max(ratios):.2f}"
            )


def print_rules(seen: list[tuple[Tour, Tried]]) -> None:
    """Precision and recall of other rules, by keyframe."""
    print("\n| tours | rule | threshold | precision | recall | wrong closures |")
    print("|---|---|---|---|---|---|")
    for name, tours in (
        ("by day", [found for one, found in seen if not one.later]),
        ("another light", [found for one, found in seen if one.later]),
    ):
        if tours:
            for rule, outcome in (
                ("similarity and 20 inliers", swarm_slam(tours)), ("first candidate", first_candidate(tours)),
            ):  # fmt: skip
                print(
                    f"| {name} | {rule} | {outcome.threshold:.3f} | {outcome.precision:.1%} | {outcome.recall:.1%} | "
                    f"{outcome.wrong} |"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--tours", type=int, nargs="+", metavar="SEED", help="only these towns (default: all ten)")
    parser.add_argument("--rules", action="store_true", help="also other rules, which takes as long again")
    parser.add_argument("--two-towns", action="store_true", help="also each two towns as one drive")
    parser.add_argument("--gtsam", type=Path, metavar="PYTHON", help="a Python that has GTSAM")
    parser.add_argument("--evo", type=Path, metavar="PYTHON", help="a Python that has evo")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    tours = [one for one in TOURS if args.tours is None or one.seed in args.tours]
    rows = [measure(one, args.folder, args.gtsam, args.evo) for one in tours]
    print_table(rows)
    if args.two_towns:
        print_two_towns(list(pairwise(tours)), args.folder)
    if args.rules:
        print_rules([(one, tried(one, args.folder)) for one in tours])


if __name__ == "__main__":
    main()
