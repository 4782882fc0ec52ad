"""Add a recorded drive to a map, as a new session.

The drive is built in a file beside the map and joined in one step. If it is stopped, the map is unchanged. Run the same
command again to continue. `d2vpr map prune --drop` removes a session.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from d2vpr_ros.cli.build_options import add_build_arguments, read_build_options, read_image_range, shown_progress
from d2vpr_ros.cli.drive_options import add_drive_arguments, open_asked_drive, read_part
from d2vpr_ros.cli.join_options import add_join_arguments, read_frames
from d2vpr_ros.cli.map_close import show_closed
from d2vpr_ros.cli.map_landmarks import show_landmarks_stored


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("map", type=Path, help=".d2map file to add to")
    add_drive_arguments(parser)
    add_join_arguments(parser)
    add_build_arguments(parser)
    parser.add_argument("--free", action="store_true", help="with --close-loops: also correct the places in the map")


def main(args: argparse.Namespace) -> int:
    from d2vpr_ros.bags.reader import open_bag
    from d2vpr_ros.describe import Extractor
    from d2vpr_ros.mapping import check_model, read_map
    from d2vpr_ros.mapping.append import append_drive, beside
    from d2vpr_ros.mapping.recording import session_of

    frames = read_frames(args)
    place_map = read_map(args.map)
    metric = place_map.header.metric
    options = read_build_options(args, with_poses=metric)
    extractor = Extractor.open(args.weights, device=args.device, projection=args.projection)
    check_model(place_map, extractor.identity)
    with open_bag(args.bag, read_part(args)) as bag:
        drive = open_asked_drive(bag, args, with_poses=metric)
        drive.image_range = read_image_range(args) or place_map.header.image_range
        waiting = beside(args.map, session_of(drive, options))
        with shown_progress(drive, waiting, report_stored=False) as (on_image, _):
            appended = append_drive(place_map, drive, extractor, options, frames, on_image)
    if args.report_stored:
        for place in appended.joined.places:
            print(f"stored {place}")
    if appended.built:
        print(f"{args.bag}: {appended.built}")
    print(f"{args.map}: {len(appended.joined.places)} places more; frames {appended.frames}", flush=True)
    if args.close_loops:
        show_closed(args.map, args.device, () if args.free else place_map.session_table)
    if args.landmarks:
        show_landmarks_stored(args.map, args.device)
    return 0
