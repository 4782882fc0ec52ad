"""How nano starts: there is no pretrained network of its size, and little time, so it starts with structure.

Tokens begin as whitened training patches (contrast instead of brightness), or as the whitened map of a stem that is
distilled already. Attention starts near the identity over sinusoidal positions, as trained transformers look ("mimetic
initialization", arXiv 2305.09828).
"""

from __future__ import annotations

import math

import torch
from scipy.linalg import qr
from torch import Tensor, nn

from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.model import D2VPR
from d2vpr_ros.model.config import PATCH
from d2vpr_ros.model.stem import ConvStem
from d2vpr_ros.model.vit import Attention, Block


def initialised(model: D2VPR, pictures: Tensor, seed: int = 0) -> D2VPR:
    """Sets every weight of `model` in place, but for those of a stem's convolutions, and returns it.

    Args:
        model: any size.
        pictures: (N, 3, S, S) uint8, some hundred training pictures; the patch filters come from them.
    """
    torch.manual_seed(seed)
    embed = model.backbone.patch_embed
    kept = set(embed.modules())
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and module not in kept:
            fan_in = module.weight[0].numel()
            nn.init.trunc_normal_(module.weight, std=math.sqrt(1 / fan_in))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    # Regions start where the teacher's lie: no shift, scale 0.5 + 1.5 * sigmoid(-0.693) = 1.
    last = model.offset_generator[2]
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    nn.init.zeros_(last.weight)
    with torch.no_grad():
        last.bias.copy_(torch.tensor([0.0, 0.0, -math.log(2), -math.log(2)]))
        vit = model.backbone
        vit.pos_embed[0, 1:] = 0.15 * sinusoids(vit.position_grid, vit.pos_embed.shape[-1])
        nn.init.trunc_normal_(vit.cls_token, std=0.02)
        cells = stem_cells(embed, pictures) if isinstance(embed, ConvStem) else None
        if cells is not None:
            set_whitening(embed.proj, cells)
        else:
            set_whitening(embed.proj, pixel_patches(pictures))
            for parameter in embed.proj.parameters():
                parameter[0] *= 0.5  # brightness and its colour say least about the place and change most
        for module in vit.modules():
            if isinstance(module, Attention):
                set_attention(module)
            if isinstance(module, Block):
                module.ls1.gamma.fill_(0.3)
                module.ls2.gamma.fill_(0.1)
        if cells is not None:
            read_stem_channels(model, cells[: len(cells) // len(pictures) * 100])
        # The global feature begins as little: random numbers in it would drown the regions, which are of use at once.
        for bottleneck in (model.topdown_fusion.small_to_medium, model.topdown_fusion.medium_to_global):
            for parameter in bottleneck[-1].parameters():
                parameter.zero_()
        vit.up_norm.weight.fill_(0.03)
        centre_regions(model, pictures[:100])
    return model


def read_stem_channels(model: D2VPR, cells: Tensor) -> None:
    """The recovery module starts by reading channels of the stem out of the tokens: sparse, as pooling wants them.

    The most different ones, by QR with pivoting over (M, channels) cells.
    """
    embed, lin = model.backbone.patch_embed, model.backbone.lin
    cells = cells[torch.randperm(len(cells))[:4_000]]
    centred = (cells - cells.mean(dim=0)) / (cells.std(dim=0) + 0.1 * cells.std())
    _, _, order = qr(centred.numpy(), mode="economic", pivoting=True)
    chosen = torch.from_numpy(order[: lin.out_features].copy())
    reading = torch.linalg.pinv(embed.proj.weight.flatten(1))[chosen] / cells.std(dim=0)[chosen, None]
    taps = len(model.config.taps)
    lin.weight.copy_(reading.repeat(1, taps) / taps)


def centre_regions(model: D2VPR, pictures: Tensor) -> None:
    """The encoding of a region's place starts as minus the mean region: pooled features are positive and all alike."""
    tokens = model.backbone.recovered_tokens(Preprocessor().normalise(pictures))
    side = int((tokens.shape[1] - 1) ** 0.5)
    features = tokens[:, 1:].mT.reshape(len(pictures), -1, side, side)
    pooled, _ = model.regions(features, model.deformed_points(model.offset_map(tokens[:, 0], features)))
    last = model.pos_encoder.fc[2]
    assert isinstance(last, nn.Linear) and last.bias is not None
    last.weight.mul_(0.1)
    last.bias.copy_(-pooled.mean(dim=(0, 1)))


def sinusoids(grid: int, width: int) -> Tensor:
    """(grid², width): sines and cosines of x and y, row by row."""
    frequencies = math.pi * torch.exp(torch.linspace(math.log(0.5), math.log(grid / 2), width // 4))
    ticks = (torch.arange(grid) + 0.5) / grid
    phases = ticks[:, None] * frequencies
    waves = torch.cat([phases.sin(), phases.cos()], dim=1)
    rows = waves[:, None].expand(-1, grid, -1)
    columns = waves[None].expand(grid, -1, -1)
    return torch.cat([rows, columns], dim=2).reshape(grid * grid, width)


def pixel_patches(pictures: Tensor) -> Tensor:
    """(N, 3, S, S) uint8 -> (M, 3 * 14 * 14), normalised."""
    normalised = Preprocessor().normalise(pictures)
    patches = normalised.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH).permute(0, 2, 3, 1, 4, 5)
    return patches.reshape(-1, 3 * PATCH * PATCH)


def stem_cells(stem: ConvStem, pictures: Tensor) -> Tensor:
    """(N, 3, S, S) uint8 -> (M, channels), the cells of the stem's last map."""
    stem.eval()
    maps = torch.cat([stem.maps(Preprocessor().normalise(part)) for part in torch.split(pictures, 32)])
    return maps.flatten(2).mT.flatten(0, 1)


def set_whitening(convolution: nn.Conv2d, cells: Tensor) -> None:
    """The leading principal directions of (M, inputs) cells, each brought to about unit variance."""
    cells = cells[torch.randperm(len(cells))[:40_000]]
    centred = cells - cells.mean(dim=0)
    variances, directions = torch.linalg.eigh(centred.T @ centred / len(cells))
    outputs = convolution.weight.shape[0]
    variances, directions = variances[-outputs:].flip(0), directions[:, -outputs:].flip(1)
    filters = (directions / torch.sqrt(variances + 0.02)).T
    convolution.weight.copy_(filters.view_as(convolution.weight))
    assert convolution.bias is not None
    convolution.bias.copy_(-filters @ cells.mean(dim=0))


def set_attention(attention: Attention) -> None:
    """W_q W_k^T near 0.7 I, W_v W_proj near -0.4 I, each plus noise, factored by SVD."""
    width = attention.proj.weight.shape[0]
    head = width // attention.heads
    noise = 1 / math.sqrt(width)
    for number in range(attention.heads):
        rows = slice(number * head, (number + 1) * head)
        left, sizes, right = torch.linalg.svd(0.7 * noise * torch.randn(width, width) + 0.7 * torch.eye(width))
        attention.qkv.weight[rows] = (left[:, :head] * sizes[:head].sqrt()).T
        attention.qkv.weight[width:][rows] = right[:head] * sizes[:head, None].sqrt()
    left, sizes, right = torch.linalg.svd(0.4 * noise * torch.randn(width, width) - 0.4 * torch.eye(width))
    attention.qkv.weight[2 * width :] = sizes.sqrt()[:, None] * right
    attention.proj.weight.copy_(left * sizes.sqrt())
