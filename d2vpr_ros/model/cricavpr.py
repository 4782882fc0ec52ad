"""CricaVPR, the teacher that D²-VPR was distilled from: ViT-B/14 with wider adapters and plain region slices."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from d2vpr_ros.model.config import AdapterWidths
from d2vpr_ros.model.pooling import cross_image_encoder, region_pooling
from d2vpr_ros.model.vit import AdapterViT

_WIDTH, _DEPTH = 768, 12
_HALVES = (0, 8, 16)
_THIRDS = (0, 5, 11, 16)


class Backbone(AdapterViT):
    """The adapted ViT-B with DINOv2's own final norm."""

    def __init__(self) -> None:
        super().__init__(_WIDTH, _DEPTH, 12, AdapterWidths(384, 192, 24, 96), position_grid=37, taps=(_DEPTH,))
        self.norm = nn.LayerNorm(_WIDTH, eps=1e-6)

    def normed_tokens(self, images: Tensor) -> Tensor:
        return self.norm(self(images)[-1])


class CricaVPR(nn.Module):
    """(N, 3, 224, 224) -> (N, 10752), unit length; with its encoder a descriptor depends on its batch-mates."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.aggregation = region_pooling()
        self.encoder = cross_image_encoder(_WIDTH)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.backbone.normed_tokens(images)
        patches = tokens[:, 1:].reshape(len(tokens), 16, 16, _WIDTH)
        features = [tokens[:, 0]]
        for cuts in (_HALVES, _THIRDS):
            for top, bottom in itertools.pairwise(cuts):
                for left, right in itertools.pairwise(cuts):
                    features.append(self.aggregation(patches[:, top:bottom, left:right].flatten(1, 2)))
        stacked = self.encoder(torch.stack(features, dim=1))
        return functional.normalize(stacked.flatten(1), dim=-1)
