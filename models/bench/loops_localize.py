"""Is a map from odometry with its loops closed as good to localize in as one from the true poses of the same drive?

    OMP_NUM_THREADS=1 python -m models.bench.loops_localize --folder FOLDER
    OMP_NUM_THREADS=1 python -m models.bench.loops_localize --folder FOLDER --seeds 0 --conditions dusk

Towns of `models.bench.town`, driven 1.3 times around at noon: one map of `/odom` with `--close-loops`, one of
`/ground_truth/pose`. The drives through them are those of `models.bench.town`; FOLDER may be the same. A map from
odometry has a frame of its own, so it is laid on the true one first, turned and shifted as a whole. What is left of
its drift counts in the error. It does not in the error beside the nearest place, which a robot notices that goes by
the map.

If a map and its odometry are enlarged by one factor, every step and every closure agrees as before: scale is the
odometry's. So the answers are counted with the map's scale put right, too. The second table says what else closures
leave: beside the map, the same graph with closures of the same places that are exactly true.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from d2vpr_ros.bags.drive import open_drive
from d2vpr_ros.bags.reader import open_bag
from d2vpr_ros.describe.features import FeatureExtractor
from d2vpr_ros.evaluation.loop_drive import true_poses
from d2vpr_ros.evaluation.trajectory_error import Similarity, absolute_error
from d2vpr_ros.geometry import Array, Pose
from d2vpr_ros.loops.correct import Correction, write_correction
from d2vpr_ros.loops.graph import Poses
from d2vpr_ros.mapping import read_map
from d2vpr_ros.mapping.database import connect
from d2vpr_ros.mapping.loop_table import read_closures
from d2vpr_ros.sim.drive import ODOM, TRUTH
from models.bench.loops import knowing_all, solved_by_truth
from models.bench.town import ASIDE_M, CONDITIONS, MAPS, RATE_HZ, build_map, command, drive, is_whole

LAPS = 1.3
_POSE = ("x", "y", "z", "qx", "qy", "qz", "qw")


@dataclass(frozen=True)
class Localized:
    """What the drives were answered in one map.

    Attributes:
        answered, answerable, wrong: images.
        error_m, error_p95_m: of the answers.
        beside_m: median error of an answer as seen from the nearest place.
    """

    answered: int
    answerable: int
    wrong: int
    error_m: float
    error_p95_m: float
    beside_m: float

    def line(self, name: str) -> str:
        return (
            f"| {name} | {self.answered} of {self.answerable} | {self.wrong} | {self.error_m:.3f} | "
            f"{self.error_p95_m:.3f} | {self.beside_m:.3f} |"
        )


def mapped(folder: Path, seed: int) -> tuple[Path, Path, Path, Path]:
    """The drive at noon, the map of its true poses, that of its odometry, closed, and the same laid on the first."""
    bag, true_map = folder / f"{seed}_noon_{LAPS}laps", folder / f"{seed}_true.d2map"
    closed, laid = folder / f"{seed}_closed.d2map", folder / f"{seed}_laid.d2map"
    if not is_whole(bag):
        asked = ("--seed", seed, "--laps", LAPS, "--rate", RATE_HZ, "--compressed")
        command("sim", "drive", "-o", bag, *asked)
    build_map(bag, true_map, "--pose-topic", TRUTH, "--no-landmarks")
    build_map(bag, closed, "--pose-topic", ODOM, "--close-loops", "--no-landmarks")
    shutil.copyfile(closed, laid)
    lay_on_truth(laid, truth_of(laid, bag))
    return bag, true_map, closed, laid


def truth_of(path: Path, bag: Path) -> Poses:
    """The true poses of a map's places."""
    with open_bag(bag) as opened:
        return true_poses(read_map(path), open_drive(opened, pose_topic=TRUTH))


def lay_on_truth(path: Path, truth: Poses) -> None:
    """Turn and shift a map as a whole, so that its places are nearest to where they truly are."""
    place_map = read_map(path)
    positions, rotations = place_map.base_poses()
    laid = Similarity.of(positions, truth.positions, with_scale=False)
    moved = Correction(np.arange(len(place_map)), laid.moved(positions), laid.rotation @ rotations, {}, ())
    write_correction(place_map, moved)


