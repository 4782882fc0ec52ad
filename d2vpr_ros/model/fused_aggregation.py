"""The inference form of the deformable top-down aggregator.

The points at which the offset map is read never change, so reading it is one constant matrix, and only the cells
that have a weight in it are computed. Averages over regions and over neighbours are constant matrices too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from d2vpr_ros.model.d2vpr import D2VPR, MAX_SHIFT
from d2vpr_ros.model.folding import linear, norm
from d2vpr_ros.model.regions import POINTS, SMALL_NEIGHBOURS


class FusedAggregation(nn.Module):
    """Tokens (N, 1 + H², C), the class token first -> descriptors (N, 14 C) of unit length."""

    reading: Tensor
    points: Tensor
    centres: Tensor
    sizes: Tensor
    mean_of_region: Tensor
    padded_regions: Tensor
    mean_of_neighbours: Tensor

    def __init__(self, model: D2VPR, side: int) -> None:
        super().__init__()
        self.side = side
        self.first = (side - 1) // 2  # row and column of the first cell that a grid of 0..1 reads
        self.exponent = float(model.state_dict()["aggregation.1.p"])
        first, last = (layer for layer in model.offset_generator if isinstance(layer, nn.Conv2d))
        width = model.config.output_width
        weight = first.weight.flatten(1)
        self.offsets_from_map = linear(weight[:, :width], None)
        self.offsets_from_cls = linear(weight[:, width:], first.bias)
        self.offsets = linear(last.weight.flatten(1), last.bias)
        fusion = model.topdown_fusion
        self.small_to_medium = _widening(fusion.small_to_medium)
        self.medium_from_small = linear(*_last_linear(fusion.small_to_medium))
        self.medium_to_global = _widening(fusion.medium_to_global)
        weight, bias = _last_linear(fusion.medium_to_global)
        whole_image = model.pos_encoder(torch.tensor([0.5, 0.5, 1.0, 1.0]))
        self.global_from_medium = linear(weight, bias + whole_image)
        self.position_in, self.position_out = (
            linear(layer.weight, layer.bias) for layer in model.pos_encoder.fc if isinstance(layer, nn.Linear)
        )

        points = model.grid_points.cpu()
        for name, constant in (
            ("reading", _reading_matrix(points, side, self.first)),
            ("points", points.clone()),
            ("centres", model.grid_centres.cpu().clone()),
            ("sizes", model.grid_sizes.cpu().clone()),
            ("mean_of_region", _mean_of_region()),
            ("padded_regions", _padded_regions()),
            ("mean_of_neighbours", _mean_of_neighbours()),
        ):
            self.register_buffer(name, constant)

    def forward(self, tokens: Tensor) -> Tensor:
        cls, patches = tokens[:, :1], tokens[:, 1:]
        points = self.deformed_points(cls, patches)
        return self.descriptor(cls, self.pool(patches, points), points)

    def deformed_points(self, cls: Tensor, patches: Tensor) -> Tensor:
        """(N, 1, C) and (N, H², C) -> the regions' 512 sample points (N, 512, 2), (x, y) in 0..1."""
        batch, _, width = patches.shape
        read = patches.reshape(batch, self.side, self.side, width)[:, self.first :, self.first :]
        cells = (self.side - self.first) ** 2
        hidden = functional.relu(self.offsets_from_map(read.reshape(batch, cells, width)) + self.offsets_from_cls(cls))
        offsets = torch.matmul(self.reading, self.offsets(hidden))
        shift = offsets[..., :2].clamp(-MAX_SHIFT, MAX_SHIFT) * self.sizes
        scale = 0.5 + 1.5 * torch.sigmoid(offsets[..., 2:])
        return (self.centres + (self.points - self.centres) * scale + shift).clamp(0, 1)

    def pool(self, patches: Tensor, points: Tensor) -> Tensor:
        """(N, H², C) at the points (N, 512, 2) -> (N, 13, C), one feature a region: L2 a point, then GeM.

        A power as exp of log takes half the time, and its arguments lie between 1e-6 and 1.
        """
        batch, _, width = patches.shape
        maps = patches.transpose(1, 2).reshape(batch, width, self.side, self.side)
        where = 2 * points[:, None] - 1
        sampled = functional.grid_sample(maps, where, padding_mode="border", align_corners=True)[:, :, 0]
        length = (sampled * sampled).sum(dim=1, keepdim=True).sqrt().clamp(min=1e-12)
        powers = torch.exp(self.exponent * torch.log((sampled / length).clamp(min=1e-6)))
        return torch.matmul(self.mean_of_region, powers.transpose(1, 2)).pow(1 / self.exponent)

    def descriptor(self, cls: Tensor, pooled: Tensor, points: Tensor) -> Tensor:
        """(N, 1, C), the regions' features (N, 13, C) and points (N, 512, 2) -> the descriptors (N, 14 C)."""
        medium, small = pooled[:, :4], pooled[:, 4:]
        hidden = self.small_to_medium(torch.matmul(self.mean_of_neighbours, small)).mean(dim=1, keepdim=True)
        enhanced = medium.mean(dim=1, keepdim=True) + self.medium_from_small(hidden)
        whole = cls + self.global_from_medium(self.medium_to_global(enhanced))
        regions = pooled + self.position_out(functional.relu(self.position_in(self.geometry(points))))
        return functional.normalize(torch.cat([whole, regions], dim=1).flatten(1), dim=-1)

    def geometry(self, points: Tensor) -> Tensor:
        """(N, 512, 2) -> (N, 13, 4): mean x, mean y, extent in x, extent in y of each region's points."""
        by_region = points[:, self.padded_regions].reshape(points.shape[0], len(POINTS), max(POINTS), 2)
        extent = by_region.amax(dim=2) - by_region.amin(dim=2)
        return torch.cat([torch.matmul(self.mean_of_region, points), extent], dim=-1)


