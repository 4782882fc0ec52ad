"""The aggregator's training form while its regions lie on the paper's grid: the same descriptor in a third of the time.

Reading the sample points of regions that do not move is one constant matrix, and an exponent of 3 needs no powers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from d2vpr_ros.model import D2VPR
from d2vpr_ros.model.regions import POINTS

SMALLEST = 1e-15
"""Below a pooled feature's cube: the root of nothing has no gradient."""


class GridAggregation(nn.Module):
    """Recovered tokens (N, 1 + side², C) -> descriptors (N, 14 C), unit length.

    Args:
        model: its offset generator gives no offsets, and it pools with the exponent 3; neither is learned.
        side: of the token map.

    Raises:
        ValueError: it does.
    """

    sampling: Tensor
    averaging: Tensor
    geometry: Tensor

    def __init__(self, model: D2VPR, side: int) -> None:
        super().__init__()
        offsets = model.offset_generator[2]
        assert isinstance(offsets, nn.Conv2d)
        if float(model.state_dict()["aggregation.1.p"]) != 3 or offsets.weight.any():
            raise ValueError("regions that are not on the grid, or another exponent than 3")
        self.fusion, self.positions = model.topdown_fusion, model.pos_encoder
        points = model.grid_points[None]
        means = torch.stack([part.mean(dim=0) for part in torch.split(torch.eye(sum(POINTS)), POINTS)])
        of_regions = [torch.cat([p.mean(1), p.amax(1) - p.amin(1)], dim=-1) for p in torch.split(points, POINTS, dim=1)]
        whole_image = torch.tensor([[0.5, 0.5, 1.0, 1.0]])
        self.register_buffer("sampling", sampling_matrix(model, side), persistent=False)
        self.register_buffer("averaging", means, persistent=False)
        self.register_buffer("geometry", torch.cat([whole_image, *of_regions]), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        sampled = self.sampling @ tokens[:, 1:]
        lengths = sampled.square().sum(dim=-1) + 1e-12
        positive = sampled.relu()
        cubes = (self.averaging * lengths[:, None] ** -1.5) @ (positive * positive * positive)
        pooled = (cubes + SMALLEST) ** (1 / 3)
        top = self.fusion(tokens[:, 0], pooled[:, :4], pooled[:, 4:])
        stacked = torch.cat([top[:, None], pooled], dim=1) + self.positions(self.geometry)
        return functional.normalize(stacked.flatten(1), dim=-1)


def sampling_matrix(model: D2VPR, side: int) -> Tensor:
    """(512, side²): reads the undeformed regions' sample points from a map, all regions in one row."""
    cells = torch.eye(side**2).reshape(side**2, 1, side, side)
    where = 2 * model.grid_points[None, None].expand(side**2, 1, -1, -1) - 1
    return functional.grid_sample(cells, where, padding_mode="border", align_corners=True)[:, 0, 0].T.contiguous()
