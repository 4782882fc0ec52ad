"""Forms of the inference form that count in fewer bits: the backbone in a 16-bit type, or its products in int8."""

from __future__ import annotations

import copy
import warnings

import torch
from torch import Tensor, nn

from d2vpr_ros.model.fuse import FusedD2VPR


def half(model: FusedD2VPR, dtype: torch.dtype) -> FusedD2VPR:
    """A copy whose backbone holds `dtype` (float16 or bfloat16); the aggregation stays in float32."""
    reduced = copy.deepcopy(model)
    reduced.backbone.to(dtype)
    return reduced


def int8(model: FusedD2VPR) -> FusedD2VPR:
    """A copy whose blocks' linear layers multiply 8-bit integers; for the CPU.

    Each output channel of a weight has its own scale; activations are scaled as they come. The patch embedding, the
    recovery module behind the blocks (as much of a loss as all blocks) and the aggregation stay in float32.

    Raises:
        RuntimeError, AttributeError, NotImplementedError: this torch has no such kernels for this machine.
    """
    reduced = copy.deepcopy(model)
    for module in list(reduced.backbone.blocks.modules()):
        for name, layer in list(module.named_children()):
            if isinstance(layer, nn.Linear):
                setattr(module, name, Int8Linear(layer))
    return reduced


class Int8Linear(nn.Module):
    """A linear layer on 8-bit weights and dynamically scaled activations; float32 in, float32 out."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        scale = layer.weight.detach().abs().amax(dim=1).clamp(min=1e-12) / 127
        zeros = torch.zeros(len(scale), dtype=torch.int64)
        with warnings.catch_warnings():  # torch announces that another spelling of this will come
            warnings.simplefilter("ignore")
            weight = torch.quantize_per_channel(layer.weight.detach(), scale.double(), zeros, 0, torch.qint8)
        self.packed = torch.ops.quantized.linear_prepack(weight, layer.bias)

    def forward(self, values: Tensor) -> Tensor:
        """(N, ...) -> (N, ...). Scaled image by image, so that none depends on its batch-mates."""
        # 7-bit activations: sums of two 8-bit products overflow 16 bits on processors without VNNI
        parts = [
            torch.ops.quantized.linear_dynamic(part.contiguous(), self.packed, True) for part in torch.split(values, 1)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)
