"""Write an HTML page of what weights look at in pictures: attention and sampled regions.

The page is one file and loads nothing from the network. For each picture it shows the attention of the class token of
the last block, and the thirteen regions of the descriptor, which the picture shifts and scales.
"""

from __future__ import annotations

import argparse
from pathlib import Path

_MOST_PICTURES = 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("weights", help="bundled name or weights file")
    parser.add_argument(
        "images", type=Path, nargs="+", metavar="IMAGE", help=f"JPEG or PNG files, at most {_MOST_PICTURES}"
    )
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="FILE", help="page to write, for example page.html"
    )
    parser.add_argument("--force", action="store_true", help="replace the file if it exists")


def main(args: argparse.Namespace) -> int:
    from d2vpr_ros.describe.weights import file_sha256, weights_path
    from d2vpr_ros.errors import UserError
    from d2vpr_ros.images.compose import decode_jpeg
    from d2vpr_ros.outfile import new_file

    if len(args.images) > _MOST_PICTURES:
        raise UserError(f"{len(args.images)} pictures are too many for one page; give {_MOST_PICTURES} at most")
    weights = weights_path(args.weights)
    try:
        from d2vpr_ros.describe.attention import load_network, look
    except ImportError as error:
        raise UserError(f"looking into a network needs torch ({error}); `pip install torch`") from None
    from d2vpr_ros.evaluation.explain import write_explanation

    network = load_network(weights)
    looks = []
    for path in args.images:
        try:
            picture = decode_jpeg(path.read_bytes())
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror or error}); expected a picture") from None
        if picture is None:
            raise UserError(f"{path}: no picture that can be read; expected JPEG or PNG")
        looks.append((path.name, look(network, picture)))
    facts = [("weights", f"{weights.name}, SHA-256 {file_sha256(weights)}"), ("size", network.config.name)]
    with new_file(args.out, args.force) as partial:
        write_explanation(partial, weights.stem, looks, facts)
    print(f"{args.out}: {len(looks)} pictures as {weights.stem} sees them")
    return 0
