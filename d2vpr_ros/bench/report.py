"""What `d2vpr bench` prints."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from math import isnan
from pathlib import Path

from d2vpr_ros.bench.speed import Speed
from d2vpr_ros.bench.stages import Stage
from d2vpr_ros.bench.startup import StartUp
from d2vpr_ros.describe import Extractor


def machine(extractor: Extractor) -> str:
    """The machine in words."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(errors="replace") if info.is_file() else ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0))
    threads = extractor.network.threads
    return (
        f"{names[0] if names else platform.machine()}, {cores} cores, {threads} threads, {extractor.network.library}, "
        f"Python {platform.python_version()}"
    )


def lines(machine: str, speeds: Sequence[Speed], stages: Sequence[Stage], starts: Sequence[StartUp]) -> Iterator[str]:
    """Markdown."""
    yield machine
    yield ""
    yield "| network | backend | device | preset | batch | ms | images/s |"
    yield "|---|---|---|---|---:|---:|---:|"
    for s in speeds:
        if s.note:
            yield f"| {s.name} | {s.backend} | {s.device} | {s.preset} | | not run: {s.note} | |"
        else:
            yield (
                f"| {s.name} | {s.backend} | {s.device} | {s.preset or '-'} | {s.batch} | {s.ms:.1f} "
                f"| {s.images_per_s:.1f} |"
            )
    yield ""
    yield "| stage | p50 ms | p95 ms |"
    yield "|---|---:|---:|"
    for stage in stages:
        yield f"| {stage.name} | {stage.ms:.2f} | {stage.p95_ms:.2f} |"
    if starts:
        yield ""
        yield "| start-up | Python s | import s | open s | first image s | peak MB | node ready s | node MB |"
        yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for start in starts:
        node = "- | -" if isnan(start.node_s) else f"{start.node_s:.2f} | {start.node_mb:.0f}"
        yield (
            f"| {start.backend} | {start.python_s:.2f} | {start.import_s:.2f} | {start.open_s:.2f} "
            f"| {start.first_s:.2f} | {start.peak_mb:.0f} | {node} |"
        )
