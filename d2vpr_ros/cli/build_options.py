"""The options of every verb that makes places out of a drive, and the bar that shows how far it is."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from d2vpr_ros.bags.stream import Drive
    from d2vpr_ros.images.deep import Range
    from d2vpr_ros.mapping import BuildOptions


def add_build_arguments(parser: argparse.ArgumentParser, closes_loops: bool = False) -> None:
    """Add them.

    Args:
        closes_loops: the verb does so in any case: what asks for it, and what makes it impossible, is no option.
    """
    places = parser.add_argument_group("places")
    places.add_argument(
        "--spacing", type=float, default=1.0, metavar="M", help="distance between places in metres (default: 1)"
    )
    places.add_argument(
        "--turn", type=float, default=20.0, metavar="DEG", help="a turn of DEG degrees also makes a place (default: 20)"
    )
    places.add_argument(
        "--max-interval", type=float, metavar="S", help="S seconds also make a place (default: never; without poses 1)"
    )
    places.add_argument(
        "--keep-all", action="store_true", help="also keep black, overexposed, blurred and repeated images"
    )
    places.add_argument(
        "--image-range", type=int, nargs=2, metavar=("LOW", "HIGH"),
        help="for 16-bit images: the values of black and white, for the map and its robots (default: 0 65535)",
    )  # fmt: skip
    if closes_loops:
        parser.set_defaults(no_pictures=False, close_loops=False, landmarks=False)
    else:
        places.add_argument(
            "--no-pictures",
            action="store_true",
            help="store no pictures: a smaller map, without landmarks and metric poses",
        )
        places.add_argument(
            "--close-loops", action="store_true", help="correct the drift of the poses at the end, as d2vpr map close"
        )
        places.add_argument(
            "--landmarks", action=argparse.BooleanOptionalAction,
            help="at the end, store the landmarks of the places, as d2vpr map landmarks: a localizer then needs half "
            "the time for an image at a new place (default: where the map has pictures and poses)",
        )  # fmt: skip
    places.add_argument("--weights", default="nano", help="bundled name or weights file (default: nano)")
    places.add_argument(
        "--projection",
        default="default",
        help="default (the one beside the weights), none, or a file from fit_pca.py; the localizer needs the same",
    )
    places.add_argument("--device", default="auto", help="auto, cpu or cuda")
    places.add_argument(
        "--report-stored", action="store_true", help="for programs: print the id of each place once it is on the disk"
    )


def read_build_options(args: argparse.Namespace, with_poses: bool = True) -> BuildOptions:
    """What the options ask for.

    Raises:
        UserError: a number is not above 0; landmarks or loops of what has no pictures or poses.
    """
    from d2vpr_ros.errors import UserError
    from d2vpr_ros.mapping import BuildOptions, KeyframeRule

    for option, asked in (("landmarks", args.landmarks), ("close-loops", args.close_loops)):
        if asked and (args.no_pictures or not with_poses):
            without = "--no-pictures" if args.no_pictures else "a map without poses"
            raise UserError(f"--{option} and {without}: it needs pictures and poses; leave one of the two out")

    if args.landmarks is None:
        args.landmarks = with_poses and not args.no_pictures
    interval_s = args.max_interval if with_poses or args.max_interval is not None else 1.0
    for option, value in (("spacing", args.spacing), ("turn", args.turn), ("max-interval", interval_s)):
        if value is not None and not 0 < value < float("inf"):
            raise UserError(f"--{option} {value:g}: expected a number above 0")
    return BuildOptions(KeyframeRule(args.spacing, args.turn, interval_s), not args.no_pictures, args.keep_all)


def read_image_range(args: argparse.Namespace) -> Range | None:
    """What --image-range asks for; None without.

    Raises:
        UserError: it is no range.
    """
    from d2vpr_ros.images.deep import check_range

    return None if args.image_range is None else check_range(tuple(args.image_range), "--image-range")


@contextmanager
def shown_progress(
    drive: Drive, out: Path, report_stored: bool
) -> Iterator[tuple[Callable[[], None], Callable[[int], None]]]:
    """What to call for each image and for each place stored, while a bar shows how fast it goes and how long yet."""
    from tqdm import tqdm

    def report(place: int) -> None:
        if report_stored:
            print(f"stored {place}", flush=True)

    with tqdm(total=drive.total, unit="image", smoothing=0.1, disable=None) as bar:

        def progress() -> None:
            bar.update(drive.images - bar.n)

        try:
            yield progress, report
        except KeyboardInterrupt:
            bar.close()
            print(f"stopped; {out} keeps what is stored; run the same command again to continue", file=sys.stderr)
            raise
        progress()
