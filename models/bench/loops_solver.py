"""How long the pose graph takes beside GTSAM, and which wrong closures both throw out.

    python -m models.bench.loops_solver                                # ours alone
    python -m models.bench.loops_solver --gtsam /tmp/gtsam/bin/python  # gtsam_reference.py says how to get it

Graphs are laps on a wavy circle with odometry as the loop closer states it (2 % along, 1 cm aside, 0.1 degrees a metre)
and closures with a lap before. Times are of the processor, one thread, without reading and without making the factors.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from d2vpr_ros.geometry import Array, Pose
from d2vpr_ros.loops.closure import Closure, Edge
from d2vpr_ros.loops.graph import Measured, Poses, optimum
from d2vpr_ros.loops.robust import joined, measured_of, solve

SIZES = ((2_000, 100), (10_000, 500), (100_000, 2_000))  # poses, closures
LAP = 500  # places
ODOMETRY_SIGMA = np.array([0.02, 0.01, 0.005, 0.0005, 0.0005, 0.0017])
CLOSURE_SIGMA = np.array([0.05, 0.05, 0.05, 0.01, 0.01, 0.01])


@dataclass(frozen=True, eq=False)
class Drive:
    """A graph whose truth is known.

    Attributes:
        start: poses by odometry.
        truth: (N, 3) positions.
        wrong: (K,) closures that are wrong.
    """

    start: Poses
    edges: list[Edge]
    closures: list[Closure]
    truth: Array
    wrong: npt.NDArray[np.bool_]

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        return np.arange(len(self.truth))

    @property
    def held(self) -> npt.NDArray[np.bool_]:
        return self.ids == 0

    @property
    def measured(self) -> Measured:
        """Odometry, then closures."""
        steps = measured_of(self.ids, self.edges, "edge", planar=False)
        return joined(steps, measured_of(self.ids, self.closures, "closure", planar=False))

    def error(self, positions: Array) -> float:
        """Root mean square of the distances to the truth, metres; the first pose is true."""
        return float(np.sqrt(((positions - self.truth) ** 2).sum(1).mean()))


def drive(places: int, closures: int, seed: int = 0, wrong: float = 0.0, coherent: bool = False) -> Drive:
    """A drive of laps, 1 m from place to place.

    Args:
        wrong: share of the closures that are wrong.
        coherent: they follow each other and agree that the robot was a third of a lap further on; else they name any
            place with any pose.
    """
    random = np.random.default_rng(seed)
    angles = 2 * np.pi * np.arange(places) / LAP
    radius = LAP / (2 * np.pi) * (1 + 0.2 * np.sin(3 * angles))
    truth = np.stack([radius * np.cos(angles), radius * np.sin(angles), np.zeros(places)], axis=1)
    way = np.gradient(truth, axis=0)
    headings = Rotation.from_euler("z", np.arctan2(way[:, 1], way[:, 0]))

    def seen(old: int, new: int, sigma: Array) -> Pose:
        error = random.normal(size=6) * sigma
        back = headings[old].inv()
        turn = Rotation.from_rotvec(error[3:]) * back * headings[new]
        return Pose(back.apply(truth[new] - truth[old]) + error[:3], turn.as_quat())

    edges = [
        Edge(old, old + 1, seen(old, old + 1, ODOMETRY_SIGMA), np.diag(ODOMETRY_SIGMA**2)) for old in range(places - 1)
    ]
    pose = Pose(truth[0], headings[0].as_quat())
    poses = [pose, *((pose := pose @ edge.pose) for edge in edges)]
    new = np.sort(random.choice(np.arange(LAP, places), closures, replace=False))
    is_wrong = random.random(closures) < wrong
    if coherent:
        first = random.integers(closures - round(wrong * closures))
        is_wrong = (np.arange(closures) - first) % closures < round(wrong * closures)
    found = []
    for number, place in enumerate(new.tolist()):
        old, relative = place - LAP, seen(place - LAP, place, CLOSURE_SIGMA)
        if is_wrong[number]:
            old = place - LAP + LAP // 3 if coherent else int(random.integers(place))
            relative = relative if coherent else Pose.planar(*random.normal(size=3))
        covariance = np.diag(CLOSURE_SIGMA**2)
        found.append(Closure(old, place, relative, covariance, "metric", 0.99, 50, run=number))
    start = Poses(
        np.array([one.position for one in poses]), Rotation.from_quat([one.quaternion for one in poses]).as_matrix()
    )
    return Drive(start, edges, found, truth, is_wrong)


def by_gtsam(python: Path, start: Poses, measured: Measured, odometry: int, robust: bool) -> dict[str, Array]:
    """What models/bench/gtsam_reference.py says: positions, weights, cost, seconds.

    Args:
        start: the first pose is held.
        odometry: so many of the measured poses come first and are inliers.
    """
    with tempfile.TemporaryDirectory() as folder:
        question, answer = Path(folder) / "graph.npz", Path(folder) / "answer.npz"
        np.savez(
            question,
            positions=start.positions,
            rotations=start.rotations,
            first=measured.first,
            second=measured.second,
            z_positions=measured.positions,
            z_rotations=measured.rotations,
            information=measured.information,
            odometry=odometry,
            robust=robust,
        )
        script = Path(__file__).parent / "gtsam_reference.py"
        apart = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
        subprocess.run([python, script, question, answer], check=True, env=apart | {"OMP_NUM_THREADS": "1"})
        with np.load(answer) as found:
            return {name: found[name] for name in found.files}


def print_times(python: Path | None, sizes: tuple[tuple[int, int], ...] = SIZES) -> None:
    """Seconds to the optimum, all closures right."""
    print("| places | closures | error before | after, m | ours, s | GTSAM, s | ratio | costs | apart, mm |")
    print("|---|---|---|---|---|---|---|---|---|")
    for places, closures in sizes:
        graph = drive(places, closures)
        measured = graph.measured
        began = time.process_time()
        poses, cost = optimum(graph.start, measured, graph.held)
        seconds = time.process_time() - began
        row = f"| {places} | {closures} | {graph.error(graph.start.positions):.2f} | {graph.error(poses.positions):.2f}"
        row += f" | {seconds:.2f}"
        if python is None:
            print(f"{row} | - | - | {cost:.2f} | - |", flush=True)
            continue
        peer = by_gtsam(python, graph.start, measured, len(graph.edges), robust=False)
        apart_mm = 1e3 * np.linalg.norm(poses.positions - peer["positions"], axis=1).max()
        row += f" | {peer['seconds']:.2f} | {seconds / peer['seconds']:.2f} | {cost:.2f}, {peer['cost']:.2f}"
        print(f"{row} | {apart_mm:.2f} |", flush=True)


def print_decisions(python: Path | None, seeds: int) -> None:
    """A fifth of the closures wrong, at random and as one group that agrees, each closure a run of its own."""
    print("| wrong ones | seed | ours: wrong kept, right kept, error, s | GTSAM GNC |")
    print("|---|---|---|---|")
    for coherent in (False, True):
        for seed in range(seeds):
            graph = drive(2_000, 480, seed, 0.2, coherent)
            began = time.process_time()
            solved = solve(
                graph.ids,
                graph.start.positions,
                graph.start.rotations,
                graph.edges,
                graph.closures,
                graph.held,
                planar=False,
            )
            ours = _decisions(graph, solved.weights, solved.positions, time.process_time() - began)
            theirs = "-"
            if python is not None:
                peer = by_gtsam(python, graph.start, graph.measured, len(graph.edges), robust=True)
                weights = peer["weights"][len(graph.edges) :]
                theirs = _decisions(graph, weights, peer["positions"], float(peer["seconds"]))
            print(f"| {'one group' if coherent else 'random'} | {seed} | {ours} | {theirs} |", flush=True)


def _decisions(graph: Drive, weights: Array, positions: Array, seconds: float) -> str:
    kept, wrong = weights > 0.5, graph.wrong
    counts = f"{(kept & wrong).sum()} of {wrong.sum()}, {(kept & ~wrong).sum()} of {(~wrong).sum()}"
    return f"{counts}, {graph.error(positions):.2f} m, {seconds:.1f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gtsam", type=Path, metavar="PYTHON", help="a Python that has GTSAM, to compare with")
    parser.add_argument("--seeds", type=int, default=3, help="drives with wrong closures of each kind (default: 3)")
    parser.add_argument(
        "--store", type=Path, metavar="NPZ", help="store GTSAM's answer to the graph of the tests; stop"
    )
    args = parser.parse_args()
    if args.store is not None:
        graph = drive(LAP + 60, 12)
        answer = by_gtsam(args.gtsam, graph.start, graph.measured, len(graph.edges), robust=False)
        np.savez_compressed(args.store, positions=answer["positions"], cost=answer["cost"])
        return
    print_times(args.gtsam)
    print()
    print_decisions(args.gtsam, args.seeds)


if __name__ == "__main__":
    main()
