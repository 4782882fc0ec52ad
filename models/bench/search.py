"""How long a map takes to open and to search, and the memory it takes, by its size.

    python -m models.bench.search                        # 1 k, 10 k and 100 k places of 512 and 4096 numbers
    python -m models.bench.search --places 1000 10000 --numbers 512

Maps of random directions are written as real map files without pictures (100 k places of 4096 numbers: 0.9 GB on the
disk, 4 GB in memory) and opened in a process each. Random directions are the hardest case for half precision: all
places are about equally far from everything.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from d2vpr_ros.describe import ModelIdentity
from d2vpr_ros.geometry import FORWARD_MOUNT, Pose
from d2vpr_ros.mapping import Camera, Index, MapHeader, Session, read_map
from d2vpr_ros.mapping.store import NewPlace, create_map

QUERIES = 200
NEIGHBOURS = 200  # as many as the localizer looks up
NOISE = 1.0  # half of the queries are places with as much noise as signal, the other half are like no place
IDENTITY = ModelIdentity("benchmark", "0" * 64, "none", "")


@dataclass(frozen=True)
class Result:
    """One row of the table.

    Attributes:
        open_s: from the file to an index that can be searched, the file being in the disk cache.
        memory_mb, peak_mb: resident memory added by the open map with its index, and at most while opening.
        search_ms, search_p95_ms: of a single query; median and 95th percentile.
        same_best: share of queries whose first answer is that of the direct comparison in float32.
    """

    places: int
    numbers: int
    open_s: float
    memory_mb: float
    peak_mb: float
    search_ms: float
    search_p95_ms: float
    same_best: float


def measure(path: Path, threads: int) -> Result:
    """Open a map and search it. Call it first thing in a process: memory once used is used again unseen."""
    faiss.omp_set_num_threads(threads)
    with path.open("rb") as file, Path(os.devnull).open("wb") as nowhere:
        shutil.copyfileobj(file, nowhere)  # into the disk cache
    before_mb = _status_mb("VmRSS")
    started_s = time.perf_counter()
    place_map = read_map(path)
    index = Index.of(place_map.descriptors)
    open_s = time.perf_counter() - started_s
    memory_mb, peak_mb = _status_mb("VmRSS") - before_mb, _status_mb("VmHWM") - before_mb
    queries = make_queries(place_map.descriptors)
    index.search(queries[:1], NEIGHBOURS)
    times_ms, same = [], 0
    for query in queries:
        started_s = time.perf_counter()
        _, rows = index.search(query[None], NEIGHBOURS)
        times_ms.append(1e3 * (time.perf_counter() - started_s))
        same += int(rows[0, 0] == np.argmax(place_map.descriptors @ query))
    return Result(
        places=len(place_map),
        numbers=place_map.header.descriptor_width,
        open_s=open_s,
        memory_mb=memory_mb,
        peak_mb=peak_mb,
        search_ms=statistics.median(times_ms),
        search_p95_ms=float(np.percentile(times_ms, 95)),
        same_best=same / len(queries),
    )


def make_queries(descriptors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(QUERIES, D) float32: the first half places with noise, the second half like no place."""
    random = np.random.default_rng(1)
    queries = _directions(random, QUERIES, descriptors.shape[1])
    half = QUERIES // 2
    seen = descriptors[random.integers(len(descriptors), size=half)] + NOISE * queries[:half]
    queries[:half] = seen / np.linalg.norm(seen, axis=1, keepdims=True)
    return queries


def write_map(path: Path, places: int, numbers: int) -> None:
    """A map of random directions along a straight street."""
    random = np.random.default_rng(0)
    with create_map(path, MapHeader(IDENTITY, numbers, "map", 1.0)) as writer:
        writer.connection.execute("PRAGMA synchronous=OFF")  # nobody would miss this map
        session = writer.begin_session(Session("benchmark"))
        camera = writer.add_camera(session, Camera("front", 640, 480, FORWARD_MOUNT))
        for number in tqdm(range(places), desc=path.name, unit="place", disable=None, leave=False):
            pose = Pose.planar(float(number), 0.0, 0.0) @ FORWARD_MOUNT
            writer.add_place(session, camera, NewPlace(number * 10**9, pose, _directions(random, 1, numbers)[0]))


def table(results: list[Result]) -> str:
    """Markdown."""
    names = ["places", "numbers", "open s", "memory MB", "peak MB", "search ms", "95 % ms", "same best"]
    lines = ["| " + " | ".join(names) + " |", "|" + "---:|" * len(fields(Result))]
    for r in results:
        lines.append(
            f"| {r.places} | {r.numbers} | {r.open_s:.2f} | {r.memory_mb:.0f} | {r.peak_mb:.0f} "
            f"| {r.search_ms:.2f} | {r.search_p95_ms:.2f} | {r.same_best:.1%} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--places", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--numbers", type=int, nargs="+", default=[512, 4096])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="for the maps, which are removed; default: the system's")
    parser.add_argument("--map", type=Path, help=argparse.SUPPRESS)  # how this program calls itself
    args = parser.parse_args()
    if args.map:
        print(json.dumps(asdict(measure(args.map, args.threads))))
        return
    results = []
    for numbers in args.numbers:
        for places in args.places:
            with tempfile.TemporaryDirectory(dir=args.folder) as folder:
                path = Path(folder) / f"{places} x {numbers}.d2map"
                write_map(path, places, numbers)
                command = [
                    sys.executable,
                    "-m",
                    "models.bench.search",
                    "--threads",
                    str(args.threads),
                    "--map",
                    str(path),
                ]
                environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
                said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
            results.append(Result(**json.loads(said)))
            print(table(results[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    print(table(results))


def _directions(random: np.random.Generator, count: int, width: int) -> npt.NDArray[np.float32]:
    rows = random.standard_normal((count, width), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _status_mb(name: str) -> float:
    """VmRSS (resident now) or VmHWM (most so far) of this process; Linux."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {name}")


if __name__ == "__main__":
    main()
