"""Is it worth while to decode and match images beside the network? Both ways in turn, on one machine, in one process.

    python -m models.bench.pipeline
    python -m models.bench.pipeline --size 1920 1080 --hz 60 --device cuda --places 100000

Images come at a rate with stamps of now, JPEG or raw, and go through the node's own threads (`nodes/answering.py`): one
for all, and one each for decoding, describing and matching. The map has places of drawn descriptors, so nothing is
accepted, but everything is searched, believed and made into messages. Latency is from an image's stamp to its answer
published; images that there was no time for have none (the newest wins).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
import torch
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from std_msgs.msg import Header

from d2vpr_ros.describe import Extractor
from d2vpr_ros.describe.gate_pictures import gate_pictures
from d2vpr_ros.images.compose import encode_jpeg
from d2vpr_ros.images.frame import Frame
from d2vpr_ros.localize import Estimate, Localizer
from d2vpr_ros.mapping import read_map
from d2vpr_ros.nodes import messages, settings
from d2vpr_ros.nodes.answering import Answering
from d2vpr_ros.nodes.loading import Loaded
from models.bench.overhead import directions, write_street

MODES = {"one thread": False, "overlapped": True}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="nano")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--precision", default="exact")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--places", type=int, default=10_000)
    parser.add_argument("--size", type=int, nargs=2, default=(640, 480), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--raw", action="store_true", help="sensor_msgs/Image instead of JPEG")
    parser.add_argument("--hz", type=float, nargs="*", default=[15.0, 30.0, 60.0])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0: as many as it takes itself")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    extractor = Extractor.open(args.weights, args.backend, args.precision, args.device)
    rclpy.init()
    node = Node("pipeline_bench")
    values = settings.of_values({parameter.name: parameter.default for parameter in settings.PARAMETERS})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "street.d2map"
        write_street(path, directions(np.random.default_rng(0), args.places, extractor.width), extractor.identity)
        loaded = Loaded(Localizer(read_map(path), extractor), None)
        image = message(tuple(args.size), args.raw)
        extractor.describe([np.zeros((480, 640, 3), np.uint8)])
        where = f"{extractor.network.library}, {extractor.device}, {extractor.network.threads} threads"
        print(f"{args.weights}, {where}; {args.size[0]} x {args.size[1]} {'raw' if args.raw else 'JPEG'}\n")
        print("| input Hz | way | answered Hz | stamp to answer p50 ms | p95 ms | processor ms an answer |")
        print("|---:|---|---:|---:|---:|---:|")
        for hz in args.hz:
            turns: dict[str, list[tuple[list[float], float]]] = {name: [] for name in MODES}
            for _ in range(args.rounds):
                for name, overlap in MODES.items():
                    turns[name].append(turn(node, loaded, values, overlap, image, hz, args.seconds))
            for name, done in turns.items():
                p50, p95, rate = np.median(
                    [[*np.percentile(waits or [np.nan], [50, 95]), len(waits) / args.seconds] for waits, _ in done],
                    axis=0,
                )
                busy = np.median([1e3 * spent / max(len(waits), 1) for waits, spent in done])
                print(f"| {hz:g} | {name} | {rate:.1f} | {1e3 * p50:.1f} | {1e3 * p95:.1f} | {busy:.1f} |", flush=True)
    node.destroy_node()
    rclpy.try_shutdown()


def turn(
    node: Node, loaded: Loaded, values: settings.Settings, overlap: bool, image: Any, hz: float, seconds: float
) -> tuple[list[float], float]:
    """Latencies in seconds of what was answered, and the processor's seconds."""
    waits: list[float] = []
    publisher = node.create_publisher(PointCloud2, "place_matches", 10)

    def publish(loaded: Loaded, frame: Frame, estimate: Estimate) -> None:
        publisher.publish(messages.place_matches(estimate, loaded.localizer.map, loaded.localizer.mount, "map"))
        waits.append(1e-9 * (node.get_clock().now().nanoseconds - estimate.stamp_ns))

    loaded.localizer.reset()
    answering = Answering(node, loaded, values, publish, overlap)
    started_s, spent_s = time.monotonic(), time.process_time()
    for number in range(round(seconds * hz)):
        time.sleep(max(0.0, started_s + number / hz - time.monotonic()))
        now = messages.to_time(node.get_clock().now().nanoseconds)
        stamped = type(image)(header=Header(stamp=now, frame_id="camera"))
        for field in ("data", "format", "height", "width", "encoding", "step"):
            if hasattr(image, field):
                setattr(stamped, field, getattr(image, field))
        answering.put(stamped)
    answering.stop()
    node.destroy_publisher(publisher)
    return waits, time.process_time() - spent_s


def message(size: tuple[int, int], raw: bool) -> Any:
    """A picture with a photograph's statistics as the camera sends it."""
    rgb = cv2.resize(gate_pictures(1, max(size))[0], size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    if not raw:
        return CompressedImage(format="jpeg", data=encode_jpeg(rgb))
    return Image(height=size[1], width=size[0], encoding="rgb8", step=3 * size[0], data=rgb.tobytes())


if __name__ == "__main__":
    main()
