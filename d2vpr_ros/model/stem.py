"""A convolutional stem: patches embedded by a few separable convolutions instead of one large filter.

For networks that no DINOv2 file begins: convolutions learn from little data what a patch embedding and the first
transformer blocks learn from very much (arXiv 2106.14881).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from d2vpr_ros.model.config import block_strides


class StemUnit(nn.Module):
    """Convolution, BatchNorm, ReLU6. At stride 2 the map is padded on the far side only."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.padding = (kernel // 2 if stride == 1 else 0, kernel // 2)
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, maps: Tensor) -> Tensor:
        before, after = self.padding
        return functional.relu6(self.bn(self.conv(functional.pad(maps, (before, after, before, after)))))


class ConvStem(nn.Module):
    """A convolution, then separable blocks (3x3 on each channel, 1x1 across them), then one 1x1 to the tokens' width.

    Args:
        widths: channels of the first convolution, which halves the map, and of each block (`block_strides`).
        width: channels of a token.
    """

    def __init__(self, widths: Sequence[int], width: int) -> None:
        super().__init__()
        self.first = StemUnit(3, widths[0], 3, stride=2)
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(StemUnit(inputs, inputs, 3, stride, groups=inputs), StemUnit(inputs, outputs, 1))
                for (inputs, outputs), stride in zip(itertools.pairwise(widths), block_strides(widths), strict=True)
            )
        )
        self.proj = nn.Conv2d(widths[-1], width, 1)

    def maps(self, images: Tensor) -> Tensor:
        """(N, 3, S, S) -> (N, channels, S / cell, S / cell), what the last block gives (`D2VPRConfig.cell`)."""
        return self.blocks(self.first(images))

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, S, S) -> (N, (S / cell)², C), row by row."""
        return self.proj(self.maps(images)).flatten(2).transpose(1, 2)
