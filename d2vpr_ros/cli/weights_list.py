"""List the official weights: description, source, licence, and whether they are here."""

from __future__ import annotations

import argparse
from pathlib import Path

from d2vpr_ros.share import cache_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", type=Path, default=cache_folder() / "weights", help="default: %(default)s")


def main(args: argparse.Namespace) -> int:
    from d2vpr_ros.weights.fetch import recorded_sha256
    from d2vpr_ros.weights.official import OFFICIAL

    for official in OFFICIAL:
        sha256 = recorded_sha256(official, args.folder)
        print(f"{official.name}: {official.what}")
        print(f"  licence {official.licence}")
        print(f"  source  {official.source}")
        print(f"  file    {official.page}")
        here = f"SHA-256 {sha256} in {args.folder}" if sha256 else f"no (d2vpr weights fetch {official.name})"
        print(f"  here    {here}")
    return 0
