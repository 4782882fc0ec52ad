"""The options of the verbs that bring the poses of two drives into one frame."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from d2vpr_ros.cli.drive_options import SEVEN, read_mount

if TYPE_CHECKING:
    from d2vpr_ros.mapping.frames import Frames


def add_join_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "frames", "Each drive's odometry starts at its own zero. Where all poses are from GPS, no option is needed."
    )
    ways = group.add_mutually_exclusive_group()
    ways.add_argument(
        "--same-frame", action="store_true", help="the poses of both are in one map frame, as of one SLAM"
    )
    ways.add_argument(
        "--transform", type=float, nargs=7, metavar=SEVEN, help="what is added stands so in the frame of the map"
    )
    ways.add_argument(
        "--align", action="store_true", help="found from places that look alike; refused where that is not sure"
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
