"""What an image costs outside network, decoding and comparing pictures: to be under 5 ms at 10 k places of 512 numbers.

    python -m models.bench.overhead
    python -m models.bench.overhead --places 100000 --numbers 4096 --threads 2

A map of a long street, written as a real map file, and a robot that drives along it with odometry go through the real
Localizer; only the descriptors are drawn instead of described (a place's own, with noise). The parts are timed image
by image: squashing a VGA image to the network's size, searching and believing (`Localizer.match`), and making the
messages. Without ROS 2 there are no messages. Then the same for a robot that sees nothing of the map, which takes
longer: many places stay possible.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import faiss
import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from d2vpr_ros.describe import Extractor, ModelIdentity, Preprocessor
from d2vpr_ros.geometry import FORWARD_MOUNT, Pose
from d2vpr_ros.localize import Localizer
from d2vpr_ros.mapping import Camera, MapHeader, Session, read_map
from d2vpr_ros.mapping.store import NewPlace, create_map

IDENTITY = ModelIdentity("benchmark", "0" * 64, "none", "")
NOISE = 0.5  # of a query, beside its place
WARM_UP = 20
LIMIT_MS = 5.0


def directions(random: np.random.Generator, count: int, numbers: int) -> npt.NDArray[np.float32]:
    """(count, numbers) of which each resembles its neighbours, as the places of a street do."""
    steps = random.standard_normal((count + 1, numbers), dtype=np.float32)
    rows = steps[:-1] + steps[1:]
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def write_street(path: Path, descriptors: npt.NDArray[np.float32], identity: ModelIdentity = IDENTITY) -> None:
    """A map with a place every metre along a straight street."""
    with create_map(path, MapHeader(identity, descriptors.shape[1], "map", 1.0)) as writer:
        writer.connection.execute("PRAGMA synchronous=OFF")  # nobody would miss this map
        session = writer.begin_session(Session("benchmark"))
        camera = writer.add_camera(session, Camera("front", 640, 480, FORWARD_MOUNT))
        for number, row in enumerate(tqdm(descriptors, desc="writing a map", unit="place", disable=None, leave=False)):
            pose = Pose.planar(float(number), 0.0, 0.0) @ FORWARD_MOUNT
            writer.add_place(session, camera, NewPlace(number * 10**9, pose, row))


def measure(localizer: Localizer, images: int, *, on_map: bool) -> dict[str, npt.NDArray[np.float64]]:
    """(images, 2) milliseconds of each part: by the wall, and of the processor.

    Args:
        on_map: whether the images show places of the map.
    """
    localizer.reset()
    random, preprocessor = np.random.default_rng(1), Preprocessor()
    rgb = random.integers(0, 256, (480, 640, 3), dtype=np.uint8)
    make_messages = message_maker(localizer)
    spent: dict[str, list[npt.NDArray[np.float64]]] = {"squash": [], "match": [], "messages": []}
    first, states = len(localizer.map) // 2, []
    for number in range(images + WARM_UP):
        seen = NOISE * directions(random, 1, localizer.map.descriptors.shape[1])[0]
        if on_map:
            seen += localizer.map.descriptors[first + number]
        clocks = [clock()]
        preprocessor.resize(rgb)
        clocks.append(clock())
        estimate = localizer.match(seen / np.linalg.norm(seen), number * 10**9, Pose.planar(float(number), 0, 0))
        clocks.append(clock())
        make_messages(estimate)
        clocks.append(clock())
        states.append(estimate.state.value)
        for part, times in zip(spent, np.diff(clocks, axis=0), strict=True):
            spent[part].append(1e3 * times)
    print(f"{states[WARM_UP:].count('LOCALIZED')} of {images} images localized")
    return {part: np.array(times[WARM_UP:]) for part, times in spent.items()}


def clock() -> npt.NDArray[np.float64]:
    """Seconds by the wall and of this process on all cores: other programs slow the first, hardly the second."""
    return np.array([time.perf_counter(), time.process_time()])


def message_maker(localizer: Localizer) -> Any:
    """What makes the messages of an answer, as the node does."""
    try:
        from d2vpr_ros.nodes import messages
    except ImportError:
        print("no ROS 2: messages are not made")
        return lambda estimate: None

    def make(estimate: Any) -> None:
        messages.place_matches(estimate, localizer.map, localizer.mount, "map")
        if estimate.pose is not None:
            messages.pose_prior(estimate, "map")

    return make


def table(spent: dict[str, npt.NDArray[np.float64]]) -> str:
    """Markdown."""
    together = np.sum(list(spent.values()), axis=0)
    lines = ["| part | p50 ms | p95 ms | p50 of processor time ms |", "|---|---:|---:|---:|"]
    for part, times in {**spent, "together": together}.items():
        (p50, busy), (p95, _) = np.percentile(times, [50, 95], axis=0)
        lines.append(f"| {part} | {p50:.2f} | {p95:.2f} | {busy:.2f} |")
    verdict = "within" if np.percentile(together[:, 0], 50) < LIMIT_MS else "over"
    return "\n".join([*lines, f"p50 is {verdict} the {LIMIT_MS:g} ms of the design"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--places", type=int, default=10_000)
    parser.add_argument("--numbers", type=int, default=512)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    faiss.omp_set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "street.d2map"
        write_street(path, directions(np.random.default_rng(0), args.places, args.numbers))
        nothing_described = cast(Extractor, SimpleNamespace(identity=IDENTITY))
        localizer = Localizer(read_map(path), nothing_described)
        print(f"{args.places} places of {args.numbers} numbers, {args.threads} threads")
        print(table(measure(localizer, args.images, on_map=True)))
        print("\nThe robot sees nothing of the map:")
        print(table(measure(localizer, args.images, on_map=False)))


if __name__ == "__main__":
    main()
