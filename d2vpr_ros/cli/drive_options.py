"""The options of every verb that reads a recorded drive: which topics, whose poses, where the cameras are."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from d2vpr_ros.bags.reader import Bag, Part
    from d2vpr_ros.bags.stream import Drive
    from d2vpr_ros.geometry import Pose

SEVEN = ("X", "Y", "Z", "QX", "QY", "QZ", "QW")


def add_drive_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bag", type=Path, help="rosbag2 folder, .mcap or .db3 file, or rosbag1 .bag")
    add_part_arguments(parser)
    add_camera_arguments(parser)
    poses = parser.add_argument_group("poses")
    poses.add_argument(
        "--pose-topic", metavar="TOPIC",
        help="PoseStamped, PoseWithCovarianceStamped, Odometry, NavSatFix, Path, or tf (default: the "
        "only one of the best type)",
    )  # fmt: skip
    poses.add_argument("--poses", type=Path, metavar="FILE", help="read the poses from a TUM, KITTI or CSV file")
    poses.add_argument("--pose-times", type=Path, metavar="FILE", help="times of KITTI poses in seconds, one per line")
    poses.add_argument(
        "--pose-of", choices=["base", "camera_optical"], default="base",
        help="frame of the poses of a topic or CSV file (default: base); TUM and KITTI poses are of the camera",
    )  # fmt: skip
    poses.add_argument("--map-frame", metavar="FRAME", help="map frame in tf (default: map)")
    poses.add_argument(
        "--imu-topic",
        metavar="TOPIC",
        help="sensor_msgs/Imu for the heading of NavSatFix poses (default: along the track)",
    )
    poses.add_argument(
        "--geo-topic", metavar="TOPIC",
        help="NavSatFix for latitude and longitude of images with other poses, or none (default: the only one)",
    )  # fmt: skip
    poses.add_argument(
        "--max-gap", type=float, default=1.5, metavar="S",
        help="maximum time between poses; images in a longer gap are left out (default: 1.5)",
    )  # fmt: skip


def add_part_arguments(parser: argparse.ArgumentParser) -> None:
    """Which part of a recording is read."""
    part = parser.add_argument_group("part of the recording")
    part.add_argument("--start", type=float, default=0.0, metavar="S", help="start at S seconds (default: 0)")
    part.add_argument("--end", type=float, default=math.inf, metavar="S", help="end at S seconds (default: the end)")


def read_part(args: argparse.Namespace) -> Part:
    """The part of a recording that these options name.

    Raises:
        UserError: it has no length.
    """
    from d2vpr_ros.errors import UserError

    if not 0 <= args.start < args.end:
        raise UserError(f"--start {args.start:g} --end {args.end:g}: expected 0 or more, and --start before --end")
    return args.start, args.end


def add_camera_arguments(parser: argparse.ArgumentParser) -> None:
    """Which images, and where their cameras are on the robot."""
    cameras = parser.add_argument_group("cameras")
    cameras.add_argument(
        "--image-topic", action="append", metavar="TOPIC",
        help="repeat it for each camera (default: the only one)",
    )  # fmt: skip
    cameras.add_argument(
        "--mount", type=float, nargs=7, metavar=SEVEN,
        help="pose of the only camera on the base (default: from tf_static, else level and looking forward)",
    )  # fmt: skip
    cameras.add_argument(
        "--mount-of", action="append", metavar="NAME=X,Y,Z,QX,QY,QZ,QW",
        help="pose of one camera on the base; NAME is the namespace of its topic (front for /front/image); repeatable",
    )  # fmt: skip
    cameras.add_argument(
        "--base-frame", default="base_link", metavar="FRAME", help="frame of the robot (default: base_link)"
    )


def open_asked_drive(bag: Bag, args: argparse.Namespace, with_poses: bool = True) -> Drive:
    """The drive that these options name.

    Raises:
        UserError: as `open_drive`, or an option is not what it should be.
    """
    from d2vpr_ros.bags.drive import open_drive
    from d2vpr_ros.errors import UserError

    if not args.max_gap > 0:
        raise UserError(f"--max-gap {args.max_gap:g}: expected seconds above 0")
    mount, mounts = read_mounts(args)
    return open_drive(
        bag,
        args.image_topic,
        args.pose_topic,
        mount,
        args.pose_of,
        args.max_gap,
        mounts=mounts,
        pose_file=args.poses,
        pose_times=args.pose_times,
        imu_topic=args.imu_topic,
        geo_topic=args.geo_topic,
        map_frame=args.map_frame,
        base_frame=args.base_frame,
        with_poses=with_poses,
    )


def read_mounts(args: argparse.Namespace) -> tuple[Pose | None, dict[str, Pose]]:
    """The mount of the only camera, and those of cameras by name, as far as they are given.

    Raises:
        UserError: one is no pose.
    """
    from d2vpr_ros.errors import UserError

    mounts = {}
    for text in args.mount_of or []:
        name, equals, numbers = text.partition("=")
        if not name or not equals:
            raise UserError(f"--mount-of {text}: expected NAME=x,y,z,qx,qy,qz,qw")
        mounts[name] = read_mount(f"--mount-of {name}", numbers.split(","))
    return None if args.mount is None else read_mount("--mount", args.mount), mounts


def read_mount(option: str, numbers: list[str] | list[float]) -> Pose:
    """The pose of seven numbers of an option.

    Raises:
        UserError: they are not seven, no numbers, or no pose.
    """
    from d2vpr_ros.errors import UserError
    from d2vpr_ros.geometry import Pose

    try:
        x, y, z, qx, qy, qz, qw = (float(number) for number in numbers)
        return Pose.of(x, y, z, qx, qy, qz, qw)
    except ValueError as error:
        raise UserError(f"{option}: {error}; expected seven numbers x y z qx qy qz qw") from None
