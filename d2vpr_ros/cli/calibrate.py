"""Fit the probability of answers to a map, on drives with known truth.

There are three calibrations: with odometry (if the bags have it), without odometry (--no-odometry), and for single
images (--single). Each has a second one for images that are compared with the pictures of the map. One run fits one
of the three and stores it in the map. Every localizer then uses it. Right and wrong answers are needed: add drives of
other places with --off-map-bag. The printed numbers are from images that were not used for the fit. A fit that is not
better than the old one is not stored.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from d2vpr_ros.cli.truth_options import (
    add_truth_arguments,
    answers_to,
    asked_bags,
    check_truth_arguments,
    open_asked,
    open_map,
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
    from d2vpr_ros.localize import Localizer, LocalizerOptions
    from d2vpr_ros.localize.calibration import way
    from d2vpr_ros.localize.options import Verify
    from d2vpr_ros.mapping.store import open_writable

    check_truth_arguments(args)
    place_map, extractor = open_map(args)
    localizer = Localizer(place_map, extractor, LocalizerOptions(not args.single, args.top_speed, Verify.ALWAYS))
    answers = {name: answer_bag(localizer, path, name, off_map, args) for path, name, off_map in asked_bags(args)}
    odometry = have_odometry(answers)
    refits = []
    for compared in (False, True):
        images = labelled(answers.values(), place_map, compared=compared)
        if len(images.right):  # of a map without pictures none are compared
            name = way(sequence=not args.single, odometry=odometry, compared=compared)
            refits.append(refit(name, getattr(localizer.judge.calibrations, name), images))
    for one in refits:
        print("\n".join(["", *table_lines(table_of([one])), "", *reliability_lines(one.after.bins)]))
    print()
    if args.page:
        write_page(args.page, f"How sure the localizer of {place_map.path.name} is", refits)
        print(args.page)
    better = [one for one in refits if one.after.log_loss < one.before.log_loss]
    if not better:
        raise UserError(
            f"map {args.map} is unchanged: on images that were not used for the fit, the new calibration is not better "
            "than the old one; add more drives"
        )
    with open_writable(args.map) as writer:
        for one in better:
            writer.set_calibration(one.name, asdict(one.calibration))
    print(f"{args.map}: new calibration for {' and '.join(one.title for one in better)}")
    return 0


def answer_bag(localizer: Localizer, path: Path, name: str, off_map: bool, args: argparse.Namespace) -> list[Answered]:
    """What the localizer says to the images of a recording that come as most of them: with its odometry, if it has any.

    Raises:
        UserError: it cannot be read or judged, or none of its images can.
    """
    from d2vpr_ros.evaluation.offline import describe_drive

    with open_asked(localizer, path, name, off_map, args) as asked:
        images = describe_drive(asked.drive, asked.odometry, localizer.extractor, unseeing=asked.unseeing)
        every = answers_to(localizer, asked, images)
    return [answered for answered in every if answered.by_odometry == (asked.odometry is not None)]


def have_odometry(answers: dict[str, list[Answered]]) -> bool:
    """Whether the drives have odometry.

    Raises:
        UserError: some have, some have not.
    """
    from d2vpr_ros.errors import UserError

    without = [name for name, drive in answers.items() if not any(answered.by_odometry for answered in drive)]
    if 0 < len(without) < len(answers):
        raise UserError(f"{without[0]} has no odometry, other bags have; give --no-odometry, or leave {without[0]} out")
    return not without


def table_of(refits: Sequence[Refit]) -> Table:
    """The numbers of each, before and after."""
    from dataclasses import asdict

    from d2vpr_ros.evaluation.report import Table
    from d2vpr_ros.evaluation.table import rows

    qualities = [quality for one in refits for quality in (one.before, one.after)]
    columns = [rows({**asdict(quality), "unit": ""}) for quality in qualities]
    names = [f"{one.title}, {when}" for one in refits for when in ("before", "after")]
    return Table(names, [(cells[0][0], [value for _, value in cells]) for cells in zip(*columns, strict=True)])


def write_page(path: Path, title: str, refits: Sequence[Refit]) -> None:
    """The page with the reliability plots.

    Raises:
        UserError: it cannot be written.
    """
    from d2vpr_ros.evaluation.charts import reliability_svg
    from d2vpr_ros.evaluation.report import Drawing, write_report
    from d2vpr_ros.outfile import new_file

    drawings = [
        Drawing("reliability", reliability_svg(quality.bins), f"{one.title}, {when}")
        for one in refits
        for when, quality in (("before", one.before), ("after", one.after))
    ]
    with new_file(path, force=True) as partial:
        write_report(
            partial,
            title,
            "Measured on images that were not used for the fit.",
            table_of(refits),
            drawings,
            groups=[],
            facts=[],
            unit="m",
            query_jpeg=lambda query: None,
            place_jpeg=lambda place_id: None,
        )