def left_over(closed: Path, bag: Path) -> str:
    """A row of the second table: how far the places are from the truth."""
    place_map, truth = read_map(closed), truth_of(closed, bag)
    with connect(closed) as connection:
        closures = read_closures(connection, closed)
    features = FeatureExtractor.open(device="cpu")
    _, odometry = knowing_all(place_map, features)
    bases = [odometry[number].pose @ place_map.mount(row).inverse() for row, number in enumerate(place_map.ids)]
    by_odometry, ours, exact = (
        absolute_error(positions, truth.positions)
        for positions in (
            np.stack([base.position for base in bases]),
            place_map.base_poses()[0],
            solved_by_truth(place_map, closures, truth, features),
        )
    )
    row = f"| {by_odometry.rigid_m:.2f} | {len(closures)} | {ours.rigid_m:.3f} | {ours.scaled_m:.3f} | {ours.scale:.4f}"
    return f"{row} | {exact.rigid_m:.3f} | {exact.scaled_m:.3f} |"


def localize(path: Path, bag: Path, drives: list[Path]) -> tuple[Localized, Localized]:
    """Evaluate the drives in a map: as it is, and with its scale put right."""
    table = path.with_suffix(".csv")
    command("evaluate", path, *drives, "--no-gps", "--csv", table)
    with table.open(encoding="utf-8", newline="") as file:
        images = list(csv.DictReader(file))
    answers = [row for row in images if row["accepted"] == "1"]
    truth = truth_of(path, bag)
    said, true = (positions_of(answers, which) for which in ("answer", "truth"))
    scaled = Similarity.of(read_map(path).base_poses()[0], truth.positions, with_scale=True).moved(said)
    beside_m = float(np.median(beside_places(path, truth, answers)))
    counts = (
        len(answers), sum(row["answerable"] == "1" for row in images), sum(row["right"] == "0" for row in answers)
    )  # fmt: skip

    def off(positions: Array) -> Localized:
        away_m = np.linalg.norm(positions - true, axis=1)
        return Localized(*counts, float(np.median(away_m)), float(np.quantile(away_m, 0.95)), beside_m)

    return off(said), off(scaled)


def positions_of(answers: list[dict[str, str]], which: str) -> Array:
    """(M, 3) of `truth` or `answer`."""
    return np.array([[float(row[f"{which}_{name}"]) for name in _POSE[:3]] for row in answers])


def beside_places(path: Path, truth: Poses, answers: list[dict[str, str]]) -> Array:
    """(M,) metres: how wrong each answer is as seen from the place that is truly nearest."""
    bases = Poses(*read_map(path).base_poses())
    off = []
    for row in answers:
        true, said = (Pose.of(*(float(row[f"{which}_{name}"]) for name in _POSE)) for which in ("truth", "answer"))
        nearest = int(np.linalg.norm(truth.positions - true.position, axis=1).argmin())
        seen = [
            poses.rotations[nearest].T @ (at.position - poses.positions[nearest])
            for poses, at in ((truth, true), (bases, said))
        ]
        off.append(float(np.linalg.norm((seen[1] - seen[0])[:2])))
    return np.array(off)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(MAPS))
    parser.add_argument("--conditions", nargs="+", default=list(CONDITIONS))
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    lines, rest = [], []
    for seed in args.seeds:
        bag, true_map, closed_map, laid = mapped(args.folder, seed)
        drives = [drive(args.folder, seed, condition, ASIDE_M) for condition in args.conditions]
        true, _ = localize(true_map, bag, drives)
        lines.append(true.line(f"{seed}, true poses"))
        for name, one in zip(
            ("odometry, closed", "the same, scale put right"), localize(laid, bag, drives), strict=True
        ):
            lines.append(one.line(f"{seed}, {name}"))
            ratios = [getattr(one, key) / getattr(true, key) for key in ("error_m", "error_p95_m", "beside_m")]
            lines.append("| ratio | | | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " |")
        rest.append(f"| {seed} {left_over(closed_map, bag)}")
    print("\n| town, map from | answered | wrong | error, median, m | 95 % | beside the nearest place, m |")
    print("|---|---|---|---|---|---|")
    print("\n".join(lines))
    print("\n| town | odometry, m | closures | closed, m | scale put right, m | scale | true closures, m | "
          "scale put right, m |\n|---|---|---|---|---|---|---|---|")  # fmt: skip
    print("\n".join(rest))


if __name__ == "__main__":
    main()
