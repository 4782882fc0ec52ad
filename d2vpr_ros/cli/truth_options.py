"""The options of every verb that holds a localizer's answers against the truth, and what they ask for."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from d2vpr_ros.cli.drive_options import add_camera_arguments, add_part_arguments, read_mounts, read_part

if TYPE_CHECKING:
    from d2vpr_ros.bags.stream import Drive
    from d2vpr_ros.evaluation.offline import Answered, Described, Gps
    from d2vpr_ros.evaluation.truth import Judge
    from d2vpr_ros.localize import Localizer, LocalizerOptions

log = logging.getLogger(__name__)

TRUTH = "/ground_truth/pose"


@dataclass(frozen=True, eq=False)
class Asked:
    """A recording to be judged.

    Attributes:
        name: of the recording, another for each.
        truth: what it is judged by, in words; judge: tells right answers from wrong ones.
        odometry: the topic, or None.
        unseeing: names of the cameras that see nothing of the map, so that their images are left out, as by the node.
        on_map: whether any answer can be right.
    """

    name: str
    drive: Drive
    truth: str
    judge: Judge
    odometry: str | None
    unseeing: frozenset[str]
    on_map: bool


def add_truth_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("map", type=Path, help=".d2map file")
    parser.add_argument("bags", type=Path, nargs="+", metavar="bag", help="rosbag2 folder, .mcap, .db3 or .bag file")
    truth = parser.add_argument_group("truth")
    truth.add_argument(
        "--truth", choices=["pose", "index"], default="pose",
        help="truth of an image: its pose in the frame of the map, or its number along the drive (default: pose)",
    )  # fmt: skip
    truth.add_argument(
        "--radius",
        type=float,
        default=5.0,
        metavar="R",
        help="a place within this distance is right: metres, or images (default: 5)",
    )
    truth.add_argument(
        "--heading-tolerance", type=float, metavar="DEG", help="maximum heading error of a right answer (default: any)"
    )
    truth.add_argument(
        "--truth-topic", "--pose-topic", metavar="TOPIC",
        help=f"topic of the true poses (default: {TRUTH} if the bag has it, else as for `map build`)",
    )  # fmt: skip
    truth.add_argument(
        "--pose-of", choices=["base", "camera_optical"], default="base", help="frame of the true poses (default: base)"
    )
    truth.add_argument(
        "--max-gap",
        type=float,
        default=1.5,
        metavar="S",
        help="maximum time between true poses; in a longer gap the truth is unknown (default: 1.5)",
    )
    truth.add_argument(
        "--map-bag", type=Path, metavar="BAG",
        help="with --truth index: the recording of the map, to count its images",
    )  # fmt: skip
    truth.add_argument(
        "--off-map-bag", type=Path, action="append", default=[], metavar="BAG",
        help="another recording, outside the map: every answer to it is wrong; may be repeated",
    )  # fmt: skip
    add_part_arguments(parser)
    add_camera_arguments(parser)
    drive = parser.add_argument_group("drive")
    odometry = drive.add_mutually_exclusive_group()
    odometry.add_argument("--odom-topic", metavar="TOPIC", help="odometry topic (default: /odom, or the only one)")
    odometry.add_argument("--no-odometry", action="store_true", help="without odometry")
    drive.add_argument("--single", action="store_true", help="answer every image alone (sequence:=false)")
    drive.add_argument(
        "--top-speed", type=float, default=2.0, metavar="M/S",
        help="maximum speed of the robot; limits its motion without odometry and after a GPS fix (default: 2)",
    )  # fmt: skip
    drive.add_argument(
        "--off-map-prior", type=float, default=0.5, metavar="P",
        help="parameter off_map_prior of the node: chance that the robot starts outside the mapped area (default: 0.5)",
    )  # fmt: skip
    model = parser.add_argument_group("model")
    model.add_argument("--weights", default="nano", help="bundled name or weights file (default: nano)")
    model.add_argument(
        "--features", default="xfeat", help="local features: xfeat, or a file of `d2vpr export xfeat` (default: xfeat)"
    )
    model.add_argument("--projection", default="default", help="default, none, or a file; must match the map")
    model.add_argument("--device", default="auto", help="auto, cpu or cuda")


def check_truth_arguments(args: argparse.Namespace) -> None:
    """Refuse numbers that make no sense before anything is loaded.

    Raises:
        UserError: naming the option.
    """
    from d2vpr_ros.errors import UserError

    for option in ("radius", "heading_tolerance", "max_gap", "top_speed"):
        value = getattr(args, option)
        least = option == "radius" and args.truth == "index"  # 0 frames: the very same one
        if value is not None and not (0 < value < float("inf") or (least and value == 0)):
            raise UserError(f"--{option.replace('_', '-')} {value:g}: expected a number above 0")
    check_off_map_prior(args.off_map_prior)
    for option, given, truth in (
        ("--heading-tolerance", args.heading_tolerance, "pose"),
        ("--truth-topic", args.truth_topic, "pose"),
        ("--map-bag", args.map_bag, "index"),
    ):
        if given is not None and args.truth != truth:
            raise UserError(f"{option} with --truth {args.truth}: it needs --truth {truth}; leave one of them out")


def check_off_map_prior(prior: float) -> None:
    """
    Raises:
        UserError: it is no chance.
    """
    from d2vpr_ros.errors import UserError

    if not 0 <= prior < 1:
        raise UserError(f"--off-map-prior {prior:g}: expected 0 or more, and less than 1")


def open_localizer(args: argparse.Namespace, options: LocalizerOptions) -> Localizer:
    """The map, with a model that has described an image already (the first pass is slow), and what compares images.

    Raises:
        UserError: one of them cannot be opened, or another model made the map.
    """
    import numpy as np

    from d2vpr_ros.describe import Extractor
    from d2vpr_ros.localize import Localizer, Verify
    from d2vpr_ros.mapping import check_model, read_map
    from d2vpr_ros.multiview import open_geometry

    place_map = read_map(args.map)
    extractor = Extractor.open(args.weights, device=args.device, projection=args.projection)
    check_model(place_map, extractor.identity)
    extractor.describe([np.zeros((480, 640, 3), np.uint8)])
    is_compared = options.verify is not Verify.NEVER
    geometry = open_geometry(place_map, args.features, args.device) if is_compared else None
    return Localizer(place_map, extractor, options, geometry=geometry)


def asked_bags(args: argparse.Namespace) -> list[tuple[Path, str, bool]]:
    """Path, name and whether it is off the map, of every recording; names are as short as they can be told apart.

    Raises:
        UserError: one cannot be read: told now, not after the others' drives.
    """
    from d2vpr_ros.bags.reader import open_bag

    every = [(path, bool(getattr(args, "off_map", False))) for path in args.bags]
    every += [(path, True) for path in args.off_map_bag]
    for path, _ in every:
        with open_bag(path):
            pass
    names = [path.resolve().name for path, _ in every]
    return [
        (path, name if names.count(name) == 1 else f"{path} ({number + 1})", off_map)
        for number, ((path, off_map), name) in enumerate(zip(every, names, strict=True))
    ]


@contextmanager
def open_asked(localizer: Localizer, path: Path, name: str, off_map: bool, args: argparse.Namespace) -> Iterator[Asked]:
    """A recording with its topics and its truth; the localizer is told where its cameras are.

    Raises:
        UserError: as `open_drive`, there is no such odometry, or the map and the recording do not go together.
    """
    from d2vpr_ros.bags.drive import open_drive
    from d2vpr_ros.bags.reader import open_bag
    from d2vpr_ros.evaluation.offline import choose_odometry

    mount, mounts = read_mounts(args)
    with_poses = args.truth == "pose" and not off_map
    with open_bag(path, read_part(args)) as bag:
        topic = args.truth_topic or (TRUTH if TRUTH in bag.topics and bag.topics[TRUTH].count else None)
        drive = open_drive(
            bag,
            args.image_topic,
            topic,
            mount,
            args.pose_of,
            args.max_gap,
            mounts=mounts,
            base_frame=args.base_frame,
            with_poses=with_poses,
            geo_topic="none",
        )
        drive.image_range = localizer.map.header.image_range
        truth = "off the map" if off_map else f"poses on {drive.pose_source}" if with_poses else "numbers"
        odometry = None if args.no_odometry or args.single else choose_odometry(bag, args.odom_topic)
        localizer.use_mounts([camera.mount for camera in drive.cameras.values()])
        unseeing = [camera for number, camera in enumerate(drive.cameras) if not localizer.cameras.sees_map(number)]
        for camera in unseeing:
            log.warning("%s: camera %s sees nothing of the map; its images are left out", path, camera)
        judge = _judge(localizer, drive, off_map, args)
        topics = ", ".join(drive.image_topics)
        print(f"{path}: {drive.total} images on {topics}, odometry {odometry or 'none'}, truth: {truth}")
        yield Asked(name, drive, truth, judge, odometry, frozenset(unseeing), not off_map)


def answers_to(
    localizer: Localizer, asked: Asked, images: Iterable[Described], gps: Gps | None = None
) -> list[Answered]:
    """What the localizer says to the images of a recording.

    Raises:
        UserError: the truth of none of them is known.
    """
    from tqdm import tqdm

    from d2vpr_ros.errors import UserError
    from d2vpr_ros.evaluation.offline import answer_drive

    answers = answer_drive(localizer, images, asked.judge, asked.name, gps)
    every = list(tqdm(answers, total=asked.drive.total, unit="image", leave=False, disable=None))
    if not any(answered.query for answered in every):
        raise UserError(
            f"{asked.drive.bag.path}: none of its {len(every)} images has a true pose ({asked.truth}); choose another "
            "topic with --truth-topic, raise --max-gap, or use --truth index or --off-map"
        )
    if asked.on_map and not any(answered.query and answered.query.answerable for answered in every):
        log.warning(
            "%s: none of its images is within the radius of a place; is the truth in the frame of the map? "
            "If not on the map, give --off-map",
            asked.drive.bag.path,
        )
    return every


def _judge(localizer: Localizer, drive: Drive, off_map: bool, args: argparse.Namespace) -> Judge:
    from d2vpr_ros.bags.drive import open_drive
    from d2vpr_ros.bags.reader import open_bag
    from d2vpr_ros.evaluation import numbers, truth

    if off_map:
        return truth.judge_off_map(localizer)
    if args.truth == "pose":
        return truth.judge_by_pose(localizer, drive, args.radius, args.heading_tolerance)
    of_images = numbers.image_numbers(drive.bag, drive.image_topics)
    if args.map_bag is None:
        of_places = numbers.place_numbers_by_time(localizer.map, of_images)
    else:
        with open_bag(args.map_bag) as bag:
            recorded = numbers.image_numbers(bag, open_drive(bag, args.image_topic, with_poses=False).image_topics)
        of_places = numbers.place_numbers(localizer.map, recorded)
    return truth.judge_by_number(localizer, of_images, of_places, args.radius)
