"""Run the whole chain: record, map, localize over DDS, score.

Two drives through a simulated town are recorded in different light, the second one beside the track of the first. A map
is built from the first drive. The localizer node receives the images of the second drive over DDS in real time. Its
pose priors are compared with the truth. With --footage the images are those of a folder with a poses.csv: one part
becomes the map, the rest are the queries.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from d2vpr_ros.bags.reader import Bag
    from d2vpr_ros.bags.stream import Keep
    from d2vpr_ros.evaluation.drives import Drives
    from d2vpr_ros.evaluation.live import Summary
    from d2vpr_ros.evaluation.scoring import ScoredQuery
    from d2vpr_ros.images.frame import PosedFrame
    from d2vpr_ros.mapping import PlaceMap

MADE = ("map_drive", "query_drive", "drive", "demo.d2map", "summary.json", "report.html", "log")
"""What a run writes into its folder, and what the next run in the same folder replaces."""

PLAYED = ("/odom", "/camera/camera_info", "/gps/fix")
"""Topics played beside the images, where the drive has them."""

TRUTH = "/ground_truth/pose"

FOOTAGE_MPS, TOWN_MPS = 2.0, 6.0
"""What a robot is taken to reach at most, unless said otherwise."""

SHOWN_PAIRS = {"false": 8, "correct": 6, "missed": 4, "silent": 2}
"""How many queries of each verdict the page shows beside their matches."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("demo_out"), help="folder for the results (default: demo_out)")
    parser.add_argument("--footage", type=Path, help="folder with images and poses.csv, instead of the simulated town")
    parser.add_argument(
        "--map-split",
        default="even",
        help="with --footage: images of the map, even (every other one) or first:0.8 (a share)",
    )
    parser.add_argument(
        "--pose-of",
        choices=["base", "camera_optical"],
        default="base",
        help="with --footage: frame of the poses (default: base)",
    )
    parser.add_argument(
        "--radius", type=float, default=5.0, metavar="M", help="an answer within this distance is correct (default: 5)"
    )
    parser.add_argument("--seed", type=int, default=7, help="seed of the town, 0 to 99 (default: 7)")
    parser.add_argument("--weights", default="nano", help="bundled name or weights file (default: nano)")
    parser.add_argument(
        "--top-speed",
        type=float,
        metavar="M/S",
        help=f"maximum speed of the robot (default: with --footage {FOOTAGE_MPS:g}, in the town {TOWN_MPS:g})",
    )
    parser.add_argument(
        "--off-map-prior", type=float, default=0.5, metavar="P",
        help="chance that the robot starts outside the mapped area (default: 0.5); 0: it never leaves it",
    )  # fmt: skip
    parser.add_argument(
        "--spacing", type=float, metavar="M", help="distance between places in metres (default: a fifth of the radius)"
    )


def main(args: argparse.Namespace) -> int:
    from d2vpr_ros.bags.drive import open_drive
    from d2vpr_ros.bags.reader import open_bag
    from d2vpr_ros.cli.truth_options import check_off_map_prior
    from d2vpr_ros.describe.extractor import weights_path
    from d2vpr_ros.errors import UserError
    from d2vpr_ros.evaluation.drives import record_town, split_footage
    from d2vpr_ros.mapping import read_map

    for name in ("radius", "spacing", "top_speed"):
        value = getattr(args, name)
        if value is not None and not 0 < value < 1000:
            raise UserError(f"--{name.replace('_', '-')} is {value:g}; expected a number above 0 and below 1000")
    check_off_map_prior(args.off_map_prior)
    weights_path(args.weights)  # a wrong name is told now, not after the recording
    out = prepare_folder(args.out)
    if args.footage:
        say(1, f"turning {args.footage} into a bag")
        drives = split_footage(args.footage, args.map_split, args.pose_of, out)
    else:
        say(1, "recording two drives through a simulated town")
        drives = record_town(args.seed, out)

    say(2, "building the map")
    map_path = out / "demo.d2map"
    build_demo_map(drives, map_path, args.weights, args.spacing or args.radius / 5)
    place_map = read_map(map_path)

    say(3, "playing the queries to the localizer, in real time")
    with open_bag(drives.query_bag) as bag:
        drive = open_drive(bag, pose_topic=TRUTH)
        top_speed_mps = args.top_speed or (FOOTAGE_MPS if args.footage else TOWN_MPS)
        parameters = [
            f"weights:={args.weights}",
            f"top_speed_mps:={top_speed_mps}",
            f"off_map_prior:={args.off_map_prior}",
            "independent_priors:=false",  # each answer is judged by itself
        ]
        queries, dropped = localize(bag, drive.image_topic, drives, place_map, parameters, args.radius, out)
        say(4, "scoring the answers")
        summary = write_results(bag, drive.image_topic, queries, dropped, place_map, drives.facts, args.radius, out)

    print()
    for name, value in summary.rows():
        print(f"  {name:24} {value:>14}")
    print(f"\n  page     {(out / 'report.html').resolve()}\n  numbers  {(out / 'summary.json').resolve()}")
    return 0


def say(step: int, what: str) -> None:
    print(f"[{step}/4] {what}", flush=True)


def prepare_folder(out: Path) -> Path:
    """An empty folder for the results; what an earlier run left there is replaced, anything else is kept.

    Raises:
        UserError: the path is a file, or cannot be written.
    """
    from d2vpr_ros.errors import UserError

    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in MADE:
            made = out / name
            if made.is_dir():
                shutil.rmtree(made)
            else:
                made.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"--out {out} cannot be used ({error.strerror}); name a folder that you can write to") from None
    return out


