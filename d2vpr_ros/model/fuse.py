"""The inference form of D²-VPR: the same function with nothing computed twice and nothing computed in vain.

Everything here is algebra on trained weights. BatchNorm, LayerScale, the adapters' 0.2 and the attention's 1/sqrt(d)
are folded into the linear layers beside them; the position embedding, the sampling grids and the encoding of the whole
image are constants of the input size; of the offset map only the cells that are read are computed. Plain tensor
operations only and no branch on data, so it exports to ONNX (opset 17).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from d2vpr_ros.model.config import PATCH
from d2vpr_ros.model.d2vpr import D2VPR
from d2vpr_ros.model.folding import conv, linear, norm, scaled, without_batch_norm
from d2vpr_ros.model.fused_aggregation import FusedAggregation
from d2vpr_ros.model.stem import ConvStem, StemUnit
from d2vpr_ros.model.vit import ADAPTER_SCALE, Adapter, Block, ConvUnit


def fuse(model: D2VPR, side: int = 224) -> FusedD2VPR:
    """The inference form of a network, in eval mode on the CPU, for images of `side` x `side` pixels.

    Its output equals the network's to 2e-5. The weights are copied: training `model` on does not change the result.

    Raises:
        ValueError: the network has a cross-image encoder (it is for offline evaluation only), or `side` is no
            multiple of the side of a token's cell.
    """
    if model.encoder is not None:
        raise ValueError("a network with a cross-image encoder has no inference form")
    cell = model.config.cell
    if side % cell:
        raise ValueError(f"an input side is a multiple of {cell}, not {side}")
    with torch.no_grad():
        return FusedD2VPR(copy.deepcopy(model).cpu(), side // cell).eval()


class FusedD2VPR(nn.Module):
    """(N, 3, S, S) float, ImageNet-normalised, of the one S it was fused for -> (N, descriptor_width), unit length.

    The backbone may be given another number type; the aggregation stays in float32, whose lengths and powers need it.
    """

    def __init__(self, model: D2VPR, side: int) -> None:
        super().__init__()
        self.config = model.config
        self.backbone = FusedBackbone(model, side)
        self.aggregation = FusedAggregation(model, side)

    def forward(self, images: Tensor) -> Tensor:
        return self.aggregation(self.backbone(images.to(self.backbone.positions.dtype)).float())


class FusedBackbone(nn.Module):
    """(N, 3, S, S) -> the recovered tokens (N, 1 + side², output_width), the class token first."""

    cls_token: Tensor
    positions: Tensor

    def __init__(self, model: D2VPR, side: int) -> None:
        super().__init__()
        plain = model.backbone
        self.taps = plain.taps
        self.side = side
        embedding = plain.position_embedding(side)
        embed = plain.patch_embed
        weight, bias = embed.proj.state_dict().values()
        self.register_buffer("cls_token", plain.cls_token + embedding[:, :1])
        self.register_buffer("positions", embedding[:, 1:] + bias)
        self.cells = FusedStem(embed) if isinstance(embed, ConvStem) else CutPatches(side)
        self.patches = linear(weight.reshape(len(weight), -1), None)
        self.blocks = nn.ModuleList(FusedBlock(block, side) for block in plain.blocks if isinstance(block, Block))
        self.lin = linear(plain.lin.weight, plain.lin.bias)
        self.up_norm = norm(plain.up_norm)

    def embed(self, images: Tensor) -> Tensor:
        """(N, 3, S, S) -> the first block's tokens (N, 1 + side², C)."""
        patches = self.patches(self.cells(images)) + self.positions
        return torch.cat([self.cls_token.expand(images.shape[0], -1, -1), patches], dim=1)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.embed(images)
        tapped = []
        for number, block in enumerate(self.blocks, start=1):
            tokens = block(tokens)
            if number in self.taps:
                tapped.append(tokens)
        return self.up_norm(self.lin(torch.cat(tapped, dim=-1)))


