"""The 13 regions of a feature map and the points they are sampled at (constants of the architecture)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_HALVES = (0.0, 1 / 2, 1.0)
_THIRDS = (0.0, 5 / 16, 11 / 16, 1.0)
_THIRD_SAMPLES = (5, 6, 5)
_HALF_SAMPLES = 8

# The four small regions (row by row, 0..8) that lie around each medium one (row by row, 0..3).
SMALL_NEIGHBOURS = ((0, 1, 3, 4), (1, 2, 4, 5), (3, 4, 6, 7), (4, 5, 7, 8))


@dataclass(frozen=True)
class Region:
    """A rectangle (x1, y1, x2, y2) in 0..1 and its sampling grid of `rows` x `cols` points."""

    box: tuple[float, float, float, float]
    rows: int
    cols: int

    @property
    def points(self) -> int:
        return self.rows * self.cols


def _row_by_row(cuts: tuple[float, ...], samples: tuple[int, ...]) -> list[Region]:
    count = len(samples)
    return [
        Region((cuts[col], cuts[row], cuts[col + 1], cuts[row + 1]), samples[row], samples[col])
        for row in range(count)
        for col in range(count)
    ]


REGIONS = (*_row_by_row(_HALVES, (_HALF_SAMPLES, _HALF_SAMPLES)), *_row_by_row(_THIRDS, _THIRD_SAMPLES))
"""4 medium regions, then 9 small ones."""

POINTS = [region.points for region in REGIONS]
"""Sample points of each region; 512 in all."""


def sampling_grid() -> tuple[Tensor, Tensor, Tensor]:
    """Where the undeformed regions are sampled: all regions' points in one row, so that one call samples them all.

    Returns:
        points: (512, 2) float32 (x, y) in 0..1, both ends of each region included.
        centres: (512, 2) the centre of each point's region.
        sizes: (512, 2) the width and height of each point's region.
    """
    points, centres, sizes = [], [], []
    for region in REGIONS:
        x1, y1, x2, y2 = region.box
        xs, ys = torch.linspace(x1, x2, region.cols), torch.linspace(y1, y2, region.rows)
        rows, cols = torch.meshgrid(ys, xs, indexing="ij")
        points.append(torch.stack([cols, rows], dim=-1).reshape(-1, 2))
        centres.append(torch.tensor([(x1 + x2) / 2, (y1 + y2) / 2]).expand(region.points, 2))
        sizes.append(torch.tensor([x2 - x1, y2 - y1]).expand(region.points, 2))
    return torch.cat(points), torch.cat(centres), torch.cat(sizes)
