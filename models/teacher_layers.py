"""The teacher's first layers in torch, dequantised, for any image size: what a convolutional stem is distilled from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from d2vpr_ros.errors import UserError
from d2vpr_ros.model.config import block_strides
from models.teacher import interpreter

WIDTHS = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
"""Channels of MobileNet v1's first convolution and of its separable blocks."""


class Layer(nn.Module):
    """A convolution with its bias, cut off at 0 and 6; padded as TensorFlow does."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, stride: int, groups: int) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.stride, self.groups = stride, groups
        after = weight.shape[-1] // 2
        self.padding = (after if stride == 1 else 0, after) * 2

    def forward(self, maps: Tensor) -> Tensor:
        padded = functional.pad(maps, self.padding)
        return functional.relu6(functional.conv2d(padded, self.weight, self.bias, self.stride, groups=self.groups))


class SeparableBlock(nn.Module):
    """3x3 on each channel, then 1x1 across them."""

    def __init__(self, deep: Layer, across: Layer) -> None:
        super().__init__()
        self.deep, self.across = deep, across

    def forward(self, maps: Tensor) -> Tensor:
        return self.across(self.deep(maps))


class TeacherLayers(nn.Module):
    """A first convolution and separable blocks behind it."""

    def __init__(self, first: Layer, blocks: Sequence[SeparableBlock]) -> None:
        super().__init__()
        self.first, self.blocks = first, list(blocks)
        self.registered = nn.ModuleList(blocks)  # so that they move to a device with the rest

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, 3, S, S) in 0..1 -> the maps behind the first convolution and behind every block."""
        maps = [self.first(images * (255 / 128) - 1)]
        for block in self.blocks:
            maps.append(block(maps[-1]))
        return maps


def read_layers(path: Path, blocks: int) -> TeacherLayers:
    """The first convolution and `blocks` of the separable blocks of a MobileNet v1 in 8-bit TFLite.

    Raises:
        UserError: the file is not that, or ai-edge-litert is not installed.
    """
    found = _dequantised(path)
    parts = [f"Conv2d_{number}_{part}" for number in range(1, blocks + 1) for part in ("depthwise", "pointwise")]
    missing = [name for name in ("Conv2d_0", *parts) if len(found.get(name, {})) != 2]
    if missing:
        raise UserError(f"{path}: expected a MobileNet v1, found no weights called {missing[0]}")
    separable = []
    for number, stride in enumerate(block_strides(WIDTHS[: blocks + 1]), start=1):
        deep, across = found[f"Conv2d_{number}_depthwise"], found[f"Conv2d_{number}_pointwise"]
        separable.append(
            SeparableBlock(
                Layer(deep["weight"].permute(3, 0, 1, 2), deep["bias"], stride, len(deep["bias"])),
                Layer(across["weight"].permute(0, 3, 1, 2), across["bias"], 1, 1),
            )
        )
    first = found["Conv2d_0"]
    return TeacherLayers(Layer(first["weight"].permute(0, 3, 1, 2), first["bias"], 2, 1), separable)


def _dequantised(path: Path) -> dict[str, dict[str, Tensor]]:
    """Weights and biases by the name of their layer, as the file has them: (O, H, W, I), depthwise (1, H, W, C)."""
    found: dict[str, dict[str, Tensor]] = {}
    reader = interpreter(path)
    for tensor in reader.get_tensor_details():
        layers = [part for part in tensor["name"].split("/") if part.startswith("Conv2d_")]
        kind = "bias" if tensor["dtype"] == np.int32 else "weight" if "weights_quant" in tensor["name"] else None
        if not layers or kind is None:
            continue
        scale, zero = tensor["quantization"]
        values = (reader.get_tensor(tensor["index"]).astype(np.float32) - zero) * scale
        found.setdefault(layers[0], {})[kind] = torch.from_numpy(values.astype(np.float32))
    return found
