"""Write a map with fewer places: by spacing, the newest sessions only, or without some sessions.

--spacing: of places that are closer and have the same heading, the one of the newest session is kept.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("map", type=Path, help=".d2map file")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="map to write")
    parser.add_argument(
        "--spacing", type=float, metavar="M", help="minimum distance between places of the same heading"
    )
    parser.add_argument(
        "--turn",
        type=float,
        default=20.0,
        metavar="DEG",
        help="headings that differ by DEG or more are not the same (default: 20)",
    )
    parser.add_argument("--newest", type=int, metavar="N", help="keep the N sessions that end last")
    parser.add_argument(
        "--drop",
        type=int,
        action="append",
        default=[],
        metavar="ID",
        help="drop this session; `d2vpr map info` lists the numbers",
    )
    parser.add_argument("--force", action="store_true", help="replace the file if it exists")


def main(args: argparse.Namespace) -> int:
    from d2vpr_ros.errors import UserError
    from d2vpr_ros.mapping import read_map
    from d2vpr_ros.mapping.prune import PruneRule, choose, count_by_session, prune_map
    from d2vpr_ros.mapping.summary import megabytes
    from d2vpr_ros.outfile import new_file

    if args.spacing is None and args.newest is None and not args.drop:
        raise UserError("nothing to prune by; give --spacing, --newest or --drop")
    if args.spacing is not None and not 0 < args.spacing < float("inf"):
        raise UserError(f"--spacing {args.spacing:g}: expected metres above 0")
    if not 0 < args.turn <= 180:
        raise UserError(f"--turn {args.turn:g}: expected degrees above 0, up to 180")
    if args.newest is not None and args.newest < 1:
        raise UserError(f"--newest {args.newest}: expected 1 or more sessions")
    place_map = read_map(args.map)
    kept = choose(place_map, PruneRule(args.spacing, args.turn, args.newest, frozenset(args.drop)))
    with new_file(args.out, args.force, args.map) as partial:
        prune_map(place_map, kept, partial, args.spacing)
    before, after = count_by_session(place_map), count_by_session(place_map, kept)
    for key, places in before.items():
        fate = f"{after[key]} of {places} places kept" if after[key] else f"dropped with its {places} places"
        print(f"session {key} {place_map.session_table[key].name!r}: {fate}")
    sizes = (megabytes(path.stat().st_size) for path in (args.map, args.out))
    print(f"{args.out}: {int(kept.sum())} of {len(place_map)} places, {' -> '.join(sizes)}")
    return 0
