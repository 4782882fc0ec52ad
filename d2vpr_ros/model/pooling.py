"""Pooling of region features, shared by D²-VPR and its teacher."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class L2Norm(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return functional.normalize(features, dim=-1)


class GeM(nn.Module):
    """Generalised-mean pooling over sample points; one exponent for all regions."""

    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.full((1,), 3.0))

    def forward(self, features: Tensor) -> Tensor:
        """(N, P, C) -> (N, C)."""
        return features.clamp(min=1e-6).pow(self.p).mean(dim=1).pow(1.0 / self.p)


def region_pooling() -> nn.Sequential:
    """L2 over channels, then GeM over points; `aggregation.1.p` in the released files."""
    return nn.Sequential(L2Norm(), GeM())


def cross_image_encoder(width: int) -> nn.TransformerEncoder:
    """Attends across the *images of a batch*, so a descriptor depends on its batch-mates: offline evaluation only."""
    layer = nn.TransformerEncoderLayer(width, nhead=16, dim_feedforward=2048, activation="gelu", dropout=0.1)
    return nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
