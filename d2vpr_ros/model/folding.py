"""Copies of trained layers with what stands beside them folded in; none of them learns."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from d2vpr_ros.model.stem import StemUnit
from d2vpr_ros.model.vit import ConvUnit


def linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear layer of these (outputs, inputs) weights and this bias."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight.copy_(weight)
    if bias is not None:
        layer.bias.copy_(bias)
    return layer.requires_grad_(False)


def scaled(layer: nn.Linear, scale: Tensor) -> nn.Linear:
    """A linear layer whose outputs are multiplied by `scale`."""
    return linear(layer.weight * scale.reshape(-1, 1), layer.bias * scale)


def norm(plain: nn.LayerNorm) -> nn.LayerNorm:
    """A copy of a layer normalisation over one axis."""
    copy = nn.LayerNorm(plain.normalized_shape[0], eps=plain.eps)
    copy.load_state_dict(plain.state_dict())
    return copy.requires_grad_(False)


def conv(weight: Tensor, bias: Tensor, stride: int = 1, groups: int = 1, padding: int | None = None) -> nn.Conv2d:
    """A convolution of these (outputs, inputs / groups, k, k) weights; channels last, like tokens.

    Args:
        padding: such that stride 1 keeps the map's size, unless given.
    """
    outputs, inputs, kernel, _ = weight.shape
    padded = kernel // 2 if padding is None else padding
    layer = nn.Conv2d(inputs * groups, outputs, kernel, stride, padded, groups=groups)
    layer.load_state_dict({"weight": weight, "bias": bias})
    layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
    return layer.requires_grad_(False)


def without_batch_norm(unit: ConvUnit | StemUnit) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution that equals `unit` before its ReLU."""
    state = unit.state_dict()
    factor = state["bn.weight"] / torch.sqrt(state["bn.running_var"] + unit.bn.eps)
    weight = state["conv.weight"] * factor.view(-1, 1, 1, 1)
    bias = state.get("conv.bias", torch.zeros_like(factor))
    return weight, (bias - state["bn.running_mean"]) * factor + state["bn.bias"]
