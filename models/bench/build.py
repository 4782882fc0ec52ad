"""How fast a map is built: against decoding and describing the same images one after the other.

    python -m models.bench.build                     # nano on a drive through the simulated town
    python -m models.bench.build --weights small     # random weights of that size: as fast as trained ones

Both ways are timed in turns on the same recording, and the median of the rounds' ratios counts. Every image is due, so
that each is decoded, judged, described and stored.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from d2vpr_ros.bags.drive import open_drive
from d2vpr_ros.bags.reader import open_bag
from d2vpr_ros.describe import Extractor
from d2vpr_ros.mapping import BuildOptions, KeyframeRule
from d2vpr_ros.mapping.recording import build_map
from d2vpr_ros.model import D2VPR
from d2vpr_ros.model.config import CONFIGS
from d2vpr_ros.sim.drive import record_drive

EVERY_IMAGE = BuildOptions(KeyframeRule(spacing_m=1e-6))
BATCH = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="nano", help="bundled name, file, or size for random weights (nano)")
    parser.add_argument("--bag", type=Path, help="a recording with poses instead of the simulated drive")
    parser.add_argument("--images", type=int, default=150, help="of the simulated drive (150)")
    parser.add_argument("--size", type=int, nargs=2, default=(640, 480), metavar=("W", "H"), help="(640 480)")
    parser.add_argument("--raw", action="store_true", help="simulate raw images instead of JPEG")
    parser.add_argument("--rounds", type=int, default=5, help="(5)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        extractor = open_weights(args.weights, args.device, folder)
        bag = args.bag or folder / "drive"
        if args.bag is None:
            width, height = args.size
            record_drive(
                bag, 7, "noon", duration_s=args.images / 5, compressed=not args.raw, width=width, height=height
            )
        extractor.describe([np.zeros((480, 640, 3), np.uint8)] * BATCH)  # the first pass is slow
        print(f"{torch.get_num_threads()} threads, {extractor.device}, {extractor.identity.architecture}")
        ratios = []
        for number in range(args.rounds):
            serial = one_after_the_other(bag, extractor)
            built = build(bag, extractor, folder / f"{number}.d2map")
            ratios.append(built / serial)
            rates = f"one after the other {serial:6.2f} images/s, build {built:6.2f}"
            print(f"round {number + 1}: {rates}, {built / serial:.2f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")


def open_weights(weights: str, device: str, folder: Path) -> Extractor:
    """Weights by name or file; random ones for a size that none are bundled for."""
    if weights in CONFIGS and weights != "nano":
        torch.manual_seed(0)
        model = D2VPR(CONFIGS[weights])
        path = folder / f"{weights}.safetensors"
        state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        save_file(state, path, {"architecture": json.dumps(asdict(model.config))})
        weights = str(path)
    return Extractor.open(weights, device=device)


def one_after_the_other(path: Path, extractor: Extractor) -> float:
    """Images a second of decoding a batch, describing it, decoding the next."""
    with open_bag(path) as bag:
        stream, images = iter(open_drive(bag).frames()), 0
        began = time.perf_counter()
        while batch := [posed.frame.rgb for posed in islice(stream, BATCH)]:
            extractor.describe(batch)
            images += len(batch)
        return images / (time.perf_counter() - began)


def build(path: Path, extractor: Extractor, out: Path) -> float:
    """Images a second of the whole build."""
    with open_bag(path) as bag:
        drive = open_drive(bag)
        began = time.perf_counter()
        counts = build_map(out, drive, extractor, EVERY_IMAGE)
        took = time.perf_counter() - began
        if sum(counts.left_out.values()) > drive.unposed + drive.images // 6:
            raise SystemExit(f"too many images left out for a fair comparison: {counts}")
        return (drive.images - drive.unposed) / took


if __name__ == "__main__":
    main()
