"""What loop closure costs a place beside the network and the geometry, by how many places there were before.

    OMP_NUM_THREADS=1 python -m models.bench.loops_cost
    OMP_NUM_THREADS=1 python -m models.bench.loops_cost --map FOLDER/tour_568.d2map

The second line takes the places of a map that odometry made (`models.bench.loops` keeps them) and says how much
processor time those take that the geometry looks at. In the first, descriptors are random directions; beside it one
product of the descriptor with all others: a linear scan.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from d2vpr_ros.describe import ModelIdentity
from d2vpr_ros.describe.features import FeatureExtractor
from d2vpr_ros.geometry import FORWARD_MOUNT, Array, Pose
from d2vpr_ros.loops.closer import LoopCloser
from d2vpr_ros.loops.closing import in_order, odometry_of, place_of
from d2vpr_ros.loops.past import Past, Place
from d2vpr_ros.mapping import Camera, MapHeader, read_map

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


def of_geometry(path: Path) -> tuple[list[float], list[float]]:
    """Milliseconds of the processor for each place of a map: where geometry ran, and elsewhere."""
    place_map = read_map(path)
    odometry = odometry_of(place_map, np.zeros(len(place_map), np.bool_))
    closer = LoopCloser(path, place_map.header, FeatureExtractor.open(device="cpu"))
    looked: list[float] = []
    others: list[float] = []
    for row in tqdm(in_order(place_map), unit="place"):
        place = place_of(place_map, row, odometry[int(place_map.ids[row])])
        candidates = closer.past.candidates(place.descriptor)
        began = time.process_time()
        closer.take(place)
        stands_out = candidates is not None and candidates.z >= closer.past.params.least_z
        (looked if stands_out else others).append(time.process_time() - began)
    return looked, others


def _median_ms(seconds: list[float]) -> float:
    times: Array = 1e3 * np.array(seconds)
    return float(np.median(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--places", type=int, nargs="+", default=list(PLACES))
    parser.add_argument("--map", type=Path, help="a map by odometry: measure the geometry in it instead")
    args = parser.parse_args()
    if args.map is not None:
        for name, seconds in zip(("geometry ran", "others"), of_geometry(args.map), strict=True):
            p95_ms = 1e3 * float(np.quantile(seconds, 0.95))
            print(f"{name}: {len(seconds)} places, median {_median_ms(seconds):.1f} ms, 95 % {p95_ms:.1f} ms")
        return
    print("| places | a place, ms | linear scan, ms |\n|---:|---:|---:|")
    for places in args.places:
        ours, scan = measure(places)
        print(f"| {places} | {ours:.1f} | {scan:.1f} |", flush=True)


if __name__ == "__main__":
    main()
