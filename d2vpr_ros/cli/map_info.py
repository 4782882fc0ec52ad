"""Show what a map holds: places, extent, model, frames."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("map", type=Path, help="a .d2map file")


def main(args: argparse.Namespace) -> int:
    from d2vpr_ros.mapping import read_map

    place_map = read_map(args.map)
    header = place_map.header
    extent = place_map.positions.max(axis=0) - place_map.positions.min(axis=0)
    rows = {
        "places": len(place_map),
        "spacing": f"{place_map.spacing_m:.2f} m (median)",
        "extent": " x ".join(f"{metres:.1f}" for metres in extent) + " m",
        "frame": header.frame,
        "origin": f"{header.origin.latitude:.7f}, {header.origin.longitude:.7f}" if header.origin else "not geo-tagged",
        "cameras": ", ".join(f"{c.name} {c.width}x{c.height}" for c in place_map.camera_table.values()),
        "descriptor": f"{header.descriptor_width} numbers",
        "model": f"{header.model.architecture} {header.model.weights_sha256[:12]}",
        "projection": header.model.projection or "none",
        "file": f"{args.map.stat().st_size / 1e6:.1f} MB",
    }
    for name, value in rows.items():
        print(f"{name:11} {value}")
    return 0
