"""How a student starts: DINOv2's weights where it has them, adapters that begin by adding nothing."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from d2vpr_ros.model import D2VPR
from d2vpr_ros.model.checkpoint import load_strictly, read_state_dict
from d2vpr_ros.model.vit import Adapter

DROPPED = "norm."
"""DINOv2's final norm has no place in D²-VPR, whose Distillation Recovery Module reads the blocks directly."""


def start_from_dinov2(model: D2VPR, path: Path) -> list[str]:
    """Loads a DINOv2 file into the backbone and starts the adapters; returns the names that were left out on purpose.

    The file is the official one of the backbone (for `small`: dinov2_vits14_pretrain.pth), or one of the same names.

    Raises:
        UserError: a name of the file is not the backbone's, or one is missing (each listed), or of another shape.
    """
    state, _ = read_state_dict(path)
    dropped = [name for name in state if name.startswith(DROPPED)]
    # What DINOv2 does not have keeps the values it starts with.
    own = {
        name: value
        for name, value in model.backbone.state_dict().items()
        if ".adapter." in name or name.startswith(("lin.", "up_norm."))
    }
    load_strictly(model.backbone, own | {name: value for name, value in state.items() if name not in dropped}, path)
    for module in model.backbone.modules():
        if isinstance(module, Adapter):
            start_adapter(module)
    return dropped


def start_adapter(adapter: Adapter) -> None:
    """As published: `D_fc2` zero, so that the block is DINOv2's own; every convolution 1e-5."""
    with torch.no_grad():
        adapter.D_fc2.weight.zero_()
        adapter.D_fc2.bias.zero_()
        for module in adapter.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.fill_(1e-5)
                assert module.bias is not None
                module.bias.fill_(1e-5)
