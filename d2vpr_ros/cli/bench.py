"""Measure this machine: images per second by backend, precision and batch; latency by stage; memory; start-up time.

All variants take turns in one run, and medians are shown. Other load on the machine affects all of them equally. The
images are synthetic: the network needs the same time for every image.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", default="nano", help="bundled name, weights file or exported file (default: nano)")
    parser.add_argument(
        "--projection", default="default", help="default (the one beside the weights), none, or a file from fit_pca.py"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or tensorrt")
    parser.add_argument(
        "--batch", type=int, nargs="+", default=[1, 8], metavar="N", help="images per batch (default: 1 8)"
    )
    parser.add_argument("--rounds", type=int, default=21, metavar="N", help="runs of each variant (default: 21)")
    parser.add_argument(
        "--onnx",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="also measure this network; may be repeated",
    )
    parser.add_argument("--no-start-up", action="store_true", help="do not measure start-up")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers; an existing file is replaced")


def main(args: argparse.Namespace) -> int:
    import json
    import tempfile
    from contextlib import ExitStack
    from dataclasses import asdict

    from d2vpr_ros.bench.report import lines, machine
    from d2vpr_ros.bench.speed import has, measure_speeds
    from d2vpr_ros.bench.stages import draw_map, measure_stages
    from d2vpr_ros.bench.startup import measure_start_up
    from d2vpr_ros.describe import Extractor
    from d2vpr_ros.errors import UserError
    from d2vpr_ros.outfile import new_file

    if args.rounds < 1 or min(args.batch) < 1:
        raise UserError("--rounds and --batch: expected numbers above 0")
    with ExitStack() as until_done:
        json_file = until_done.enter_context(new_file(args.json, force=True)) if args.json else None
        folder = Path(until_done.enter_context(tempfile.TemporaryDirectory()))
        speeds = measure_speeds(args.weights, args.projection, args.device, args.batch, args.onnx, args.rounds)
        extractor = Extractor.open(args.weights, device=args.device, projection=args.projection)
        stages = measure_stages(extractor, folder, max(args.rounds, 20))
        starts = []
        if not args.no_start_up:
            site = draw_map(folder / "node.d2map", extractor) if has("rclpy") else None
            backends = dict.fromkeys(speed.backend for speed in speeds if not speed.note)
            starts = [
                measure_start_up(args.weights, backend, args.device, args.projection, site) for backend in backends
            ]
        print("\n".join(lines(machine(extractor), speeds, stages, starts)))
        if json_file:
            found = {
                "machine": machine(extractor),
                "speeds": [asdict(speed) for speed in speeds],
                "stages": [asdict(stage) for stage in stages],
                "start_up": [asdict(start) for start in starts],
            }
            json_file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0
