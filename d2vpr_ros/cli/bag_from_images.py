"""Make a bag from a folder of images and a table of their poses.

POSES is a CSV file with a header line. The column `filename` is required. Optional are `timestamp` (seconds), the pose
x,y,z,qx,qy,qz,qw (metres, quaternion), and lat,lon,alt (WGS-84 degrees, metres). An empty cell means unknown. Any
other column becomes a label on /ground_truth/<column>; --where selects by it.

The bag has /camera/image/compressed (the JPEG and PNG files unchanged), /slam/pose and /ground_truth/pose (of base_link
in map), /gps/fix, /tf_static, and with --intrinsics /camera/camera_info.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from d2vpr_ros.bags.from_images import bag_from_images
from d2vpr_ros.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", type=Path, metavar="IMAGES", help="folder of images")
    parser.add_argument("poses", type=Path, metavar="POSES", help="CSV table of the poses")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="BAG", help="bag to write; must not exist")
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="COLUMN=VALUE",
        help="use only rows with this value; may be repeated",
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="use only every Nth row (default: 1)")
    parser.add_argument(
        "--offset", type=int, default=0, metavar="K", help="start at row K, counted from 0 (default: 0)"
    )
    parser.add_argument(
        "--pose-of",
        choices=["base", "camera_optical"],
        default="base",
        help="frame of the poses: the robot's base, or the camera (z forward, x right) (default: base)",
    )
    parser.add_argument(
        "--intrinsics", type=Path, metavar="FILE", help="text file with the 3 x 3 camera matrix, in pixels"
    )


def main(args: argparse.Namespace) -> int:
    summary = bag_from_images(
        args.images,
        args.poses,
        args.output,
        where=dict(read_condition(text) for text in args.where),
        every=args.every,
        offset=args.offset,
        pose_of=args.pose_of,
        intrinsics=args.intrinsics,
    )
    for note in summary.notes:
        print(f"note: {note}")
    print(
        f"{args.output}: {summary.images} images over {summary.duration_s:.1f} s, {summary.posed} with a pose, "
        f"{summary.geotagged} with latitude and longitude"
    )
    print(f"labels: {', '.join(summary.labels)}")
    return 0


def read_condition(text: str) -> tuple[str, str]:
    """COLUMN=VALUE as a pair.

    Raises:
        UserError: there is no ``=``.
    """
    column, sign, value = text.partition("=")
    if not sign or not column:
        raise UserError(f"--where {text}: expected COLUMN=VALUE")
    return column, value
