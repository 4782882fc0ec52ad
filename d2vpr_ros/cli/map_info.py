"""Show the content of a map: places, sessions, extent, pictures, model, frames."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("map", type=Path, help=".d2map file")


def main(args: argparse.Namespace) -> int:
    from d2vpr_ros.mapping import read_map
    from d2vpr_ros.mapping.summary import facts, summarise_sessions

    place_map = read_map(args.map)
    for name, value in facts(place_map).items():
        print(f"{name:11} {_printable(value)}")
    print("sessions")
    for summary in summarise_sessions(place_map):
        parts = [f"{summary.places} places", summary.when, ", ".join(summary.cameras)]
        if not summary.session.complete:
            parts.append("build not finished")
        print(f"  {summary.key:<3} {_printable(summary.session.name)}: {_printable('; '.join(filter(None, parts)))}")
    return 0


def _printable(text: str) -> str:
    """A stranger's text without what could steer a terminal."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
