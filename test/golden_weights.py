"""Weights and pictures that follow from names and a seed alone, as the golden numbers were computed with.

Every draw comes from its own PCG64 stream, so neither the order of the tensors nor anything else matters.
"""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

SEED = 20261120
WIDE = ("pos_embed", "cls_token", "mask_token")


def fill(model: nn.Module) -> nn.Module:
    """Give a network its golden weights; returns it in eval mode."""
    state = {name: torch.from_numpy(weight(name, tuple(value.shape))) for name, value in model.state_dict().items()}
    model.load_state_dict(state)
    return model.eval()


def weight(name: str, shape: tuple[int, ...]) -> npt.NDArray[np.generic]:
    """The golden value of one entry of a state dict."""
    draw = np.random.Generator(np.random.PCG64([SEED, zlib.crc32(name.encode())]))
    if name.endswith("num_batches_tracked"):
        return np.array(1, np.int64)
    if name == "aggregation.1.p":
        return np.full(shape, 3.2, np.float32)
    if name.endswith("running_var"):
        value = draw.uniform(0.5, 1.5, shape)
    elif name.endswith("running_mean"):
        value = 0.1 * draw.standard_normal(shape)
    elif name.endswith("gamma"):
        value = draw.uniform(0.05, 0.3, shape)
    elif len(shape) > 1:
        deviation = 0.3 if any(part in name for part in WIDE) else 1.4 / np.sqrt(np.prod(shape[1:]))
        value = deviation * (0.15 if name == "offset_generator.2.weight" else 1.0) * draw.standard_normal(shape)
    elif name.endswith("weight"):
        value = draw.uniform(0.7, 1.3, shape)
    else:
        value = 0.05 * draw.standard_normal(shape)
    return value.astype(np.float32)


def pictures(count: int = 3, side: int = 224) -> npt.NDArray[np.uint8]:
    """(count, side, side, 3) uint8: waves of colour under random boxes and ellipses."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    result = []
    for number in range(count):
        draw = np.random.Generator(np.random.PCG64([SEED, number]))
        waves = []
        for _ in range(3):
            right, down, phase = draw.uniform(1, 6), draw.uniform(1, 6), draw.uniform(0, 6)
            waves.append(128 + 100 * np.sin(x / side * right + y / side * down + phase))
        picture = np.stack(waves, axis=-1)
        for _ in range(25):
            colour = draw.uniform(0, 255, 3)
            centre_x, centre_y = draw.uniform(0, side), draw.uniform(0, side)
            half_width, half_height = draw.uniform(4, side / 5), draw.uniform(4, side / 5)
            if draw.random() < 0.5:
                inside = (np.abs(x - centre_x) < half_width) & (np.abs(y - centre_y) < half_height)
            else:
                inside = ((x - centre_x) / half_width) ** 2 + ((y - centre_y) / half_height) ** 2 < 1
            picture[inside] = colour
        result.append(np.clip(picture, 0, 255).astype(np.uint8))
    return np.stack(result)
