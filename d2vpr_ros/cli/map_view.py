"""Write a page to look at a map with: its places on a plan, sessions by colour, the picture of each place on click.

The page is one HTML file that loads nothing from elsewhere: open it in a browser, mail it, keep it. Of the pictures as
many are put in as --picture-mb allows, evenly spread. An address that ends in #place=ID opens at that place.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("map", type=Path, help="a .d2map file")
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="FILE", help="the page to write, e.g. map.html"
    )
    parser.add_argument(
        "--picture-mb",
        type=float,
        metavar="MB",
        help="pictures in the page, at most (default: 24; 0: none)",
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
