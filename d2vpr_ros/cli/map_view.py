"""Write an HTML page of a map: places on a plan, one colour per session, the picture of a place on click.

The page is one file and loads nothing from the network. It holds as many pictures as --picture-mb allows, evenly
spread. An address that ends in #place=ID opens at that place.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("map", type=Path, help=".d2map file")
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="FILE", help="page to write, for example map.html"
    )
    parser.add_argument(
        "--picture-mb",
        type=float,
        metavar="MB",
        help="maximum size of the pictures in the page (default: 24; 0: none)",
    )
    parser.add_argument("--force", action="store_true", help="replace the file if it exists")


def main(args: argparse.Namespace) -> int:
    from d2vpr_ros.errors import UserError
    from d2vpr_ros.evaluation.view import PICTURE_MB, write_view
    from d2vpr_ros.mapping import read_map
    from d2vpr_ros.mapping.summary import megabytes
    from d2vpr_ros.outfile import new_file

    picture_mb = PICTURE_MB if args.picture_mb is None else args.picture_mb
    if not 0 <= picture_mb < 1000:
        raise UserError(f"--picture-mb {picture_mb:g}: expected 0 to 1000 megabytes")
    place_map = read_map(args.map)
    with new_file(args.out, args.force, args.map) as partial:
        summary = write_view(place_map, partial, picture_mb)
    pictures = f"{summary.embedded} of {summary.pictures} pictures" if summary.pictures else "no pictures in the map"
    print(f"{args.out}: {summary.places} places, {pictures}, {megabytes(summary.size)}")
    return 0
