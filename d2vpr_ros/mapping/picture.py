"""The picture that is stored with a place."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from d2vpr_ros.images.compose import encode_jpeg, resize_area

PICTURE_SIDE = 320
"""Longer side of a stored picture, pixels."""


def shrink(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB -> at most PICTURE_SIDE pixels on the longer side."""
    height, width = rgb.shape[:2]
    ratio = min(1.0, PICTURE_SIDE / max(height, width))
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    return resize_area(rgb, size) if ratio < 1 else rgb


def encode_picture(rgb: npt.NDArray[np.uint8]) -> bytes:
    """(H, W, 3) uint8 RGB -> JPEG of at most PICTURE_SIDE pixels on the longer side."""
    return encode_jpeg(shrink(rgb))