def build_demo_map(drives: Drives, path: Path, weights: str, spacing_m: float) -> None:
    """Build the map from the drive's images with these numbers, posed by the SLAM poses, never by the truth."""
    from tqdm import tqdm

    from d2vpr_ros.bags.drive import open_drive
    from d2vpr_ros.bags.reader import open_bag
    from d2vpr_ros.cli.map_landmarks import show_landmarks_stored
    from d2vpr_ros.describe import Extractor
    from d2vpr_ros.mapping import BuildOptions, KeyframeRule
    from d2vpr_ros.mapping.recording import cameras_of, header_of, session_of
    from d2vpr_ros.mapping.session import build_session
    from d2vpr_ros.mapping.store import create_map

    extractor, options = Extractor.open(weights), BuildOptions(KeyframeRule(spacing_m))
    with open_bag(drives.map_bag) as bag:
        drive = open_drive(bag)
        wanted = stamps_of(bag, drive.image_topic, drives.map_numbers)

        def frames(keep: Keep) -> Iterator[PosedFrame]:
            return drive.frames(lambda camera, pose, stamp: stamp in wanted and keep(camera, pose, stamp))

        with (
            tqdm(total=len(wanted), unit="image", leave=False, disable=None) as bar,
            create_map(path, header_of(drive, extractor, options)) as writer,
        ):
            session = writer.begin_session(session_of(drive, options))
            counts = build_session(writer, session, frames, extractor, cameras_of(drive), options, bar.update)
    show_landmarks_stored(path, "auto")
    print(f"      {counts}; {path} ({path.stat().st_size / 1e6:.1f} MB)")


def stamps_of(bag: Bag, topic: str, numbers: range | None) -> set[int]:
    """Header stamps of the images with these numbers."""
    from d2vpr_ros.fields import stamp_ns

    stamps = [stamp_ns(message.header) for _, _, message in bag.messages([topic])]
    return set(stamps if numbers is None else [stamps[number] for number in numbers])


def localize(
    bag: Bag, image_topic: str, drives: Drives, place_map: PlaceMap, parameters: list[str], radius_m: float, out: Path
) -> tuple[list[ScoredQuery], int]:
    """Play the queries to a localizer of its own process and score what it says.

    Returns:
        The scored queries and the number of images it never answered.
    """
    import numpy as np
    from tqdm import tqdm

    from d2vpr_ros.bags.pose_topics import trajectory_from_bag
    from d2vpr_ros.evaluation.live import Answer, score
    from d2vpr_ros.nodes.live_run import isolate_ros, run_live
    from d2vpr_ros.share import share_folder

    isolate_ros(share_folder() / "config" / "fastdds.xml", out / "log")
    numbers = drives.query_numbers
    count = bag.topics[image_topic].count if numbers is None else len(numbers)
    with tqdm(total=count, unit="image", leave=False, disable=None) as bar:
        run = run_live(
            bag,
            image_topic,
            [topic for topic in PLAYED if topic in bag.topics],
            place_map.path,
            parameters=parameters,
            keep=lambda topic, number: topic != image_topic or numbers is None or number in numbers,
            on_progress=lambda answered: bar.update(answered - bar.n),
        )
    answers = {
        stamp: Answer(prior.pose, prior.covariance, run.latencies_s[stamp]) for stamp, prior in run.priors.items()
    }
    places = np.array([place_map.base_pose(row).position for row in range(len(place_map))])
    queries = score(run.matches, answers, trajectory_from_bag(bag, TRUTH), places, radius_m)
    return queries, len(set(run.sent_ns) - set(run.matches))


def write_results(
    bag: Bag,
    image_topic: str,
    queries: Sequence[ScoredQuery],
    dropped: int,
    place_map: PlaceMap,
    facts: tuple[tuple[str, str], ...],
    radius_m: float,
    out: Path,
) -> Summary:
    """Write summary.json and report.html."""
    import numpy as np

    from d2vpr_ros.evaluation.live import summarise
    from d2vpr_ros.evaluation.plot import trajectory_svg, widest_axes
    from d2vpr_ros.evaluation.report import Drawing, Table, spread, write_report
    from d2vpr_ros.fields import stamp_ns
    from d2vpr_ros.images.decode import decode_image
    from d2vpr_ros.mapping.picture import encode_picture

    summary = summarise(queries, radius_m, dropped)
    (out / "summary.json").write_text(json.dumps(summary.as_json(), indent=2) + "\n", encoding="utf-8")
    rows = {int(number): row for row, number in enumerate(place_map.ids)}
    pictures = {
        stamp_ns(message.header): encode_picture(decode_image(message)) for _, _, message in bag.messages([image_topic])
    }
    places = np.array([place_map.base_pose(row).position for row in range(len(place_map))])
    model = place_map.header.model
    write_report(
        out / "report.html",
        "Where the robot was, and where it said it was",
        f"{summary.answered} answers to {summary.queries} images, {summary.correct} of them within {radius_m:g} m of "
        "the truth.",
        Table((), [(name, [value]) for name, value in summary.rows()]),
        [Drawing("track", trajectory_svg(places, queries, widest_axes(places)))],
        [spread(queries, verdict, count) for verdict, count in SHOWN_PAIRS.items()],
        [*facts, ("places", str(len(place_map))), ("weights", f"{model.architecture} {model.weights_sha256[:12]}"),
         ("made", time.strftime("%Y-%m-%d %H:%M"))],
        "m",
        query_jpeg=lambda query: pictures.get(query.stamp_ns),
        place_jpeg=lambda place_id: place_map.picture(rows[place_id]),
    )  # fmt: skip
    return summary
