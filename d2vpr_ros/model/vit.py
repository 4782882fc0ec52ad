"""The backbone: a DINOv2 vision transformer whose every block carries a convolutional adapter.

Names and shapes are those of the released state dicts. Tokens are (N, 1 + 256, C): the class token, then the patches
row by row.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from d2vpr_ros.model.config import PATCH, AdapterWidths
from d2vpr_ros.model.stem import ConvStem

ADAPTER_SCALE = 0.2
"""Weight of an adapter beside the MLP it runs parallel to."""


class PatchEmbed(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH, stride=PATCH)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, S, S) -> (N, (S / 14)², C)."""
        return self.proj(images).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        batch, count, width = tokens.shape
        query, key, value = self.qkv(tokens).view(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        attended = functional.scaled_dot_product_attention(query, key, value)
        return self.proj(attended.transpose(1, 2).reshape(batch, count, width))


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(tokens)))


class LayerScale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens * self.gamma


class ConvUnit(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, maps: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(maps)))


class Adapter(nn.Module):
    """Shrinks the tokens, mixes neighbouring patches at three scales, widens again. The class token is not mixed."""

    def __init__(self, width: int, widths: AdapterWidths) -> None:
        super().__init__()
        hidden, narrow, spatial = widths.hidden, widths.bottleneck, widths.spatial
        self.D_fc1 = nn.Linear(width, hidden)
        self.D_fc2 = nn.Linear(hidden, width)
        self.branch1 = ConvUnit(hidden, widths.pointwise, 1)
        self.branch2 = nn.Sequential(ConvUnit(hidden, narrow, 1), ConvUnit(narrow, spatial, 3))
        self.branch3 = nn.Sequential(ConvUnit(hidden, narrow, 1), ConvUnit(narrow, spatial, 5))

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = functional.relu(self.D_fc1(tokens))
        batch, count, channels = hidden.shape
        side = int((count - 1) ** 0.5)
        maps = hidden[:, 1:].transpose(1, 2).reshape(batch, channels, side, side)
        mixed = torch.cat([self.branch1(maps), self.branch2(maps), self.branch3(maps)], dim=1)
        mixed = torch.cat([hidden[:, :1], mixed.flatten(2).transpose(1, 2)], dim=1)
        return self.D_fc2(mixed + hidden)


class Block(nn.Module):
    def __init__(self, width: int, heads: int, adapter: AdapterWidths) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.ls1 = LayerScale(width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width)
        self.ls2 = LayerScale(width)
        self.adapter = Adapter(width, adapter)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.ls1(self.attn(self.norm1(tokens)))
        normed = self.norm2(tokens)
        return tokens + self.ls2(self.mlp(normed) + ADAPTER_SCALE * self.adapter(normed))


class AdapterViT(nn.Module):
    """Patch embedding, position embedding, blocks; `forward` gives what the blocks at `taps` put out."""

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        adapter: AdapterWidths,
        position_grid: int,
        taps: tuple[int, ...],
        stem: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.taps = taps
        self.position_grid = position_grid
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + position_grid**2, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))  # unused here, part of every released file
        self.patch_embed: ConvStem | PatchEmbed = ConvStem(stem, width) if stem else PatchEmbed(width)
        self.blocks = nn.ModuleList(Block(width, heads, adapter) for _ in range(depth))

    def position_embedding(self, side: int) -> Tensor:
        """(1, 1 + side², C): the trained grid brought to `side` x `side` patches.

        Resized by scale factors with DINOv2's offset of 0.1, not to a target size: the 0.1 changes the numbers.
        """
        grid = self.position_grid
        if side == grid:
            return self.pos_embed
        width = self.pos_embed.shape[-1]
        patches = self.pos_embed[:, 1:].reshape(1, grid, grid, width).permute(0, 3, 1, 2)
        scale = (side + 0.1) / grid
        resized = functional.interpolate(patches, scale_factor=(scale, scale), mode="bicubic", align_corners=False)
        return torch.cat([self.pos_embed[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)

    def embed(self, images: Tensor) -> Tensor:
        """(N, 3, S, S) normalised images -> what the first block takes in, (N, 1 + (S / 14)², C)."""
        patches = self.patch_embed(images)
        tokens = torch.cat([self.cls_token.expand(len(images), -1, -1), patches], dim=1)
        return tokens + self.position_embedding(int(patches.shape[1] ** 0.5))

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, 3, S, S) normalised images -> one (N, 1 + (S / 14)², C) tensor for each tap; a stem's cell is 16 wide."""
        tokens = self.embed(images)
        tapped = []
        for number, block in enumerate(self.blocks, start=1):
            tokens = block(tokens)
            if number in self.taps:
                tapped.append(tokens)
        return tapped
