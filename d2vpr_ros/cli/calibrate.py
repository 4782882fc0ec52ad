"""Fit the probability of answers to a map, on drives with known truth.

The fit is stored in the map, and every localizer then uses it: with odometry and without, for one image and for many.
The drives are answered as a robot would answer them; give the options that yours has. Right and wrong answers are
needed: add drives of other places with --off-map-bag. The printed numbers are from images that were not used for the
fit. A fit that is not better than the old one is not stored.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from d2vpr_ros.cli.truth_options import (
    add_truth_arguments,
    answers_to,
    asked_bags,
    check_truth_arguments,
    open_asked,
    open_localizer,
)

if TYPE_CHECKING:
    from d2vpr_ros.evaluation.calibrating import Refit
    from d2vpr_ros.evaluation.offline import Answered
    from d2vpr_ros.evaluation.report import Table
    from d2vpr_ros.localize import Localizer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_truth_arguments(parser)
    parser.add_argument("--page", type=Path, metavar="FILE", help="write an HTML page with reliability plots")


def main(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from d2vpr_ros.errors import UserError
    from d2vpr_ros.evaluation.calibrating import labelled, refit
    from d2vpr_ros.evaluation.results import reliability_lines, table_lines
    from d2vpr_ros.localize import LocalizerOptions
    from d2vpr_ros.localize.decision import CALIBRATION
    from d2vpr_ros.mapping.store import open_writable

    check_truth_arguments(args)
    if args.off_map_bag and args.off_map_prior == 0:
        raise UserError(
            "--off-map-prior 0 --off-map-bag: 0 is for a robot that never leaves the map; leave one of them out"
        )
    options = LocalizerOptions(not args.single, args.top_speed, off_map_prior=args.off_map_prior)
    localizer = open_localizer(args, options)
    drives = [answer_bag(localizer, path, name, off_map, args) for path, name, off_map in asked_bags(args)]
    found = refit(localizer.calibration, labelled(drives))
    print("\n".join(["", *table_lines(table_of(found)), "", *reliability_lines(found.after.bins), ""]))
    if args.page:
        write_page(args.page, f"How sure the localizer of {args.map.name} is", found)
        print(args.page)
    if found.after.log_loss >= found.before.log_loss:
        raise UserError(
            f"map {args.map} is unchanged: on images that were not used for the fit, the new calibration is not better "
            "than the old one; add more drives"
        )
    with open_writable(args.map) as writer:
        writer.set_calibration(CALIBRATION, asdict(found.calibration))
    print(f"{args.map}: new calibration")
    return 0


def answer_bag(localizer: Localizer, path: Path, name: str, off_map: bool, args: argparse.Namespace) -> list[Answered]:
    """What the localizer says to the images of a recording.

    Raises:
        UserError: it cannot be read or judged, or none of its images can.
    """
    from d2vpr_ros.evaluation.offline import describe_drive

    with open_asked(localizer, path, name, off_map, args) as asked:
        images = describe_drive(asked.drive, asked.odometry, localizer.extractor, unseeing=asked.unseeing)
        return answers_to(localizer, asked, images)


def table_of(found: Refit) -> Table:
    """The numbers before and after."""
    from dataclasses import asdict

    from d2vpr_ros.evaluation.report import Table
    from d2vpr_ros.evaluation.table import rows

    before, after = (rows({**asdict(quality), "unit": ""}) for quality in (found.before, found.after))
    cells = [(name, [old, new]) for (name, old), (_, new) in zip(before, after, strict=True)]
    return Table(["before", "after"], cells)


def write_page(path: Path, title: str, found: Refit) -> None:
    """The page with the reliability plots.

    Raises:
        UserError: it cannot be written.
    """
    from d2vpr_ros.evaluation.charts import reliability_svg
    from d2vpr_ros.evaluation.report import Drawing, write_report
    from d2vpr_ros.outfile import new_file

    drawings = [
        Drawing("reliability", reliability_svg(quality.bins), when)
        for when, quality in (("before", found.before), ("after", found.after))
    ]
    with new_file(path, force=True) as partial:
        write_report(
            partial,
            title,
            "Measured on images that were not used for the fit.",
            table_of(found),
            drawings,
            groups=[],
            facts=[],
            unit="m",
            query_jpeg=lambda query: None,
            place_jpeg=lambda place_id: None,
        )
