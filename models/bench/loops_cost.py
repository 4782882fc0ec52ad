"""What loop closure costs a place beside the network and the geometry, by how many places there were before.

    OMP_NUM_THREADS=1 python -m models.bench.loops_cost

Descriptors are random directions. Beside it one product of the descriptor with all others: a linear scan.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from d2vpr_ros.describe import ModelIdentity
from d2vpr_ros.geometry import FORWARD_MOUNT, Array, Pose
from d2vpr_ros.loops.past import Past, Place
from d2vpr_ros.mapping import Camera, MapHeader

PLACES = (10_000, 100_000)
NUMBERS, MEASURED = 512, 100


def measure(places: int) -> tuple[float, float]:
    """Milliseconds of a place, median: search and storing, and a linear scan."""
    random = np.random.default_rng(0)
    descriptors = random.normal(size=(places + MEASURED, NUMBERS)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    header = MapHeader(ModelIdentity("benchmark", "0" * 64, "none", ""), NUMBERS, "map", 1.0, None, geo_tagged=False)
    past = Past(Path("none.d2map"), header)
    camera = Camera("front", 320, 240, FORWARD_MOUNT)
    ours, scan = [], []
    for row, descriptor in enumerate(descriptors):
        pose = Pose.planar(float(row), 0.0, 0.0) @ FORWARD_MOUNT
        place = Place(row, 1, 1, camera, row * 10**9, pose, descriptor)
        began = time.perf_counter()
        if row >= places:
            past.candidates(descriptor)
        past.add(place)
        if row >= places:
            ours.append(time.perf_counter() - began)
            began = time.perf_counter()
            (descriptors[:row] @ descriptor).argmax()
            scan.append(time.perf_counter() - began)
    return _median_ms(ours), _median_ms(scan)


def _median_ms(seconds: list[float]) -> float:
    times: Array = 1e3 * np.array(seconds)
    return float(np.median(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--places", type=int, nargs="+", default=list(PLACES))
    args = parser.parse_args()
    print("| places | a place, ms | linear scan, ms |\n|---:|---:|---:|")
    for places in args.places:
        ours, scan = measure(places)
        print(f"| {places} | {ours:.1f} | {scan:.1f} |", flush=True)


if __name__ == "__main__":
    main()
