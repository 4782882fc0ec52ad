"""Write a map's places for other programs: GeoJSON, CSV, TUM, g2o or GeoPackage.

  geojson  RFC 7946: one WGS-84 point per place, with session, camera, stamp, heading, altitude and pose
  csv      table of poses, which `d2vpr map build --poses` and `d2vpr bag from-images` read, with session and camera
  tum      `stamp x y z qx qy qz qw` of one session and camera, for evo and others
  g2o      pose graph: poses of the base, steps of the odometry, closures of d2vpr map close
  gpkg     copy of the map, which is a GeoPackage, with the ending that QGIS expects

Poses are in the map frame. In a CSV they are of the robot's base, in other formats of the camera (z forward, x right).
--pose-of changes that. Unknown values are empty or null.
"""

from __future__ import annotations

import argparse
from pathlib import Path

FORMATS = ("geojson", "csv", "tum", "g2o", "gpkg")
ENDINGS = {f".{form}": form for form in FORMATS} | {".json": "geojson", ".txt": "tum"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("map", type=Path, help=".d2map file")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="file to write")
    parser.add_argument("--format", choices=FORMATS, help="default: by the ending of FILE")
    parser.add_argument(
        "--session",
        action="append",
        default=[],
        metavar="NAME",
        help="only this session, by name or number; repeatable",
    )
    parser.add_argument("--camera", action="append", default=[], metavar="NAME", help="only this camera; repeatable")
    parser.add_argument("--pose-of", choices=["base", "camera_optical"], help="default: base for csv, else the camera")
    parser.add_argument(
        "--pictures", type=Path, metavar="FOLDER", help="also write the pictures of the places to this folder"
    )
    parser.add_argument("--force", action="store_true", help="replace the file if it exists")


def main(args: argparse.Namespace) -> int:
    from d2vpr_ros.errors import UserError
    from d2vpr_ros.loops.g2o import write_g2o
    from d2vpr_ros.mapping import export, read_map
    from d2vpr_ros.outfile import new_file

    form = args.format or ENDINGS.get(args.out.suffix.lower())
    if form is None:
        raise UserError(f"{args.out}: unknown ending; give --format geojson, csv, tum, g2o or gpkg")
    if form in ("gpkg", "g2o") and (args.session or args.camera or args.pose_of):
        what = "a GeoPackage is a copy" if form == "gpkg" else "a g2o file is the pose graph"
        raise UserError(f"{what} of the whole map: leave out --session, --camera and --pose-of")
    place_map = read_map(args.map)
    rows = export.choose_rows(place_map, args.session, args.camera)
    pose_of = args.pose_of or ("base" if form == "csv" else "camera_optical")
    with new_file(args.out, args.force, args.map) as partial:
        if form == "gpkg":
            export.copy_geopackage(place_map, partial)
        elif form == "g2o":
            steps, closures = write_g2o(place_map, partial)
        else:
            write = {"geojson": export.write_geojson, "csv": export.write_csv, "tum": export.write_tum}[form]
            write(place_map, rows, partial, pose_of == "base")
    what = f", poses of the {pose_of} in {place_map.header.frame!r}"
    if form == "g2o":
        what = f", {steps} steps of the odometry, {closures} closures"
    print(f"{args.out}: {len(rows)} places{'' if form == 'gpkg' else what}")
    if args.pictures:
        print(f"{args.pictures}: {export.write_pictures(place_map, rows, args.pictures)} pictures")
    return 0
