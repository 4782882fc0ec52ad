"""Close the loops of a map: find places that were passed twice, and correct the poses.

For maps built from odometry or from a SLAM system without loop closure. Places are compared by descriptor and by the
points of their pictures. The map changes in one step: if the command is stopped, the map is as it was. It keeps the
poses as measured, so the command may be run again, for example after `d2vpr map append`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("map", type=Path, help=".d2map file to correct")
    parser.add_argument(
        "--hold",
        action="append",
        default=[],
        metavar="SESSION",
        help="keep the poses of this session, by name or number; repeatable (default: all sessions may move)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")


def main(args: argparse.Namespace) -> int:
    from d2vpr_ros.mapping import read_map
    from d2vpr_ros.mapping.export import sessions_named

    held = sessions_named(read_map(args.map), "hold", args.hold)
    show_closed(args.map, args.device, held)
    return 0


def show_closed(path: Path, device: str, held: Collection[int] = (), named: Path | None = None) -> None:
    """Close the loops of a map while a bar shows how fast it goes and how long yet, and print what came of it.

    Args:
        held: ids of the sessions that stay.
        named: the map as the user knows it, where that is another file.

    Raises:
        UserError: as `close_map`; no such device.
    """
    import numpy as np
    from tqdm import tqdm

    from d2vpr_ros.describe.features import FeatureExtractor
    from d2vpr_ros.loops.closing import close_map
    from d2vpr_ros.mapping import read_map

    total = int((~np.isin(read_map(path).sessions, list(held))).sum())
    features = FeatureExtractor.open(device=device)
    with tqdm(total=total, unit="place", smoothing=0.1, disable=None) as bar:
        try:
            closing = close_map(path, features, held, on_place=bar.update)
        except KeyboardInterrupt:
            bar.close()
            print(f"stopped; {named or path} is as it was; loops are closed by: d2vpr map close", file=sys.stderr)
            raise
    print(f"{named or path}: {closing}", flush=True)
