"""How small starts: DINOv2's blocks, adapters that add nothing, regions on the paper's grid.

What the recovery module reads at the start is found by models/discriminants.py.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.model import D2VPR
from d2vpr_ros.model.vit import Adapter, Block

RIDGE = 1e-4
"""Keeps the encoding of places smooth between the 14 that it is fitted at."""
GLOBAL_LENGTH = 0.8
"""Length of the class token's feature at the start; a region's is about 1."""


@torch.no_grad()
def begin_centring(block: Block, deviation: float) -> None:
    """The block begins by taking the picture's mean token off each token, in place.

    What all parts of a picture share is light, season and camera, more than the place. Attention that is the same for
    all tokens is their mean, and the rest of the block adds nothing.

    Args:
        deviation: of a token's channels, for which the block's first normalisation is made up.
    """
    width = block.attn.proj.in_features
    block.norm1.weight.fill_(1)
    block.ls1.gamma.fill_(1)
    block.attn.qkv.weight[:width] = 0  # the keys stay: else neither would ever have a gradient
    block.attn.qkv.weight[2 * width :] = torch.eye(width)
    block.attn.proj.weight.copy_(-deviation * torch.eye(width))
    for layer in (
        block.attn.qkv.bias,
        block.attn.proj.bias,
        block.norm1.bias,
        block.mlp.fc2.weight,
        block.mlp.fc2.bias,
    ):
        nn.init.zeros_(layer)
    begin_adapter(block.adapter)


@torch.no_grad()
def begin_small(model: D2VPR, seed: int) -> None:
    """Sets everything but DINOv2's own weights and what the recovery module reads, in place."""
    torch.manual_seed(seed)
    for module in model.backbone.modules():
        if isinstance(module, Adapter):
            begin_adapter(module)
    model.backbone.up_norm.weight.fill_(GLOBAL_LENGTH / math.sqrt(model.config.output_width))
    nn.init.zeros_(model.backbone.up_norm.bias)
    for layers in (model.offset_generator, model.topdown_fusion, model.pos_encoder):
        for module in layers.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=math.sqrt(1 / module.weight[0].numel()))
                assert module.bias is not None
                nn.init.zeros_(module.bias)
    # Regions start where the paper's grid has them: no shift, scale 0.5 + 1.5 * sigmoid(-0.693) = 1.
    last = model.offset_generator[2]
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    nn.init.zeros_(last.weight)
    last.bias.copy_(torch.tensor([0.0, 0.0, -math.log(2), -math.log(2)]))
    for bottleneck in (model.topdown_fusion.small_to_medium, model.topdown_fusion.medium_to_global):
        for parameter in bottleneck[-1].parameters():
            nn.init.zeros_(parameter)


def centre_features(model: D2VPR, pictures: Tensor) -> None:
    """The encoding of a feature's place starts as minus what all pictures have there: else all are much alike.

    There are 14 places, and more hidden numbers than that: the last layer is the least-squares solution.
    """
    tokens = model.backbone.recovered_tokens(Preprocessor().normalise(pictures))
    side = int((tokens.shape[1] - 1) ** 0.5)
    maps = tokens[:, 1:].mT.reshape(len(tokens), -1, side, side)
    pooled, geometry = model.regions(maps, model.deformed_points(model.offset_map(tokens[:, 0], maps)))
    usual = -torch.cat([tokens[:, :1], pooled], dim=1).mean(dim=0)
    first, last = model.pos_encoder.fc[0], model.pos_encoder.fc[2]
    assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
    nn.init.uniform_(first.bias, -0.5, 0.5)  # else the hidden numbers hardly tell the places apart
    hidden = torch.relu(first(torch.cat([geometry.new_tensor([[0.5, 0.5, 1.0, 1.0]]), geometry[0]])))
    middle, wanted = hidden.mean(dim=0), usual.mean(dim=0)
    inner = (hidden - middle).T @ (hidden - middle) + RIDGE * torch.eye(hidden.shape[1])
    weight = torch.linalg.solve(inner, (hidden - middle).T @ (usual - wanted)).T
    last.weight.copy_(weight)
    last.bias.copy_(wanted - weight @ middle)


def begin_adapter(adapter: Adapter) -> None:
    """It adds nothing, and its convolutions differ: equal ones, as published, would have equal gradients for ever."""
    for module in adapter.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(module.weight, std=math.sqrt(2 / module.weight[0].numel()))
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    nn.init.zeros_(adapter.D_fc2.weight)
