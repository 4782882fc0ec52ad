"""What a network looks at in a picture: where its attention lies, and where the thirteen regions are sampled.

The paper's Fig. 7 and Fig. 3 (arXiv 2511.12528), computed by the network itself and not by its inference form.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.errors import UserError
from d2vpr_ros.model import D2VPR, load_checkpoint
from d2vpr_ros.model.regions import POINTS


@dataclass(frozen=True, eq=False)
class Look:
    """What a network made of one picture.

    Attributes:
        picture: (S, S, 3) uint8 RGB, as the network saw it.
        attention: (H, H) float32, how much of the class token's attention in the last block lies on each cell, the
            mean of all heads; adds up to at most 1, the rest lies on the class token itself.
        points: (512, 2) float32, x and y in 0..1, where the regions are sampled: `POINTS` of each in turn.
    """

    picture: npt.NDArray[np.uint8]
    attention: npt.NDArray[np.float32]
    points: npt.NDArray[np.float32]

    def regions(self) -> list[npt.NDArray[np.float32]]:
        """(points, 2) of each region: 4 quarters, then 9 ninths."""
        return np.split(self.points, np.cumsum(POINTS)[:-1])


def load_network(path: Path) -> D2VPR:
    """The network in a weights file, to be looked into.

    Raises:
        UserError: the file is none, or of another network.
    """
    network = load_checkpoint(path)
    if not isinstance(network, D2VPR):
        raise UserError(f"weights file {path} is not a D²-VPR; only its attention and regions can be shown")
    return network


@torch.inference_mode()
def look(network: D2VPR, image: npt.NDArray[np.uint8]) -> Look:
    """Args:
        image: (H, W, 3) uint8 RGB of any size.

    Raises:
        UserError: the image is empty or not RGB.
    """
    preprocessor, projected, tokens = Preprocessor(), list[Tensor](), list[Tensor]()

    def keep(kept: list[Tensor]) -> object:
        return lambda _module, _inputs, output: kept.append(output)

    attention = list(network.backbone.blocks)[-1].get_submodule("attn")
    hooks = [
        attention.get_submodule("qkv").register_forward_hook(keep(projected)),  # type: ignore[arg-type]
        network.backbone.up_norm.register_forward_hook(keep(tokens)),  # type: ignore[arg-type]
    ]
    seen = preprocessor.resize(image)
    try:
        network(preprocessor.normalise(seen[None]))
    finally:
        for hook in hooks:
            hook.remove()
    cls, patches = tokens[0][:, 0], tokens[0][:, 1:]
    side = int(patches.shape[1] ** 0.5)
    offsets = network.offset_map(cls, patches.mT.reshape(1, -1, side, side))
    return Look(
        seen.permute(1, 2, 0).numpy(),
        class_attention(projected[0], network.config.heads)[0].reshape(side, side).numpy(),
        network.deformed_points(offsets)[0].numpy(),
    )


def class_attention(projected: Tensor, heads: int) -> Tensor:
    """Queries, keys and values side by side (N, 1 + P, 3 C) -> the class token's attention to the patches (N, P)."""
    batch, count, _ = projected.shape
    query, key, _ = projected.view(batch, count, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    weights = nn.functional.softmax(query[:, :, :1] @ key.mT * query.shape[-1] ** -0.5, dim=-1)
    return weights[:, :, 0, 1:].mean(dim=1)
