"""The baseline to beat: a patch-normalised thumbnail, as SeqSLAM compares pictures (Milford and Wyeth, ICRA 2012)."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

WIDTH, HEIGHT, PATCH = 64, 32, 8


def describe_thumbnails(images: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
    """N pictures (H, W, 3) uint8 -> (N, 2048) float32 of unit length: 64 x 32 grey, each 8 x 8 patch normalised."""
    described = np.stack([_thumbnail(image) for image in images])
    return described / np.maximum(np.linalg.norm(described, axis=1, keepdims=True), 1e-6)


def _thumbnail(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    patches = grey.astype(np.float32).reshape(HEIGHT // PATCH, PATCH, WIDTH // PATCH, PATCH)
    mean = patches.mean(axis=(1, 3), keepdims=True)
    # One grey level keeps an even patch (a clear sky) from being blown up to noise.
    deviation = patches.std(axis=(1, 3), keepdims=True) + 1.0
    return ((patches - mean) / deviation).reshape(-1)
