"""What a long run keeps on its way: tensors that are made once, and memory that is asked for once."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

_MMAP_MAX, _TRIM_THRESHOLD = -4, -1  # of glibc's malloc.h


def kept(file: Path, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors in `file`, which are made and written where it is not there; as a whole or not at all."""
    if file.exists():
        return torch.load(file, weights_only=True)
    made = make()
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    torch.save(made, partial)
    partial.rename(file)
    return made


def keep_memory() -> None:
    """Large tensors' memory stays with the process when it is freed.

    A training step on CPUs else spends half of its time on getting the same pages again and again from the system.
    Does nothing where the C library is another one than glibc.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_MMAP_MAX, 0)
            mallopt(_TRIM_THRESHOLD, 2**31 - 1)
