"""The forward pass as the paper's released code computes it, to compare with; nothing else uses it.

The offset map is computed anew for each of the 13 regions, and each is sampled by itself; attention is written out;
the position embedding is resized for every image; norm2 is applied twice a block.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from d2vpr_ros.model import D2VPR
from d2vpr_ros.model.d2vpr import MAX_SHIFT
from d2vpr_ros.model.regions import REGIONS, Region
from d2vpr_ros.model.vit import ADAPTER_SCALE, Attention, Block


def reference_forward(model: D2VPR, images: Tensor) -> Tensor:
    """(N, 3, S, S) normalised images -> (N, descriptor_width); equals `model(images)` to rounding."""
    backbone = model.backbone
    tokens = torch.cat([backbone.cls_token.expand(len(images), -1, -1), backbone.patch_embed(images)], dim=1)
    tokens = tokens + backbone.position_embedding(images.shape[-1] // model.config.cell)
    tapped = []
    for number, block in enumerate(backbone.blocks, start=1):
        tokens = _block(block, tokens)
        if number in backbone.taps:
            tapped.append(tokens)
    tokens = backbone.up_norm(backbone.lin(torch.cat(tapped, dim=-1)))
    cls, patches = tokens[:, 0], tokens[:, 1:]
    side = int(patches.shape[1] ** 0.5)
    features = patches.mT.reshape(len(images), -1, side, side)
    pooled, geometry = zip(*(_region(model, region, cls, features) for region in REGIONS), strict=True)
    medium, small = torch.stack(pooled[:4], dim=1), torch.stack(pooled[4:], dim=1)
    whole = model.topdown_fusion(cls, medium, small)
    whole_image = cls.new_tensor([0.5, 0.5, 1.0, 1.0]).expand(len(images), 4)
    stacked = torch.cat([whole[:, None], medium, small], dim=1)
    stacked = stacked + model.pos_encoder(torch.stack([whole_image, *geometry], dim=1))
    return functional.normalize(stacked.flatten(1), dim=-1)


def _block(block: torch.nn.Module, tokens: Tensor) -> Tensor:
    if not isinstance(block, Block):
        raise TypeError("a backbone's blocks are of class Block")
    tokens = tokens + block.ls1(_attention(block.attn, block.norm1(tokens)))
    adapted = ADAPTER_SCALE * block.adapter(block.norm2(tokens))
    return tokens + block.ls2(block.mlp(block.norm2(tokens)) + adapted)


def _attention(attention: Attention, tokens: Tensor) -> Tensor:
    batch, count, width = tokens.shape
    projected = attention.qkv(tokens).reshape(batch, count, 3, attention.heads, width // attention.heads)
    query, key, value = projected.permute(2, 0, 3, 1, 4)
    weights = (query * (width // attention.heads) ** -0.5 @ key.mT).softmax(dim=-1)
    return attention.proj((weights @ value).transpose(1, 2).reshape(batch, count, width))


def _region(model: D2VPR, region: Region, cls: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """One region's pooled feature (N, C) and geometry (N, 4), from an offset map of its own."""
    offsets = model.offset_map(cls, features)
    x1, y1, x2, y2 = region.box
    xs = torch.linspace(x1, x2, region.cols, device=cls.device, dtype=cls.dtype)
    ys = torch.linspace(y1, y2, region.rows, device=cls.device, dtype=cls.dtype)
    rows, cols = torch.meshgrid(ys, xs, indexing="ij")
    grid = torch.stack([cols, rows], dim=-1).expand(len(cls), -1, -1, -1)
    read = functional.grid_sample(offsets, grid, padding_mode="border", align_corners=True).permute(0, 2, 3, 1)
    centre, size = grid.new_tensor([(x1 + x2) / 2, (y1 + y2) / 2]), grid.new_tensor([x2 - x1, y2 - y1])
    scale = 0.5 + 1.5 * torch.sigmoid(read[..., 2:])
    points = centre + (grid - centre) * scale + read[..., :2].clamp(-MAX_SHIFT, MAX_SHIFT) * size
    points = points.clamp(0, 1)
    sampled = functional.grid_sample(features, 2 * points - 1, padding_mode="border", align_corners=True)
    pooled = model.aggregation(sampled.flatten(2).transpose(1, 2))
    flat = points.flatten(1, 2)
    return pooled, torch.cat([flat.mean(1), flat.amax(1) - flat.amin(1)], dim=-1)
