"""Close the loops of a recorded drive and compare the closures and the corrected trajectory with the truth.

The drive becomes a map by its odometry, as by `d2vpr map build --close-loops`. The true poses are read from another
topic of the recording and are used only to judge.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from d2vpr_ros.cli.build_options import add_build_arguments, read_build_options, read_image_range, shown_progress
from d2vpr_ros.cli.drive_options import add_drive_arguments, open_asked_drive, read_part
from d2vpr_ros.cli.truth_options import TRUTH

if TYPE_CHECKING:
    from d2vpr_ros.bags.reader import Bag
    from d2vpr_ros.bags.stream import Drive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_drive_arguments(parser)
    parser.add_argument(
        "--truth-topic", default=TRUTH, metavar="TOPIC", help=f"topic of the true poses (default: {TRUTH})"
    )
    parser.add_argument(
        "-o", "--out", type=Path, help="keep the corrected map under this name (default: it is removed)"
    )
    results = parser.add_argument_group("results; existing files are replaced")
    results.add_argument("--json", type=Path, metavar="FILE", help="write all numbers and the visits")
    results.add_argument("--csv", type=Path, metavar="FILE", help="write one line per closure")
    results.add_argument("--page", type=Path, metavar="FILE", help="write an HTML page with both trajectories")
    add_build_arguments(parser, closes_loops=True)


def main(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from d2vpr_ros.bags.reader import open_bag
    from d2vpr_ros.describe import Extractor
    from d2vpr_ros.describe.features import FeatureExtractor
    from d2vpr_ros.evaluation import loop_results
    from d2vpr_ros.evaluation.loop_drive import close_and_score
    from d2vpr_ros.evaluation.offline import choose_odometry
    from d2vpr_ros.mapping.recording import build_map
    from d2vpr_ros.outfile import new_file

    options = read_build_options(args)
    with ExitStack() as opened:
        json_file, csv_file, page_file = (
            path and opened.enter_context(new_file(path, force=True)) for path in (args.json, args.csv, args.page)
        )
        out = args.out or Path(opened.enter_context(TemporaryDirectory())) / "loops.d2map"
        features = FeatureExtractor.open(device=args.device)
        extractor = Extractor.open(args.weights, device=args.device, projection=args.projection)
        bag = opened.enter_context(open_bag(args.bag, read_part(args)))
        if args.pose_topic is None and args.poses is None:
            args.pose_topic = choose_odometry(bag, None)
        drive = open_asked_drive(bag, args)
        drive.image_range = read_image_range(args)
        true_drive = _true_drive(bag, args)
        print(
            f"{args.bag}: {drive.total} images on {', '.join(drive.image_topics)}, poses from {drive.pose_source}, "
            f"truth: {true_drive.pose_source}",
            flush=True,
        )
        with shown_progress(drive, out, args.report_stored) as (on_image, on_stored):
            counts = build_map(out, drive, extractor, options, on_image, on_stored)
        print(f"places: {counts}", flush=True)
        with tqdm(total=counts.places, unit="place", leave=False, disable=None) as bar:
            scores, closing = close_and_score(out, true_drive, features, bar.update)
        print("\n".join(loop_results.lines(scores, closing.refused)))
        facts = {
            "bag": args.bag.name,
            "odometry": str(drive.pose_source),
            "truth": str(true_drive.pose_source),
            "weights": f"{extractor.identity.architecture} {extractor.identity.weights_sha256[:12]}",
        }
        if json_file:
            loop_results.write_json(json_file, scores, closing.refused, facts)
        if csv_file:
            loop_results.write_csv(csv_file, scores)
        if page_file:
            loop_results.write_page(page_file, scores, args.bag.name, closing.refused, list(facts.items()))
    for path in filter(None, (args.json, args.csv, args.page, args.out)):
        print(path)
    return 0


def _true_drive(bag: Bag, args: argparse.Namespace) -> Drive:
    """The same images with the true poses.

    Raises:
        UserError: the recording has no such topic.
    """
    from d2vpr_ros.errors import UserError

    if args.truth_topic not in bag.topics:
        raise UserError(
            f"{bag.path} has no topic {args.truth_topic} with true poses; name one with --truth-topic "
            f"(there are: {', '.join(sorted(bag.topics))})"
        )
    asked = {**vars(args), "pose_topic": args.truth_topic, "poses": None, "pose_times": None}
    return open_asked_drive(bag, argparse.Namespace(**asked))
