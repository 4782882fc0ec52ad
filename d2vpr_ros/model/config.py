"""The sizes a D²-VPR network can have."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

PATCH = 14
"""Side in pixels of a patch of DINOv2's patch embedding."""

_STEM_CELLS = (8, 16, 32)
"""Sides in pixels that a convolutional stem's cell may have: DINOv2's patch is between the first two."""


def block_strides(widths: Sequence[int]) -> list[int]:
    """Of each block behind a stem's first convolution: one that widens halves the map, but for the first of them."""
    return [
        2 if outputs > inputs and number > 0 else 1
        for number, (inputs, outputs) in enumerate(itertools.pairwise(widths))
    ]


@dataclass(frozen=True)
class AdapterWidths:
    """Channels inside a block's adapter (MODEL: D_fc1, then three convolution branches side by side).

    Attributes:
        hidden: channels after `D_fc1`; the branches' outputs add up to it.
        pointwise: output of the 1x1 branch.
        bottleneck: what the 3x3 and the 5x5 branch first shrink to.
        spatial: output of the 3x3 and of the 5x5 branch.
    """

    hidden: int
    pointwise: int
    bottleneck: int
    spatial: int

    def __post_init__(self) -> None:
        if self.pointwise + 2 * self.spatial != self.hidden:
            raise ValueError(f"adapter branches give {self.pointwise + 2 * self.spatial} channels, not {self.hidden}")


@dataclass(frozen=True)
class D2VPRConfig:
    """One architecture at one size; the defaults are the paper's (arXiv 2511.12528).

    Attributes:
        name: what the size is called.
        width: channels of a token.
        depth: transformer blocks.
        heads: attention heads.
        taps: blocks (counted from 1) whose outputs the Distillation Recovery Module joins.
        adapter: widths inside the adapters.
        output_width: channels of a region's feature; a descriptor has 14 times as many numbers.
        offset_hidden: channels inside the offset generator.
        fusion_hidden: channels inside the top-down fusion.
        position_hidden: channels inside the encoding of a region's geometry.
        position_grid: side of the grid of position embeddings the backbone was trained with.
        stem: channels of the convolutional stem's blocks (`ConvStem`); empty: DINOv2's patch embedding.
    """

    name: str = "small"
    width: int = 384
    depth: int = 12
    heads: int = 6
    taps: tuple[int, ...] = (2, 4, 8, 12)
    adapter: AdapterWidths = AdapterWidths(192, 96, 12, 48)
    output_width: int = 768
    offset_hidden: int = 512
    fusion_hidden: int = 256
    position_hidden: int = 128
    position_grid: int = 37
    stem: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError: sizes that do not fit one another."""
        if self.width % self.heads:
            raise ValueError(f"{self.heads} heads do not share {self.width} channels evenly")
        if not self.taps or list(self.taps) != sorted({tap for tap in self.taps if 0 < tap <= self.depth}):
            raise ValueError(f"taps {self.taps} are not some of the blocks 1 to {self.depth}, in order")
        if self.stem and self.cell not in _STEM_CELLS:
            raise ValueError(f"a stem of {self.stem} has cells of {self.cell} pixels, not one of {_STEM_CELLS}")

    @property
    def cell(self) -> int:
        """Side in pixels of the part of the image that a token stands for; an input side is a multiple of it."""
        return 2 * math.prod(block_strides(self.stem)) if self.stem else PATCH

    @property
    def descriptor_width(self) -> int:
        """Numbers in a descriptor: one global, 4 medium and 9 small regions."""
        return 14 * self.output_width


SMALL = D2VPRConfig()

NANO = D2VPRConfig(
    name="nano",
    width=192,
    depth=4,
    heads=3,
    taps=(1, 2, 3, 4),
    adapter=AdapterWidths(96, 48, 6, 24),
    output_width=192,
    offset_hidden=128,
    fusion_hidden=64,
    position_hidden=32,
    position_grid=14,
    stem=(32, 64, 128, 128, 256, 256, 512, 512, 512, 512),
)
"""For laptops: the paper's parts at a width that fits 4 M parameters and 2 GFLOP, behind a convolutional stem."""

CONFIGS = {config.name: config for config in (SMALL, NANO)}
