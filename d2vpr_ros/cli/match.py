"""Find where in a map one picture was taken, and why: candidates, inliers, pose and covariance.

The picture is described and searched as by the localizer. Its points are then matched with the landmarks of the most
similar places. A pose needs the intrinsics of both cameras. --camera-info gives those of the picture. Without it the
intrinsics of the map's camera are used if its pictures have the same shape.
Every line is one group of neighbouring candidates. -o writes a page: both pictures with inlier lines, and the plan.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from d2vpr_ros.cli.drive_options import SEVEN

if TYPE_CHECKING:
    from d2vpr_ros.multiview import Lens

_MOST_CANDIDATES = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("map", type=Path, help=".d2map file")
    parser.add_argument("image", type=Path, help="JPEG or PNG file")
    parser.add_argument(
        "--camera-info", type=Path, metavar="FILE",
        help="intrinsics of the picture's camera: a .yaml file of ROS's camera_calibration, or a text file with the "
        "3 x 3 camera matrix, in pixels (default: those of the map's camera)",
    )  # fmt: skip
    parser.add_argument(
        "--mount", type=float, nargs=7, metavar=SEVEN, help="pose of the camera on the base (default: as in the map)"
    )
    parser.add_argument("--candidates", type=int, metavar="N", help="number of places to compare (default: 8)")
    results = parser.add_argument_group("results")
    results.add_argument("-o", "--out", type=Path, metavar="FILE", help="page to write, for example match.html")
    results.add_argument("--force", action="store_true", help="replace the page if it exists")
    results.add_argument("--json", type=Path, metavar="FILE", help="write all numbers; an existing file is replaced")
    model = parser.add_argument_group("model")
    model.add_argument("--weights", default="nano", help="bundled name or weights file (default: nano)")
    model.add_argument("--projection", default="default", help="default, none, or a file; must match the map")
    model.add_argument(
        "--features", default="xfeat", help="local features: xfeat, or a file of `d2vpr export xfeat` (default: xfeat)"
    )
    model.add_argument("--device", default="auto", help="auto, cpu or cuda")


def main(args: argparse.Namespace) -> int:
    from contextlib import ExitStack

    from d2vpr_ros.cli.drive_options import read_mount
    from d2vpr_ros.describe import Extractor
    from d2vpr_ros.describe.features import FeatureExtractor
    from d2vpr_ros.errors import UserError
    from d2vpr_ros.evaluation.match_page import write_match_page
    from d2vpr_ros.evaluation.match_report import lines, write_json
    from d2vpr_ros.evaluation.one_image import CANDIDATES, match_image
    from d2vpr_ros.images.file import read_picture
    from d2vpr_ros.mapping import read_map
    from d2vpr_ros.multiview import PlaceGeometry
    from d2vpr_ros.outfile import new_file

    candidates = CANDIDATES if args.candidates is None else args.candidates
    if not 1 <= candidates <= _MOST_CANDIDATES:
        raise UserError(f"--candidates {candidates}: expected 1 to {_MOST_CANDIDATES}")
    mount = None if args.mount is None else read_mount("--mount", args.mount)
    if args.out and args.json and args.out.absolute() == args.json.absolute():
        raise UserError(f"-o and --json both name {args.out}; give them names of their own")
    place_map = read_map(args.map)
    rgb = read_picture(args.image, place_map.header.image_range)  # as the map's were
    lens = None if args.camera_info is None else read_lens(args.camera_info, *rgb.shape[1::-1])
    with ExitStack() as written:
        page, numbers = (
            path and written.enter_context(new_file(path, force, _read_from(args, path)))
            for path, force in ((args.out, args.force), (args.json, True))
        )
        geometry = PlaceGeometry(place_map, FeatureExtractor.open(args.features, device=args.device))
        extractor = Extractor.open(args.weights, device=args.device, projection=args.projection)
        matched = match_image(rgb, geometry, extractor, lens, f"from {args.camera_info}", mount, candidates)
        print("\n".join(lines(matched, place_map)))
        if page:
            write_match_page(page, matched, geometry, args.image, mount)
        if numbers:
            write_json(numbers, matched, place_map, args.image)
    for path in filter(None, (args.out, args.json)):
        print(path)
    return 0


def read_lens(path: Path, width: int, height: int) -> Lens:
    """The lens that a file describes, for pictures of this size where the file does not say.

    Raises:
        UserError: as `read_camera_file`, or no lens has such intrinsics.
    """
    from d2vpr_ros.bags.camera_file import read_camera_file
    from d2vpr_ros.errors import UserError
    from d2vpr_ros.multiview import camera_lens

    found = read_camera_file(path, width, height)
    lens = camera_lens(found)
    if lens is None:
        fx, _, cx, _, fy, cy = found.k[:6]
        raise UserError(
            f"{path}: no camera has focal lengths {fx:g} and {fy:g} and the centre {cx:g}, {cy:g} in pictures of "
            f"{found.width} x {found.height}; expected fx 0 cx, 0 fy cy, 0 0 1, in pixels of that size"
        )
    return lens


def _read_from(args: argparse.Namespace, written: Path) -> Path | None:
    """The file among those read that a file to write is."""
    read = (path for path in (args.map, args.image, args.camera_info) if path is not None)
    return next((path for path in read if written.exists() and path.samefile(written)), None)
