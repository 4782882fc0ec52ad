"""XFeat, a small network for local features (Potje et al., CVPR 2024, arXiv 2404.19174), in its inference form.

Every convolution of the published network is followed by a BatchNorm without scale, which is folded into it here;
`models/make_xfeat.py` does that to the published weights. The matcher that refines dense matches is left out.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional

from d2vpr_ros.errors import UserError
from d2vpr_ros.model.checkpoint import load_strictly, read_state_dict

ARCHITECTURE = "xfeat"
"""The name in a weights file's `architecture` note."""
CELL = 8
"""Pixels a side that a descriptor stands for; a keypoint is one of them at most."""
_EPSILON = 1e-5 * 255**2
"""Added to the variance of 8-bit grey levels; the published 1e-5 is for levels from 0 to 1."""


def convolutions(widths: Sequence[int], strides: Sequence[int], kernels: Sequence[int]) -> nn.Sequential:
    """Convolutions one after another, each followed by ReLU."""
    units: list[nn.Module] = []
    for (inputs, outputs), stride, kernel in zip(itertools.pairwise(widths), strides, kernels, strict=True):
        units += [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2), nn.ReLU(inplace=True)]
    return nn.Sequential(*units)


class XFeat(nn.Module):
    """Grey picture -> dense descriptors, where keypoints are, and how reliable a descriptor is.

    Attributes:
        skip: the picture at a quarter of its size, beside block 1; averaging and a 1 x 1 convolution as one.
        block1 to block5: maps at 1/4, 1/4, 1/8, 1/16 and 1/32 of the picture.
        fusion: the last three maps, added at 1/8, to descriptors.
        reliability_head: descriptors to how well they match.
        keypoint_head: the 8 x 8 pixels of each cell to the logits of each pixel and of "none of them".
    """

    def __init__(self) -> None:
        super().__init__()
        self.skip = nn.Conv2d(1, 24, 4, 4)
        self.block1 = convolutions((1, 4, 8, 8, 24), (1, 2, 1, 2), (3, 3, 3, 3))
        self.block2 = convolutions((24, 24, 24), (1, 1), (3, 3))
        self.block3 = convolutions((24, 64, 64, 64), (2, 1, 1), (3, 3, 1))
        self.block4 = convolutions((64, 64, 64, 64), (2, 1, 1), (3, 3, 3))
        self.block5 = convolutions((64, 128, 128, 128, 64), (2, 1, 1, 1), (3, 3, 3, 1))
        self.fusion = nn.Sequential(*convolutions((64, 64, 64), (1, 1), (3, 3)), nn.Conv2d(64, 64, 1))
        self.reliability_head = nn.Sequential(*convolutions((64, 64, 64), (1, 1), (1, 1)), nn.Conv2d(64, 1, 1))
        self.keypoint_head = nn.Sequential(
            nn.Conv2d(1, 64, CELL, CELL), nn.ReLU(inplace=True),
            *convolutions((64, 64, 64), (1, 1), (1, 1)), nn.Conv2d(64, CELL * CELL + 1, 1),
        )  # fmt: skip

    def forward(self, grey: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """
        Args:
            grey: (N, H, W) float, the mean of red, green and blue, levels 0 to 255; H and W multiples of 32.

        Returns:
            descriptors: (N, H / 8, W / 8, 64), not of unit length.
            keypoints: (N, H, W), how probable a pixel is the keypoint of its cell, 0 to 1.
            reliability: (N, H / 8, W / 8), 0 to 1.
        """
        centred = grey - grey.mean(dim=(1, 2), keepdim=True)
        deviation = (centred.square().mean(dim=(1, 2), keepdim=True) + _EPSILON).sqrt()
        picture = (centred / deviation)[:, None]
        quarter = self.block2(self.block1(picture) + self.skip(picture))
        eighth = self.block3(quarter)
        sixteenth = self.block4(eighth)
        coarsest = self.block5(sixteenth)
        descriptors = self.fusion(eighth + _enlarged(sixteenth, 2) + _enlarged(coarsest, 4))
        logits = self.keypoint_head(picture)
        keypoints = functional.pixel_shuffle(logits.softmax(dim=1)[:, :-1], CELL)
        reliability = self.reliability_head(descriptors).sigmoid()
        return descriptors.permute(0, 2, 3, 1), keypoints[:, 0], reliability[:, 0]


def load_xfeat(path: Path) -> XFeat:
    """The network of a weights file that models/make_xfeat.py wrote, in eval mode on the CPU in float32.

    Raises:
        UserError: the file is missing or unreadable, or holds another network.
    """
    state, notes = read_state_dict(path)
    if not _names_xfeat(notes):
        raise UserError(
            f"weights file {path} is no network of local features; expected the bundled 'xfeat' or a file that "
            "models/make_xfeat.py wrote"
        )
    model = XFeat()
    load_strictly(model, state, path)
    if not all(tensor.isfinite().all() for tensor in model.state_dict().values()):
        raise UserError(f"weights file {path} holds numbers that are not finite; make it again by models/make_xfeat.py")
    return model.eval()


def holds_xfeat(path: Path) -> bool:
    """Whether a weights file says that it holds this network."""
    try:
        with safe_open(path, framework="pt") as file:
            return _names_xfeat(file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def _names_xfeat(notes: Mapping[str, str]) -> bool:
    try:
        return json.loads(notes["architecture"])["name"] == ARCHITECTURE
    except (KeyError, ValueError, TypeError, RecursionError):
        return False


def _enlarged(maps: Tensor, times: int) -> Tensor:
    return functional.interpolate(maps, scale_factor=times, mode="bilinear", align_corners=False)
