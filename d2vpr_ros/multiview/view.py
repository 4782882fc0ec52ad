"""One picture as the geometry sees it: points with descriptors, and where they look."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from d2vpr_ros.describe.features import FeatureExtractor
from d2vpr_ros.mapping.picture import shrink
from d2vpr_ros.multiview.lens import Lens
from d2vpr_ros.multiview.params import DEFAULT_PARAMS, GeometryParams

Picture = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float32]

_LEAST_DEVIATION = 3.0  # grey levels; a flat wall's noise is not made a pattern
_MIDDLE, _SPREAD = 128.0, 40.0  # grey levels of a levelled picture: its mean, and one local deviation


@dataclass(frozen=True, eq=False)
class View:
    """One picture at the size in which maps store it (`mapping.picture.shrink`).

    Attributes:
        points: (N, 2) float32 x, y, pixels.
        descriptors: (N, 64) float32 of unit length.
        levelled: (H, W) uint8 grey, its local contrast made alike everywhere and in every light.
        lens: for pictures of this size; None where not known.
    """

    points: Points
    descriptors: npt.NDArray[np.float32]
    levelled: Picture
    lens: Lens | None

    def __len__(self) -> int:
        return len(self.points)

    def with_lens(self, lens: Lens | None) -> View:
        """The same picture through another lens, given for any size of it."""
        return replace(self, lens=None if lens is None else lens.for_size(*self.levelled.shape[::-1]))


def view_of(
    rgb: Picture, extractor: FeatureExtractor, lens: Lens | None = None, params: GeometryParams = DEFAULT_PARAMS
) -> View:
    """Look at a picture.

    Args:
        rgb: (H, W, 3) uint8 RGB of any size.
        lens: of the camera; one for a picture of another shape counts as not known.

    Raises:
        UserError: the picture is empty or not RGB.
    """
    features = extractor.extract(small := shrink(rgb))
    seen = View(features.points, features.descriptors, levelled(small, params.contrast_window), None)
    return seen.with_lens(lens)


def levelled(rgb: Picture, window: int) -> Picture:
    """(H, W, 3) uint8 -> (H, W) uint8: each pixel in deviations of the grey levels around it.

    Args:
        window: side in pixels of the square that counts as around it.
    """
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    mean = cv2.blur(grey, (window, window))
    variance = cv2.blur(grey * grey, (window, window)) - mean * mean
    deviation = np.sqrt(np.maximum(variance, _LEAST_DEVIATION**2))
    return np.clip(_MIDDLE + _SPREAD * ((grey - mean) / deviation), 0, 255).astype(np.uint8)
