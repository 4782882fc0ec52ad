"""Build a map from a recorded drive.

An image that is far enough from the last place becomes a place. All places are stored in one file, which
`d2vpr_localizer` reads. If a build was interrupted, run the same command again to continue.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from d2vpr_ros.cli.build_options import add_build_arguments, read_build_options, read_image_range, shown_progress
from d2vpr_ros.cli.drive_options import add_drive_arguments, open_asked_drive, read_part
from d2vpr_ros.cli.map_close import show_closed
from d2vpr_ros.cli.map_landmarks import show_landmarks_stored


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_drive_arguments(parser)
    parser.add_argument("-o", "--out", type=Path, required=True, help="map to write, for example town.d2map")
    parser.add_argument(
        "--no-pose", action="store_true", help="sequence map without poses: the localizer gives matches, never a pose"
    )
    add_build_arguments(parser)


def main(args: argparse.Namespace) -> int:
    from d2vpr_ros.bags.reader import open_bag
    from d2vpr_ros.describe import Extractor
    from d2vpr_ros.mapping.recording import build_map

    options = read_build_options(args, with_poses=not args.no_pose)
    extractor = Extractor.open(args.weights, device=args.device, projection=args.projection)
    with open_bag(args.bag, read_part(args)) as bag:
        drive = open_asked_drive(bag, args, with_poses=not args.no_pose)
        drive.image_range = read_image_range(args)
        poses = f"poses from {drive.pose_source}" if drive.poses else "without poses"
        print(f"{args.bag}: {drive.total} images on {', '.join(drive.image_topics)}, {poses}", flush=True)
        with shown_progress(drive, args.out, args.report_stored) as (on_image, on_stored):
            counts = build_map(args.out, drive, extractor, options, on_image, on_stored)
    print(f"{args.out}: {counts}", flush=True)
    if args.close_loops:
        show_closed(args.out, args.device)
    if args.landmarks:
        show_landmarks_stored(args.out, args.device)
    return 0
