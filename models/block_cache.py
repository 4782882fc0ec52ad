"""The outputs of frozen blocks, kept on disk: a step of training then costs only the blocks that learn.

A folder of files of `CHUNK` views each. A file is there as a whole or not at all, so a killed run continues where it
was; the folder's name carries what the files depend on.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.errors import UserError
from d2vpr_ros.model import D2VPR
from d2vpr_ros.model.vit import AdapterViT, Block

CHUNK = 64
"""Views a file."""


@dataclass(frozen=True, eq=False)
class BlockCache:
    """(views, taps, T, C) float16 in files.

    Attributes:
        files: each of `CHUNK` views, the last of the rest.
        count: of all views.
    """

    files: list[Path]
    count: int

    @property
    def side(self) -> int:
        """Of the token map, in tokens."""
        return math.isqrt(int(np.load(self.files[0], mmap_mode="r").shape[2]) - 1)

    def read(self, numbers: npt.NDArray[np.int64]) -> Tensor:
        """(N,) numbers of views -> (N, taps, T, C) float32."""
        rows = [np.load(self.files[number // CHUNK], mmap_mode="r")[number % CHUNK] for number in numbers]
        return torch.from_numpy(np.stack(rows)).float()


def frozen_taps(backbone: AdapterViT, images: Tensor, blocks: int) -> Tensor:
    """What the first `blocks` blocks put out at the taps among them, as if they had no adapters.

    Args:
        images: (N, 3, S, S) normalised.

    Returns:
        (N, taps, T, C); the last of them is what the next block takes in where `blocks` is a tap.
    """
    tokens, tapped = backbone.embed(images), []
    for number, block in enumerate(list(backbone.blocks)[:blocks], start=1):
        assert isinstance(block, Block)
        tokens = tokens + block.ls1(block.attn(block.norm1(tokens)))
        tokens = tokens + block.ls2(block.mlp(block.norm2(tokens)))
        if number in backbone.taps:
            tapped.append(tokens)
    return torch.stack(tapped, dim=1)


def tapped(model: D2VPR, cached: Tensor, frozen: int) -> Tensor:
    """(N, frozen taps, T, C) of the cache -> (N, all taps, T, C), by the blocks behind the `frozen` first ones."""
    taps, tokens = list(cached.unbind(dim=1)), cached[:, -1]
    for number, block in enumerate(list(model.backbone.blocks)[frozen:], start=frozen + 1):
        tokens = block(tokens)
        if number in model.backbone.taps:
            taps.append(tokens)
    return torch.stack(taps, dim=1)


def cache_blocks(
    backbone: AdapterViT,
    blocks: int,
    draw: Callable[[npt.NDArray[np.int64], int], Tensor],
    count: int,
    facts: dict[str, object],
    folder: Path,
    bits16: bool,
    device: str = "cpu",
) -> BlockCache:
    """The outputs of views 0 to `count` in a folder below `folder`; what is already there is used again.

    Args:
        draw: numbers of views, seed -> (N, 3, S, S) float32 in 0..1.
        facts: what the views and the backbone's weights depend on.
        bits16: compute in bfloat16, which takes half the time where the processor has units for it.
        device: that computes, in torch's words.

    Raises:
        UserError: the disk has no room.
    """
    key = hashlib.sha256(json.dumps([facts, blocks, count, bits16], sort_keys=True).encode()).hexdigest()[:16]
    below = folder / f"blocks-{key}"
    below.mkdir(parents=True, exist_ok=True)
    files = [below / f"{number:05}.npy" for number in range(-(-count // CHUNK))]
    missing = [number for number, file in enumerate(files) if not file.exists()]
    preprocessor, one = Preprocessor(), 0
    backbone.to(device)
    for number in tqdm(missing, desc="frozen blocks", mininterval=10, disable=None):
        if files[number].exists():  # a second process works at the same cache
            continue
        numbers = np.arange(number * CHUNK, min((number + 1) * CHUNK, count))
        images = preprocessor.normalise(draw(numbers, number) * 255).to(device)
        with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=bits16):
            parts = [frozen_taps(backbone, part, blocks).half().cpu().numpy() for part in torch.split(images, 16)]
        tokens = np.concatenate(parts)
        if not one:
            one = tokens.nbytes
            _ask_for_room(below, one * len(missing))
        _save(files[number], tokens, one * len(missing))
    backbone.cpu()
    return BlockCache(files, count)


def _ask_for_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(f"{folder}: needs {needed / 1e9:.1f} GB, the disk has {free / 1e9:.1f} GB free; {_WAY_OUT}")


_WAY_OUT = "make room, give another --cache, or lower the number of towns and looks in the recipe"


def _save(file: Path, tokens: npt.NDArray[np.float16], needed: int) -> None:
    partial = file.with_suffix(".partial")
    try:
        with partial.open("wb") as opened:
            np.save(opened, tokens)
        partial.rename(file)
    except OSError as error:
        partial.unlink(missing_ok=True)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"{file}: cannot be written ({error.strerror or error})") from None
        raise UserError(f"{file}: the disk is full, {needed / 1e9:.1f} GB were asked for; {_WAY_OUT}") from None
