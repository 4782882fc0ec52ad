"""Whether an image can tell a place: not black, not blown out, not blurred beyond recognition.

The bounds are for pictures of at most 320 pixels on the longer side. They were set so that nothing of the real footage
and of the simulated town, night and fog and underexposed by four stops included, is called useless.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

BLACK = "black"
BLOWN_OUT = "blown out"
BLURRED = "blurred"

_BLACK_BELOW = 16.0  # a covered lens with strong noise reaches 6, the darkest useful night image 31
_WHITE_ABOVE = 250.0
_BLURRED_ABOVE = 0.6  # sharp footage reaches 0.52; smeared over a twentieth of its width, most of it is above 0.6
_WINDOW = 11  # pixels, as Crete et al. have it


def find_flaw(picture: npt.NDArray[np.uint8]) -> str:
    """What makes a picture, (H, W, 3) uint8 RGB, useless; empty if nothing does."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    # Means of 8 x 8 pixels: a sensor's noise averages out, the lamps and windows of a dark street remain.
    size = (max(1, grey.shape[1] // 8), max(1, grey.shape[0] // 8))
    coarse = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
    if np.percentile(coarse, 99) < _BLACK_BELOW:
        return BLACK
    if np.percentile(coarse, 10) >= _WHITE_ABOVE:  # nine tenths of it
        return BLOWN_OUT
    return BLURRED if blur(np.asarray(grey, np.uint8)) > _BLURRED_ABOVE else ""


def blur(grey: npt.NDArray[np.uint8]) -> float:
    """How little an image, (H, W) uint8, loses when it is blurred along one axis: 0 sharp, 1 blurred already.

    Crete et al., "The Blur Effect: Perception and Estimation with a New No-Reference Perceptual Blur Metric", 2007.
    The image is compared with itself, so neither darkness nor low contrast look like blur; the worse of the two axes
    counts, so a smear by motion shows.
    """
    level = grey.astype(np.float32)
    worst = 0.0
    for axis, window in ((0, (1, _WINDOW)), (1, (_WINDOW, 1))):
        before = np.abs(np.diff(level, axis=axis))
        after = np.abs(np.diff(cv2.blur(level, window), axis=axis))
        total, lost = float(before.sum()), float(np.maximum(before - after, 0.0).sum())
        worst = max(worst, 1.0 - lost / total if total > 0 else 1.0)
    return worst
