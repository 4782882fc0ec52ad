"""Store the landmarks of every place in the map, so that the first match of a place is faster.

Without stored landmarks a localizer computes them when a place is first compared, from the same pictures and with the
same result. The command may be stopped at any time. Run it again to continue, and after `d2vpr map append`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("map", type=Path, help=".d2map file to add to")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")


def main(args: argparse.Namespace) -> int:
    show_landmarks_stored(args.map, args.device)
    return 0


def show_landmarks_stored(path: Path, device: str) -> None:
    """Store the landmarks of a map while a bar shows how fast it goes and how long yet.

    Raises:
        UserError: as `store_landmarks`; no such device.
    """
    from tqdm import tqdm

    from d2vpr_ros.describe.features import FeatureExtractor
    from d2vpr_ros.mapping import read_map
    from d2vpr_ros.multiview.storing import store_landmarks

    total = len(read_map(path))
    extractor = FeatureExtractor.open(device=device)
    with tqdm(total=total, unit="place", smoothing=0.1, disable=None) as bar:
        try:
            counts = store_landmarks(path, extractor, on_place=bar.update)
        except KeyboardInterrupt:
            bar.close()
            print(f"stopped; {path} is valid; to continue run: d2vpr map landmarks {path}", file=sys.stderr)
            raise
    print(f"{path}: {counts}")
