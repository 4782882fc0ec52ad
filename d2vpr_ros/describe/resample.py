"""Antialiased bilinear resampling without torch, for machines that run on ONNX Runtime alone.

The kernel is a triangle as wide as two output pixels, sampled at the input pixels and normalised (what PIL and torch
call bilinear with antialiasing); along each axis it is a matrix with few numbers a row, so neighbouring rows are
computed together as small dense products.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

_ROWS = 8  # output pixels computed together: more do more multiplications by zero, fewer make more calls

_Bands = tuple[tuple[slice, slice, npt.NDArray[np.float32]], ...]


def squash(image: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 -> (size, size, 3) uint8; within one level of what torch and PIL make of it."""
    height, width = image.shape[:2]
    rows = image.reshape(height, width * 3)
    if height != size:
        shorter = np.empty((size, width * 3), np.float32)
        for out, taken, weights in _bands(height, size):
            np.matmul(weights, rows[taken].astype(np.float32), out=shorter[out])
    else:
        shorter = rows.astype(np.float32)
    if width == size:
        return _to_uint8(shorter.reshape(size, size, 3))
    across = cv2.transpose(shorter.reshape(size, width, 3)).reshape(width, size * 3)
    squashed = np.empty((size, size * 3), np.float32)
    for out, taken, weights in _bands(width, size):
        np.matmul(weights, across[taken], out=squashed[out])
    return _to_uint8(cv2.transpose(squashed.reshape(size, size, 3)))


def _to_uint8(values: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    return (np.asarray(values, np.float32) + np.float32(0.5)).clip(0, 255).astype(np.uint8)


@lru_cache(maxsize=8)  # the heights and widths of a robot's few cameras
def _bands(length: int, size: int) -> _Bands:
    """The resampling from `length` to `size` pixels as (output pixels, input pixels, weights) of each group."""
    scale = length / size
    reach = max(scale, 1.0)
    centres = (np.arange(size) + 0.5) * scale
    first = np.maximum((centres - reach + 0.5).astype(int), 0)
    end = np.minimum((centres + reach + 0.5).astype(int), length)
    bands = []
    for start in range(0, size, _ROWS):
        out = slice(start, min(start + _ROWS, size))
        taken = slice(int(first[out].min()), int(end[out].max()))
        pixels = np.arange(taken.start, taken.stop)
        weights = np.maximum(0.0, 1.0 - np.abs((pixels + 0.5 - centres[out, None]) / reach))
        weights[(pixels < first[out, None]) | (pixels >= end[out, None])] = 0.0
        bands.append((out, taken, (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)))
    return tuple(bands)
