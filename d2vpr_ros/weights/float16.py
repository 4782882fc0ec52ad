"""A network as a file: float16 safetensors with its architecture in the notes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from d2vpr_ros.weights.sorted_header import sort_header

if TYPE_CHECKING:
    from torch import Tensor, nn


def float16_file(model: nn.Module, notes: Mapping[str, str]) -> bytes:
    """The content of a safetensors file, the same bytes for the same weights and notes.

    Matrices are stored as float16, BatchNorm statistics as float32 (their range is wide), counts as they are. Notes
    gain D2VPR's `architecture`, by which `load_checkpoint` makes the network; another network's stands in `notes`, and
    CricaVPR, which has one size, needs none.

    Raises:
        ValueError: a weight is not finite, or out of float16's range.
    """
    import torch
    from safetensors.torch import save

    from d2vpr_ros.model import D2VPR

    def stored(name: str, tensor: Tensor) -> Tensor:
        if name.endswith("num_batches_tracked"):
            return tensor
        return tensor.float().contiguous() if "running_" in name else tensor.half().contiguous()

    state = {name: stored(name, tensor) for name, tensor in model.state_dict().items()}
    broken = [name for name, tensor in state.items() if not torch.isfinite(tensor.float()).all()]
    if broken:
        raise ValueError(f"{broken[0]} is not finite, or out of float16's range")
    architecture = {"architecture": json.dumps(asdict(model.config))} if isinstance(model, D2VPR) else {}
    return sort_header(save(state, {**architecture, **notes}))
