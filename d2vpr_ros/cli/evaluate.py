"""Localize recorded drives and compare the answers with the truth.

Images, odometry and GPS go through the localizer as on a robot, without ROS and as fast as possible. The truth is a
pose topic in the frame of the map (--truth pose), or the number of each image, or its `place` if the bag has one
(--truth index). With --off-map the drive is outside the map, and every answer is wrong.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from d2vpr_ros.cli.drive_options import read_part
from d2vpr_ros.cli.truth_options import (
    add_truth_arguments,
    answers_to,
    asked_bags,
    check_truth_arguments,
    open_asked,
    open_localizer,
)

if TYPE_CHECKING:
    from d2vpr_ros.bags.reader import Bag
    from d2vpr_ros.evaluation.measures import ScoredDrive
    from d2vpr_ros.evaluation.offline import Answered, Gps
    from d2vpr_ros.localize import Localizer
    from d2vpr_ros.mapping import PlaceMap


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_truth_arguments(parser)
    parser.add_argument("--off-map", action="store_true", help="the bags are outside the map: every answer is wrong")
    parser.add_argument(
        "--kidnap", type=int, default=0, metavar="N",
        help="also move the robot to N random places of each drive, and measure how soon it is found",
    )  # fmt: skip
    parser.add_argument(
        "--verify", choices=["never", "when_it_decides", "always"], default="when_it_decides",
        help="when to compare images with the landmarks of the map (default: when_it_decides)",
    )  # fmt: skip
    parser.add_argument(
        "--min-probability", type=float, metavar="P", help="minimum probability of an answer (default: as the node)"
    )
    gps = parser.add_argument_group("GPS, if the bag has it and the map has latitude and longitude")
    which = gps.add_mutually_exclusive_group()
    which.add_argument("--gps-topic", metavar="TOPIC", help="NavSatFix topic (default: /gps/fix, or the only one)")
    which.add_argument("--no-gps", action="store_true", help="without GPS (use_gps:=false)")
    gps.add_argument("--gps-gate-sigmas", type=float, metavar="N", help="parameter gps_gate_sigmas of the node")
    gps.add_argument("--gps-gate-least-m", type=float, metavar="M", help="parameter gps_gate_least_m of the node")
    results = parser.add_argument_group("results; existing files are replaced")
    results.add_argument("--json", type=Path, metavar="FILE", help="write all numbers, together and per bag")
    results.add_argument("--csv", type=Path, metavar="FILE", help="write one line per image")
    results.add_argument(
        "--page", type=Path, metavar="FILE", help="write an HTML page with plots and the worst mistakes"
    )
    results.add_argument(
        "--player", type=int, metavar="N",
        help="number of images that the page shows one by one, with inliers and belief (default: 100; 0: none)",
    )  # fmt: skip


def main(args: argparse.Namespace) -> int:
    from d2vpr_ros.describe.features import FeatureExtractor
    from d2vpr_ros.errors import UserError
    from d2vpr_ros.evaluation import results
    from d2vpr_ros.evaluation.player import IMAGES, MOST_IMAGES
    from d2vpr_ros.localize import Acceptance, LocalizerOptions, Verify
    from d2vpr_ros.outfile import new_file

    check_truth_arguments(args)
    for option, value in (("sigmas", args.gps_gate_sigmas), ("least-m", args.gps_gate_least_m)):
        if value is not None and not 1 <= value < float("inf"):
            raise UserError(f"--gps-gate-{option} {value:g}: expected 1 or more")
    if args.min_probability is not None and not 0 < args.min_probability < 1:
        raise UserError(f"--min-probability {args.min_probability:g}: expected a number between 0 and 1")
    if args.kidnap and args.truth != "pose":
        raise UserError("--kidnap needs poses; leave out --truth index or --kidnap")
    if args.kidnap < 0:
        raise UserError(f"--kidnap {args.kidnap}: expected a number of places")
    if args.player is not None and not args.page:
        raise UserError("--player without --page: the player is a part of the page; name it with --page FILE")
    images = IMAGES if args.player is None else args.player
    if not 0 <= images <= MOST_IMAGES:
        raise UserError(f"--player {images}: expected 0 to {MOST_IMAGES} images")
    acceptance = Acceptance() if args.min_probability is None else Acceptance(args.min_probability)
    options = LocalizerOptions(not args.single, args.top_speed, Verify(args.verify), acceptance, args.off_map_prior)
    with ExitStack() as written:
        json_file, csv_file, page_file = (
            path and written.enter_context(new_file(path, force=True, source=args.map))
            for path in (args.json, args.csv, args.page)
        )
        localizer = open_localizer(args, options)
        place_map = localizer.map
        recordings = asked_bags(args)
        of_each = max(1, images // len(recordings)) if page_file and images else 0
        drives = [evaluate_bag(localizer, *asked, args, of_each) for asked in recordings]
        evaluation = results.Evaluation(drives, args.radius, "m" if args.truth == "pose" else "frames")
        print("\n".join(results.lines(evaluation)))
        if json_file:
            results.write_json(json_file, evaluation, place_map)
        if csv_file:
            results.write_csv(csv_file, evaluation)
        if page_file:
            features = FeatureExtractor.open(args.features, device=args.device) if images else None
            results.write_page(page_file, evaluation, place_map, features)
    for path in filter(None, (args.json, args.csv, args.page)):
        print(path)
    return 0


def evaluate_bag(
    localizer: Localizer, path: Path, name: str, off_map: bool, args: argparse.Namespace, moments: int
) -> ScoredDrive:
    """Put one recording to the localizer.

    Args:
        moments: images that are kept for the player of the page, at most.

    Raises:
        UserError: it cannot be read or judged, or none of its images can.
    """
    from d2vpr_ros.evaluation.kidnapping import Remembered, kidnap, remembering
    from d2vpr_ros.evaluation.measures import ScoredDrive
    from d2vpr_ros.evaluation.moments import moments_of
    from d2vpr_ros.evaluation.offline import Described, describe_drive

    with open_asked(localizer, path, name, off_map, args) as asked:
        drive = asked.drive
        gps = asked_gps(drive.bag, localizer.map, args)
        images: Iterable[Described] = describe_drive(drive, asked.odometry, localizer.extractor, gps, asked.unseeing)
        again: list[Remembered] = []
        every = answers_to(localizer, asked, remembering(images, again) if args.kidnap else images, gps)
        _say_far_fixes(path, every)
        kidnappings = (
            kidnap(localizer, asked.judge, every, again, args.kidnap, gps) if args.kidnap and not off_map else []
        )
    queries = [answered.query for answered in every if answered.query]
    unscored = len(every) - len(queries)
    topics = tuple(drive.image_topics)
    gps_topic = gps.topic if gps else None
    known = name, queries, unscored, path, topics, asked.truth
    return ScoredDrive(*known, asked.odometry, gps_topic, kidnappings, read_part(args), moments_of(every, moments))


def _say_far_fixes(path: Path, every: Iterable[Answered]) -> None:
    """As the node does, where images contradict the receiver."""
    far = [one.estimate.far_fix_m for one in every if one.estimate.far_fix_m is not None and one.estimate.pose]
    if far:
        print(
            f"{path}: {len(far)} answers contradict GPS, which is not obeyed there: its fixes are up to "
            f"{max(far) / 1000:.1f} km from the nearest place of the map"
        )


def asked_gps(bag: Bag, place_map: PlaceMap, args: argparse.Namespace) -> Gps | None:
    """The receiver that the options name, or the one there is; what becomes of it is said.

    Raises:
        UserError: there is no such topic, or one was named and the map does not lie on the earth.
    """
    from d2vpr_ros.bags.topics import NAVSATFIX
    from d2vpr_ros.errors import UserError
    from d2vpr_ros.evaluation.offline import Gps, choose_gps
    from d2vpr_ros.localize.gps import LEAST_RADIUS_M, SIGMAS, GpsGate
    from d2vpr_ros.mapping.earth import earth_of

    if args.no_gps:
        return None
    earth = earth_of(place_map)
    if earth is None:
        unknown = f"{place_map.path} has no position on the earth"
        if args.gps_topic:
            raise UserError(f"--gps-topic {args.gps_topic}: map {unknown}")
        if any(topic.msgtype == NAVSATFIX for topic in bag.topics.values()):
            print(f"{bag.path}: GPS is not used: map {unknown}")
        return None
    topic = choose_gps(bag, args.gps_topic)
    if topic is None:
        return None
    print(f"{bag.path}: GPS on {topic} is used, as on a robot; --no-gps leaves it out")
    sigmas, least_m = args.gps_gate_sigmas or SIGMAS, args.gps_gate_least_m or LEAST_RADIUS_M
    return Gps(topic, GpsGate(sigmas, least_m, args.top_speed), earth)
