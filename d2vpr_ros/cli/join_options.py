"""The options of the verbs that bring the poses of two drives into one frame."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from d2vpr_ros.cli.drive_options import SEVEN, read_mount

if TYPE_CHECKING:
    from d2vpr_ros.mapping.frames import Frames


def add_join_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "frames", "How the frames of the two drives are related. If all poses are from GPS, no option is needed."
    )
    ways = group.add_mutually_exclusive_group()
    ways.add_argument(
        "--same-frame", action="store_true", help="both have poses in the same map frame, from one SLAM map"
    )
    ways.add_argument(
        "--transform",
        type=float,
        nargs=7,
        metavar=SEVEN,
        help="pose of the added drive's frame in the frame of the map",
    )
    ways.add_argument(
        "--align", action="store_true", help="compute it from places that look alike; refused if uncertain"
    )


def read_frames(args: argparse.Namespace) -> Frames:
    """What the options say of the frames.

    Raises:
        UserError: --transform is no pose.
    """
    from d2vpr_ros.mapping.frames import ALIGN, SAME_FRAME

    if args.transform is not None:
        return read_mount("--transform", args.transform)
    return ALIGN if args.align else SAME_FRAME if args.same_frame else None
