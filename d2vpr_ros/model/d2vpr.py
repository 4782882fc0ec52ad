"""D²-VPR (arXiv 2511.12528): an adapted ViT, a Distillation Recovery Module and a deformable top-down aggregator.

Where the paper and the released weights disagree, the weights win.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from d2vpr_ros.model.config import SMALL, D2VPRConfig
from d2vpr_ros.model.pooling import cross_image_encoder, region_pooling
from d2vpr_ros.model.regions import POINTS, SMALL_NEIGHBOURS, sampling_grid
from d2vpr_ros.model.vit import AdapterViT

MAX_SHIFT = 0.25
"""How far a region's points can move, in parts of the region's size."""


class Backbone(AdapterViT):
    """The adapted ViT with the Distillation Recovery Module: shallow and deep blocks joined, brought to one width."""

    def __init__(self, config: D2VPRConfig) -> None:
        sizes = (config.width, config.depth, config.heads, config.adapter, config.position_grid)
        super().__init__(*sizes, taps=config.taps, stem=config.stem)
        self.lin = nn.Linear(len(config.taps) * config.width, config.output_width)
        self.up_norm = nn.LayerNorm(config.output_width, eps=1e-6)

    def recovered_tokens(self, images: Tensor) -> Tensor:
        """(N, 3, S, S) -> (N, 1 + (S / 14)², output_width); the paper's Eq. 3 at the taps of the released weights."""
        return self.up_norm(self.lin(torch.cat(self(images), dim=-1)))


class TopDownFusion(nn.Module):
    """Lets coarse features borrow from fine ones (small regions to medium ones, medium ones to the global feature)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.small_to_medium = self._bottleneck(width, hidden)
        self.medium_to_global = self._bottleneck(width, hidden)

    @staticmethod
    def _bottleneck(width: int, hidden: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Linear(width, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Dropout(0.1), nn.Linear(hidden, width)
        )

    def forward(self, global_feature: Tensor, medium: Tensor, small: Tensor) -> Tensor:
        """(N, C), (N, 4, C), (N, 9, C) -> the enhanced global feature (N, C).

        The enhanced medium features feed the global one only; the plain ones go on into the descriptor.
        """
        around = torch.stack([small[:, list(near)].mean(dim=1) for near in SMALL_NEIGHBOURS], dim=1)
        enhanced = medium + self.small_to_medium(around)
        return global_feature + self.medium_to_global(enhanced.mean(dim=1))


class RegionPositionEncoder(nn.Module):
    """Encodes where a deformed region lies: (centre x, centre y, width, height), the paper's Eq. 11."""

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, width))

    def forward(self, geometry: Tensor) -> Tensor:
        return self.fc(geometry)


class D2VPR(nn.Module):
    """One L2-normalised descriptor an image: `descriptor_width` numbers, 10752 at the paper's size.

    Args:
        config: the architecture's sizes.
        cross_image_encoder: with the optional encoder over the images of a batch; never live and never in maps,
            because a descriptor then depends on its batch-mates.
    """

    grid_points: Tensor
    grid_centres: Tensor
    grid_sizes: Tensor

    def __init__(self, config: D2VPRConfig = SMALL, *, cross_image_encoder: bool = False) -> None:
        super().__init__()
        self.config = config
        width = config.output_width
        self.backbone = Backbone(config)
        self.aggregation = region_pooling()
        self.offset_generator = nn.Sequential(
            nn.Conv2d(2 * width, config.offset_hidden, 1), nn.ReLU(), nn.Conv2d(config.offset_hidden, 4, 1)
        )
        self.topdown_fusion = TopDownFusion(width, config.fusion_hidden)
        self.pos_encoder = RegionPositionEncoder(config.position_hidden, width)
        self.encoder = _encoder(width) if cross_image_encoder else None
        for name, constant in zip(("points", "centres", "sizes"), sampling_grid(), strict=True):
            self.register_buffer(f"grid_{name}", constant, persistent=False)

    def offset_map(self, cls: Tensor, features: Tensor) -> Tensor:
        """(N, C) and (N, C, H, W) -> (N, 4, H, W): x and y shift, x and y raw scale.

        The same for all regions, so it is computed once (the reference computes it 13 times).
        """
        wide_cls = cls[:, :, None, None].expand_as(features)
        return self.offset_generator(torch.cat([features, wide_cls], dim=1))

    def deformed_points(self, offsets: Tensor) -> Tensor:
        """(N, 4, H, W) -> the regions' 512 sample points (N, 512, 2), (x, y) in 0..1.

        The offsets are read at the 0..1 grid *as it is*, although grid_sample takes -1..1: only the lower right part
        of the map is ever read. The weights were trained so.
        """
        where = self.grid_points.expand(len(offsets), 1, -1, -1)
        read = functional.grid_sample(offsets, where, padding_mode="border", align_corners=True)[:, :, 0].mT
        shift = read[..., :2].clamp(-MAX_SHIFT, MAX_SHIFT) * self.grid_sizes
        scale = 0.5 + 1.5 * torch.sigmoid(read[..., 2:])
        return (self.grid_centres + (self.grid_points - self.grid_centres) * scale + shift).clamp(0, 1)

    def regions(self, features: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Pool the features (N, C, H, W) at the points (N, 512, 2).

        Returns:
            pooled: (N, 13, C), one feature a region.
            geometry: (N, 13, 4), mean x, mean y, extent in x, extent in y of the region's points.
        """
        sampled = functional.grid_sample(features, 2 * points[:, None] - 1, padding_mode="border", align_corners=True)[
            :, :, 0
        ].mT
        pooled = torch.stack([self.aggregation(part) for part in torch.split(sampled, POINTS, dim=1)], dim=1)
        geometry = torch.stack(
            [
                torch.cat([part.mean(1), part.amax(1) - part.amin(1)], dim=-1)
                for part in torch.split(points, POINTS, dim=1)
            ],
            dim=1,
        )
        return pooled, geometry

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, S, S) float, ImageNet-normalised, S a multiple of 14 -> (N, descriptor_width), unit length."""
        return self.aggregate(self.backbone.recovered_tokens(images))

    def aggregate(self, tokens: Tensor) -> Tensor:
        """Recovered tokens (N, 1 + H², output_width) -> (N, descriptor_width), unit length."""
        cls, patches = tokens[:, 0], tokens[:, 1:]
        side = int(patches.shape[1] ** 0.5)
        features = patches.mT.reshape(len(tokens), -1, side, side)

        points = self.deformed_points(self.offset_map(cls, features))
        pooled, geometry = self.regions(features, points)
        medium, small = pooled[:, :4], pooled[:, 4:]

        top = self.topdown_fusion(cls, medium, small)
        whole_image = geometry.new_tensor([0.5, 0.5, 1.0, 1.0]).expand(len(geometry), 1, 4)
        stacked = torch.cat([top[:, None], medium, small], dim=1)
        stacked = stacked + self.pos_encoder(torch.cat([whole_image, geometry], dim=1))
        if self.encoder is not None:
            stacked = self.encoder(stacked)
        return functional.normalize(stacked.flatten(1), dim=-1)


_encoder = cross_image_encoder  # the constructor's argument of the same name hides it
