"""Build a map from a recorded drive.

Every image that lies far enough from the last one becomes a place: described, geo-tagged where the poses are, and
stored in one file that `d2vpr_localizer` reads.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bag", type=Path, help="a rosbag2 folder, an .mcap or .db3 file, or a rosbag1 .bag")
    parser.add_argument("-o", "--out", type=Path, required=True, help="the map to write, e.g. town.d2map")
    parser.add_argument("--image-topic", help="found by itself where the bag leaves no choice")
    parser.add_argument("--pose-topic", help="found by itself where the bag leaves no choice")
    parser.add_argument(
        "--pose-of", choices=["base", "camera_optical"], default="base", help="whose pose it is (default: base)"
    )
    parser.add_argument(
        "--mount", type=float, nargs=7, metavar=("X", "Y", "Z", "QX", "QY", "QZ", "QW"),
        help="the camera on the base; default: tf_static, else level and looking forward",
    )  # fmt: skip
    parser.add_argument("--spacing", type=float, default=1.0, metavar="M", help="metres between places (default: 1)")
    parser.add_argument("--turn", type=float, default=20.0, metavar="DEG", help="or degrees turned (default: 20)")
    parser.add_argument("--weights", default="nano", help="bundled name or weights file (default: nano)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")


def main(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from d2vpr_ros.bags.drive import open_drive
    from d2vpr_ros.bags.reader import open_bag
    from d2vpr_ros.describe import Extractor
    from d2vpr_ros.errors import UserError
    from d2vpr_ros.geometry import Pose
    from d2vpr_ros.mapping import KeyframeRule, KeyframeSelector, build_map

    if not (args.spacing > 0 and args.turn > 0):
        raise UserError(f"--spacing {args.spacing} and --turn {args.turn}: both have to be above 0")
    try:
        mount = Pose.of(*args.mount) if args.mount else None
    except ValueError as error:
        raise UserError(f"--mount is {error}; expected x y z qx qy qz qw") from None
    extractor = Extractor.open(args.weights, device=args.device)
    with open_bag(args.bag) as bag:
        drive = open_drive(bag, args.image_topic, args.pose_topic, mount, args.pose_of)
        total = bag.topics[drive.image_topic].count
        print(f"{args.bag}: {total} images on {drive.image_topic}, poses on {drive.pose_topic}")
        with tqdm(total=total, unit="image", smoothing=0.1, disable=None) as bar:

            def progress() -> None:
                bar.update(drive.images - bar.n)

            places = build_map(
                drive.frames(KeyframeSelector(KeyframeRule(args.spacing, args.turn))),
                extractor,
                args.out,
                drive.mount,
                spacing_m=args.spacing,
                session=args.bag.name,
                frame_id=drive.frame_id,
                origin=drive.origin,
                on_place=progress,
            )
            progress()
    left_out = {"too close to the last place": drive.skipped, "no pose": drive.unposed, "unreadable": drive.unreadable}
    reasons = ", ".join(f"{count} {why}" for why, count in left_out.items() if count) or "none"
    print(f"{args.out}: {places} places; images left out: {reasons}")
    return 0
