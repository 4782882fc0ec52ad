"""Write weights as one ONNX file, for machines without torch and for TensorRT.

Input: any number of uint8 RGB images of 224 x 224 pixels (squashed, as in training). Output: descriptors. Normalisation
and projection are in the file. It is compared with torch in float32 before it gets its name. It has the identity of
the weights: a map made with one works with the other.

The network of local features (`xfeat`) takes grey images; height and width are multiples of 32.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from d2vpr_ros.describe.feature_export import FeatureAgreement

_MOST_IMAGES = 200
_PICTURES = (".jpg", ".jpeg", ".png")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("weights", help="bundled name or weights file")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help=".onnx file to write")
    parser.add_argument(
        "--precision", choices=["exact", "fp16", "int8"], default="exact",
        help="exact: float32; fp16: float16 matrix products, for GPUs; int8: 8-bit integers, for CPUs with VNNI",
    )  # fmt: skip
    parser.add_argument("--opset", type=int, choices=[17, 20], default=17, help="ONNX operator set (default: 17)")
    parser.add_argument(
        "--projection", default="default", help="default (the one beside the weights), none, or a file from fit_pca.py"
    )
    parser.add_argument(
        "--images", type=Path, metavar="FOLDER",
        help=f"compare on these pictures, at most {_MOST_IMAGES} (default: synthetic ones)",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="replace the file if it exists")


def main(args: argparse.Namespace) -> int:
    from d2vpr_ros.describe.gate import footage_refusals
    from d2vpr_ros.describe.weights import file_sha256, weights_path
    from d2vpr_ros.errors import UserError

    if args.out.suffix != ".onnx":
        raise UserError(f"-o {args.out}: expected a name that ends in .onnx")
    weights = weights_path(args.weights)
    images = list(_pictures(args.images)) if args.images else []
    try:
        from d2vpr_ros.describe.feature_export import export_features
        from d2vpr_ros.describe.onnx_export import export
        from d2vpr_ros.model.xfeat import holds_xfeat
    except ImportError as error:
        raise UserError(f"an export needs torch and onnx ({error}); `pip install torch d2vpr_ros[export]`") from None
    if holds_xfeat(weights):
        if args.precision != "exact" or args.projection != "default":
            raise UserError(
                f"{weights} holds a network of local features: it is exported with --precision exact and has no "
                "projection; leave both options out"
            )
        _tell_features(args, export_features(weights, args.out, args.opset, images, args.force), drawn=not images)
        return 0
    changes = footage_refusals(weights, file_sha256(weights)).get(f"onnx-{args.precision}")
    found = export(weights, args.out, args.projection, args.precision, args.opset, images, args.force)
    kind = "" if images else "drawn "
    print(
        f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB, opset {args.opset}, {args.precision}; against torch in "
        f"float32 on {found.images} {kind}images: cosine {found.kept.cosine:.6f} or more, largest difference "
        f"{found.difference:.1e}, every view finds the same place"
    )
    if changes:
        print(f"with this form {changes}: precision fast does not use it; compare on your own drives")
    return 0


def _tell_features(args: argparse.Namespace, found: FeatureAgreement, drawn: bool) -> None:
    print(
        f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB, opset {args.opset}, exact; against torch in float32 on "
        f"{found.images} {'drawn ' if drawn else ''}images: {found.share:.1%} or more of an image's points are the "
        f"same, with cosine {found.cosine:.6f} or more"
    )


def _pictures(folder: Path) -> Iterator[npt.NDArray[np.uint8]]:
    """
    Raises:
        UserError: no such folder, or no picture in it can be read.
    """
    from d2vpr_ros.errors import UserError
    from d2vpr_ros.images.compose import decode_jpeg

    names = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _PICTURES) if folder.is_dir() else []
    if not names:
        raise UserError(f"--images {folder}: expected a folder with JPEG or PNG files, found none")
    step = -(-len(names) // _MOST_IMAGES)
    for name in names[::step]:
        picture = decode_jpeg(name.read_bytes())
        if picture is None:
            raise UserError(f"--images: {name} is no picture that can be read; leave it out")
        yield picture
