"""Merge two maps into a new one, in the frame of the first.

A session that is in both is taken once. Both maps stay unchanged.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from d2vpr_ros.cli.join_options import add_join_arguments, read_frames
from d2vpr_ros.cli.map_close import show_closed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("map", type=Path, help=".d2map file; its frame and place ids are kept")
    parser.add_argument("other", type=Path, help=".d2map file to add")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="map to write")
    add_join_arguments(parser)
    parser.add_argument(
        "--close-loops", action="store_true", help="correct the drift of the added places, as d2vpr map close"
    )
    parser.add_argument("--free", action="store_true", help="with --close-loops: also correct the first map's places")
    parser.add_argument("--device", default="auto", help="with --close-loops: auto, cpu or cuda")
    parser.add_argument("--force", action="store_true", help="replace the file if it exists")


def main(args: argparse.Namespace) -> int:
    from d2vpr_ros.errors import UserError
    from d2vpr_ros.mapping import read_map
    from d2vpr_ros.mapping.frames import find_transform
    from d2vpr_ros.mapping.join import check_model_of, merge_maps
    from d2vpr_ros.outfile import new_file

    frames = read_frames(args)
    place_map, other = read_map(args.map), read_map(args.other)
    check_model_of(place_map.header, other.header, f"{args.map} and {args.other}")
    if args.out.exists() and args.out.samefile(args.other):
        raise UserError(f"{args.out} is an input; choose another name with -o")
    with new_file(args.out, args.force, args.map) as partial:
        transform, how = find_transform(place_map, other, frames)
        joined = merge_maps(place_map, other, transform, partial)
        if args.close_loops:
            show_closed(partial, args.device, () if args.free else place_map.session_table, args.out)
    if joined.held:
        print(f"in both, taken once: {', '.join(map(repr, joined.held))}")
    print(f"{args.out}: {len(place_map)} and {len(joined.places)} places; frames {how}")
    return 0
