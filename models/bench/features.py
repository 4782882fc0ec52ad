"""How long local features take, beside the network that describes the whole picture.

    python -m models.bench.features                        # a drawn picture of 320 x 240, torch, two threads
    python -m models.bench.features --threads 1 --onnx     # also ONNX Runtime
    python -m models.bench.features --image PHOTO.jpg --size 320 180

All contenders run in turn, once a round; times are medians, and a ratio is the median of the ratios within a round.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch

from d2vpr_ros.describe import Extractor
from d2vpr_ros.describe.feature_points import pick_points, sample_descriptors
from d2vpr_ros.describe.features import FeatureExtractor, grey_levels
from d2vpr_ros.describe.gate_pictures import gate_pictures
from d2vpr_ros.images.compose import resize_area
from models.bench.timing import ROUNDS, median_ms, processor, race, ratio

WANTED = 0.6
"""Of nano's time, for a picture of 320 x 240."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, help="a picture (default: a drawn one)")
    parser.add_argument("--size", type=int, nargs=2, default=(320, 240), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--onnx", action="store_true", help="also ONNX Runtime")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # heeded by our sessions of ONNX Runtime
    source = cv2.imread(str(args.image)) if args.image else gate_pictures(1, max(args.size))[0]
    if source is None:
        raise SystemExit(f"{args.image} is no image")
    picture = resize_area(np.asarray(source, np.uint8), tuple(args.size))
    contenders: dict[str, Callable[[], object]] = {}
    for backend in ("torch", "onnxruntime") if args.onnx else ("torch",):
        nano, features = Extractor.open("nano", backend), FeatureExtractor.open(backend=backend)
        contenders[f"{backend}: nano"] = partial(nano.describe, [picture])
        contenders[f"{backend}: features"] = partial(features.extract, picture)
        grey = grey_levels(picture, features.params.largest_side)
        contenders[f"{backend}: network"] = partial(features.network, grey)
    maps = features.network(grey)
    points, _ = pick_points(maps, features.params)
    contenders["grey levels"] = partial(grey_levels, picture, features.params.largest_side)
    contenders["points"] = partial(pick_points, maps, features.params)
    contenders["descriptors"] = partial(sample_descriptors, maps, points)
    times = race(contenders, args.rounds)
    print(f"{processor()}; {picture.shape[1]} x {picture.shape[0]}, {len(points)} features; wanted: {WANTED} x nano\n")
    print("| | ms | times nano's time |\n|---|---:|---:|")
    for name in contenders:
        reference = "onnxruntime: nano" if name.startswith("onnxruntime") else "torch: nano"
        print(f"| {name} | {median_ms(times, name):.2f} | {ratio(times, name, reference):.3f} |")


if __name__ == "__main__":
    main()
