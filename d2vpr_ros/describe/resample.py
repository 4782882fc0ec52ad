"""Antialiased bilinear resampling without torch, for machines that run on ONNX Runtime alone.

The kernel is a triangle as wide as two output pixels, sampled at the input pixels and normalised (what PIL and torch
call bilinear with antialiasing). Along each axis it is a matrix with few numbers a row, multiplied as a sparse one; as
there, first across and rounded to whole levels, then down: one level more or less in soft grey is felt by a network.

A picture of at least four times the size is first brought to half by OpenCV's mean of 2 x 2 pixels, which takes less
time than anything that looks at each of them; the weights of the two pixels of a pair, which hardly differ under so
wide a triangle, are added up. What that changes, models/bench/preprocess.py measures.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy import sparse

_LEAST_SCALE = 4  # times the output's size from which on a picture is halved
_HALVING_BIAS = 0.125  # OpenCV rounds the mean of four up at a half: by an eighth of a level too much on average

_memory = threading.local()


def squash(image: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 -> (size, size, 3) uint8.

    What torch and PIL make of it, but for a level or two in a few of a hundred pixels; a picture that is halved first
    differs by more at sharp edges and in noise.
    """
    full, halvings = image.shape, 0
    while min(image.shape[:2]) >= _LEAST_SCALE * size and image.shape[0] % 2 == image.shape[1] % 2 == 0:
        image = _half(image, halvings)
        halvings += 1
    lying = _shortened("across", _turned("lying", image), _matrix(full[1], size, 2**halvings), _HALVING_BIAS * halvings)
    return _shortened("down", _turned("upright", lying), _matrix(full[0], size, 2**halvings))


def _turned(name: str, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(H, W, 3) -> (W, H, 3)."""
    turned = _kept(name, (image.shape[1], image.shape[0], 3), np.uint8)
    cv2.transpose(image, dst=turned)
    return turned


def _shortened(
    name: str, image: npt.NDArray[np.uint8], matrix: sparse.csr_array, bias: float = 0.0
) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 -> (size, W, 3) uint8 by a (size, H) matrix, less the bias, rounded."""
    height, width, _ = image.shape
    rows = _kept(name, (height, width * 3), np.float32)
    np.copyto(rows, image.reshape(height, width * 3))
    return np.asarray(cv2.convertScaleAbs(matrix @ rows, beta=-bias), np.uint8).reshape(-1, width, 3)


def _half(image: npt.NDArray[np.uint8], number: int) -> npt.NDArray[np.uint8]:
    height, width = image.shape[0] // 2, image.shape[1] // 2
    half = _kept(f"half {number}", (height, width, 3), np.uint8)
    cv2.resize(image, (width, height), dst=half, interpolation=cv2.INTER_AREA)
    return half


def _kept(name: str, shape: tuple[int, ...], kind: type[np.generic]) -> npt.NDArray[Any]:
    """Memory of this thread's to write to: fresh pages of the system's would cost more time than all the arithmetic."""
    kept: npt.NDArray[Any] | None = getattr(_memory, name, None)
    if kept is None or kept.shape != shape:
        kept = np.empty(shape, kind)
        setattr(_memory, name, kept)
    return kept


@lru_cache(maxsize=8)  # the heights and widths of a robot's few cameras
def _matrix(length: int, size: int, together: int) -> sparse.csr_array:
    """(size, length / together) float32: the resampling of a line of which so many pixels each are one already."""
    scale = length / size
    reach = max(scale, 1.0)
    centres = (np.arange(size) + 0.5) * scale
    first = np.maximum((centres - reach + 0.5).astype(int), 0)
    end = np.minimum((centres + reach + 0.5).astype(int), length)
    pixels = np.arange(length)
    weights = np.maximum(0.0, 1.0 - np.abs((pixels + 0.5 - centres[:, None]) / reach))
    weights[(pixels < first[:, None]) | (pixels >= end[:, None])] = 0.0
    weights /= weights.sum(axis=1, keepdims=True)
    return sparse.csr_array(weights.reshape(size, -1, together).sum(axis=2).astype(np.float32))
