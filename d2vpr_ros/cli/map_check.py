"""Check a map: every row, the pages of the file, and the GeoPackage tables.

Every line is one problem. The exit status is 1 if there are problems, 2 if the file cannot be checked. Nothing is
written, with one exception: what a killed builder left in its log is added to the map.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("map", type=Path, help=".d2map file")


def main(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from d2vpr_ros.mapping.check import Problem, check_map, recover_log

    if os.access(args.map.parent, os.W_OK) and recover_log(args.map):
        print(f"{args.map}: recovered what a killed writer left in the log")
    problems = 0
    with tqdm(unit="place", disable=None, leave=False) as bar:

        def report(problem: Problem) -> None:
            nonlocal problems
            problems += 1
            bar.write(str(problem))

        checked = check_map(args.map, report, bar.update)
    found = f"{problems} problem{'' if problems == 1 else 's'}" if problems else "no problems"
    print(f"{args.map}: {checked.places} places, {checked.pictures} pictures: {found}")
    return 1 if problems else 0
