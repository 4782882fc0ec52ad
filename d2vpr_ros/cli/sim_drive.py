"""Record a drive through a simulated town as a bag.

The bag (rosbag2, mcap) has the topics of a robot: /camera/image or /camera/image/compressed, /camera/camera_info,
/odom (it drifts), /gps/fix, /tf, /tf_static, /slam/pose (the truth with 0.1 m of noise), and /ground_truth/pose.
Town seeds: 0 to 99 for demo and evaluation, 500 to 599 for calibration, 1000 and up for training.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="BAG", help="bag to write; must not exist")
    parser.add_argument("--seed", type=int, default=7, metavar="N", help="seed of the town (default: 7)")
    parser.add_argument(
        "--condition", default="noon", metavar="NAME", help="light, weather or season (default: noon; ? lists them)"
    )
    parser.add_argument(
        "--lateral-offset", type=float, default=0.0, metavar="M", help="metres to the left of the middle of the street"
    )
    parser.add_argument("--speed", type=float, default=5.0, metavar="M/S", help="metres per second (default: 5)")
    parser.add_argument("--rate", type=float, default=5.0, metavar="HZ", help="images per second (default: 5)")
    parser.add_argument("--laps", type=float, default=1.0, metavar="N", help="number of laps (default: 1)")
    parser.add_argument("--duration", type=float, metavar="S", help="seconds, instead of --laps")
    parser.add_argument("--route", type=int, default=0, metavar="N", help="number of the loop in the town (default: 0)")
    parser.add_argument("--reverse", action="store_true", help="drive in the other direction")
    parser.add_argument("--compressed", action="store_true", help="JPEG on /camera/image/compressed")
    parser.add_argument("--width", type=int, default=320, metavar="PX", help="width of the images (default: 320)")
    parser.add_argument("--height", type=int, default=240, metavar="PX", help="height of the images (default: 240)")
    parser.add_argument("--sensor-seed", type=int, metavar="N", help="seed of the sensor noise (default: by condition)")


def main(args: argparse.Namespace) -> int:
    from d2vpr_ros.sim.drive import record_drive  # loads scipy, OpenCV, pyproj: not needed for --help

    summary = record_drive(
        args.output,
        args.seed,
        args.condition,
        lateral_offset_m=args.lateral_offset,
        speed_mps=args.speed,
        rate_hz=args.rate,
        laps=args.laps,
        duration_s=args.duration,
        route=args.route,
        reverse=args.reverse,
        compressed=args.compressed,
        width=args.width,
        height=args.height,
        sensor_seed=args.sensor_seed,
        show_progress=True,
    )
    print(f"{summary.path}: {summary.images} images, {summary.duration_s:.0f} s, {summary.length_m:.0f} m")
    return 0