def _reading_matrix(points: Tensor, side: int, first: int) -> Tensor:
    """(512, cells): the bilinear weights with which the points read the lower right cells of the offset map.

    Found by reading a map for each cell that is 1 there and 0 elsewhere.
    """
    count = side - first
    cells = torch.zeros(count**2, 1, side, side)
    cells[:, 0, first:, first:] = torch.eye(count**2).reshape(count**2, count, count)
    where = points.expand(count**2, 1, -1, -1)
    return functional.grid_sample(cells, where, padding_mode="border", align_corners=True)[:, 0, 0].T.contiguous()


def _mean_of_region() -> Tensor:
    """(13, 512): takes the mean of each region's points."""
    region = torch.repeat_interleave(torch.arange(len(POINTS)), torch.tensor(POINTS))
    return functional.one_hot(region).float().T / torch.tensor(POINTS)[:, None]


def _padded_regions() -> Tensor:
    """(13 * 64,) int64: the points of each region, the last one repeated until all regions have equally many."""
    starts = [sum(POINTS[:number]) for number in range(len(POINTS))]
    rows = [
        [start + min(point, count - 1) for point in range(max(POINTS))]
        for start, count in zip(starts, POINTS, strict=True)
    ]
    return torch.tensor(rows).flatten()


def _mean_of_neighbours() -> Tensor:
    """(4, 9): takes the mean of the four small regions around each medium one."""
    matrix = torch.zeros(4, 9)
    for medium, near in enumerate(SMALL_NEIGHBOURS):
        matrix[medium, list(near)] = 1 / len(near)
    return matrix


def _widening(bottleneck: nn.Sequential) -> nn.Sequential:
    """A bottleneck up to its activation: Linear, LayerNorm, GELU; its dropout has no part in inference."""
    first, scale = bottleneck[0], bottleneck[1]
    if not isinstance(first, nn.Linear) or not isinstance(scale, nn.LayerNorm):
        raise TypeError("a bottleneck of the fusion begins with a linear layer and a LayerNorm")
    return nn.Sequential(linear(first.weight, first.bias), norm(scale), nn.GELU())


def _last_linear(bottleneck: nn.Sequential) -> tuple[Tensor, Tensor]:
    """Weight and bias of what a bottleneck ends with; linear, so a mean may be taken before it."""
    state = bottleneck[-1].state_dict()
    return state["weight"], state["bias"]