class CutPatches(nn.Module):
    """(N, 3, S, S) -> the patches of a patch embedding as rows (N, side², 3 * 14²)."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, images: Tensor) -> Tensor:
        batch, side = images.shape[0], self.side
        cut = images.reshape(batch, 3, side, PATCH, side, PATCH).permute(0, 2, 4, 1, 3, 5)
        return cut.reshape(batch, side**2, 3 * PATCH**2)


class FusedStem(nn.Module):
    """(N, 3, S, S) -> the cells of a stem's last map as rows (N, side², channels); no BatchNorm is left."""

    def __init__(self, stem: ConvStem) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for unit in (module for module in stem.modules() if isinstance(module, StemUnit)):
            stride, (before, after) = unit.conv.stride[0], unit.padding
            if before != after:
                layers.append(nn.ZeroPad2d((before, after, before, after)))
            padding = before if before == after else 0
            layers += [conv(*without_batch_norm(unit), stride, unit.conv.groups, padding), nn.ReLU6()]
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.layers(images.contiguous(memory_format=torch.channels_last))
        return maps.permute(0, 2, 3, 1).reshape(maps.shape[0], -1, maps.shape[1])


class FusedBlock(nn.Module):
    """Attention, then MLP and adapter side by side on one normed input; (N, T, C) -> (N, T, C)."""

    def __init__(self, block: Block, side: int) -> None:
        super().__init__()
        self.heads = block.attn.heads
        self.norm1, self.norm2 = norm(block.norm1), norm(block.norm2)
        width = block.attn.qkv.in_features
        scale = torch.ones(3 * width)
        scale[:width] = (width // self.heads) ** -0.5  # of the queries: the attention's 1/sqrt(d)
        self.qkv = scaled(block.attn.qkv, scale)
        self.proj = scaled(block.attn.proj, block.ls1.gamma)
        self.fc1 = scaled(block.mlp.fc1, torch.ones(()))
        self.fc2 = scaled(block.mlp.fc2, block.ls2.gamma)
        self.adapter = FusedAdapter(block.adapter, block.ls2.gamma * ADAPTER_SCALE, side)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.proj(self.attend(self.qkv(self.norm1(tokens))))
        normed = self.norm2(tokens)
        return tokens + self.mlp(normed) + self.adapter(normed)

    def attend(self, projected: Tensor) -> Tensor:
        """Queries, keys and values side by side (N, T, 3 C) -> what the heads attend to (N, T, C)."""
        batch, count, _ = projected.shape
        query, key, value = projected.view(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        attended = functional.scaled_dot_product_attention(query, key, value, scale=1.0)
        return attended.transpose(1, 2).reshape(batch, count, -1)

    def mlp(self, normed: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(normed)))


class FusedAdapter(nn.Module):
    """An adapter without BatchNorm, its three 1x1 convolutions in one matrix; (N, T, C) -> (N, T, C)."""

    def __init__(self, adapter: Adapter, scale: Tensor, side: int) -> None:
        super().__init__()
        self.side = side
        self.D_fc1 = scaled(adapter.D_fc1, torch.ones(()))
        self.D_fc2 = scaled(adapter.D_fc2, scale)
        units = [without_batch_norm(unit) for unit in adapter.modules() if isinstance(unit, ConvUnit)]
        whole, narrow3, wide3, narrow5, wide5 = units
        pointwise = (whole, narrow3, narrow5)
        self.pointwise = linear(
            torch.cat([weight.flatten(1) for weight, _ in pointwise]), torch.cat([bias for _, bias in pointwise])
        )
        self.widths = [len(bias) for _, bias in pointwise]
        self.conv3, self.conv5 = conv(*wide3), conv(*wide5)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = functional.relu(self.D_fc1(tokens))
        cls, patches = hidden[:, :1], hidden[:, 1:]
        batch, side = tokens.shape[0], self.side
        whole, narrow3, narrow5 = torch.split(functional.relu(self.pointwise(patches)), self.widths, dim=-1)
        mixed = [whole]
        for spread, narrow in ((self.conv3, narrow3), (self.conv5, narrow5)):
            maps = narrow.reshape(batch, side, side, -1).permute(0, 3, 1, 2)
            mixed.append(functional.relu(spread(maps)).permute(0, 2, 3, 1).reshape(batch, side**2, -1))
        return self.D_fc2(hidden + torch.cat([cls, torch.cat(mixed, dim=-1)], dim=1))
