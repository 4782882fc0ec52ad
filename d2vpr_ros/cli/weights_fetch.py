"""Download official weights, check them, and convert them to float16 safetensors.

`d2vpr weights list` names them and their licences. An interrupted download continues. The first download records the
SHA-256 beside the file; a later download with another one is refused. Give the printed path to `--weights`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from d2vpr_ros.share import cache_folder
from d2vpr_ros.weights.official import OFFICIAL


def add_arguments(parser: argparse.ArgumentParser) -> None:
    names = [official.name for official in OFFICIAL]
    parser.add_argument("name", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--folder", type=Path, default=cache_folder() / "weights", help="default: %(default)s")
    parser.add_argument(
        "--from",
        type=Path,
        dest="brought",
        metavar="FILE",
        help="use this downloaded file, for machines without a network",
    )


def main(args: argparse.Namespace) -> int:
    from d2vpr_ros.weights.fetch import fetch

    (official,) = [each for each in OFFICIAL if each.name == args.name]
    print(f"{official.name}: {official.what}; licence {official.licence}; source {official.source}", flush=True)
    print(fetch(official, args.folder, args.brought))
    return 0
