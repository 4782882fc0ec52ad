"""A map of a recorded drive, as the command makes it."""

from __future__ import annotations

from pathlib import Path

from d2vpr_ros.cli.main import main as d2vpr


def build_map(bag: Path, out: Path, *options: str) -> None:
    """By `d2vpr map build`, on the processor and without stored landmarks: tests look at few of its places."""
    assert d2vpr(["map", "build", str(bag), "-o", str(out), "--device", "cpu", "--no-landmarks", *options]) == 0
