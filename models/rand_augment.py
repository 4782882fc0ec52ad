"""RandAugment (arXiv 1909.13719) with the operations and ranges of the published training, in numpy and OpenCV.

Takes and gives (H, W, 3) uint8 RGB. Magnitudes run from 0 to 30; moved pixels come in black.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Operation = Callable[[Image, float], Image]

BINS = 30


@dataclass(frozen=True)
class RandAugment:
    """How much is changed.

    Attributes:
        operations: one after the other, each drawn anew; 0 leaves images as they are.
        magnitude: 0 to 30; 9 is what libraries do when not told, which is how the distillation ran.
    """

    operations: int = 3
    magnitude: int = 9

    def __call__(self, image: Image, random: np.random.Generator) -> Image:
        for _ in range(self.operations):
            name = NAMES[random.integers(len(NAMES))]
            operation, most, signed = OPERATIONS[name]
            value = most * self.magnitude / BINS
            image = operation(image, -value if signed and random.random() < 0.5 else value)
        return image


def _moved(image: Image, matrix: npt.NDArray[np.float64]) -> Image:
    """Seen through a 2 x 3 matrix that takes output pixels to input pixels; nearest neighbour, black outside."""
    size = image.shape[1::-1]
    return np.asarray(cv2.warpAffine(image, matrix, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP), np.uint8)


def _shear_x(image: Image, value: float) -> Image:
    return _moved(image, np.array([[1, value, 0], [0, 1, 0]], np.float64))


def _shear_y(image: Image, value: float) -> Image:
    return _moved(image, np.array([[1, 0, 0], [value, 1, 0]], np.float64))


def _translate_x(image: Image, value: float) -> Image:
    return _moved(image, np.array([[1, 0, -round(value * image.shape[1])], [0, 1, 0]], np.float64))


def _translate_y(image: Image, value: float) -> Image:
    return _moved(image, np.array([[1, 0, 0], [0, 1, -round(value * image.shape[0])]], np.float64))


def _rotate(image: Image, degrees: float) -> Image:
    centre = ((image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2)
    turn = cv2.invertAffineTransform(cv2.getRotationMatrix2D(centre, degrees, 1.0))
    return _moved(image, np.asarray(turn, np.float64))


def _blend(image: Image, other: npt.NDArray[np.floating], factor: float) -> Image:
    """`factor` of the image and 1 - factor of the other; beyond 1 away from it."""
    return np.clip(factor * image + (1 - factor) * other, 0, 255).astype(np.uint8)


def _grey(image: Image) -> npt.NDArray[np.floating]:
    return (image @ np.array([0.2989, 0.587, 0.114]))[..., None]


def _brightness(image: Image, value: float) -> Image:
    return _blend(image, np.zeros(1), 1 + value)


def _colour(image: Image, value: float) -> Image:
    return _blend(image, _grey(image), 1 + value)


def _contrast(image: Image, value: float) -> Image:
    return _blend(image, np.floor(_grey(image)).mean(keepdims=True), 1 + value)


def _sharpness(image: Image, value: float) -> Image:
    kernel = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
    soft = image.astype(np.float64)
    soft[1:-1, 1:-1] = cv2.filter2D(soft, -1, kernel)[1:-1, 1:-1]  # the border stays
    return _blend(image, soft, 1 + value)


def _posterize(image: Image, bits_less: float) -> Image:
    return image & np.uint8(256 - (1 << round(bits_less)))


def _solarize(image: Image, below_white: float) -> Image:
    return np.where(image >= 255 * (1 - below_white), 255 - image, image).astype(np.uint8)


def _autocontrast(image: Image, _: float) -> Image:
    low, high = image.min(axis=(0, 1)).astype(np.float64), image.max(axis=(0, 1)).astype(np.float64)
    flat = high == low
    scale = 255 / np.where(flat, 1, high - low)
    return np.clip(np.where(flat, image, (image - low) * scale), 0, 255).astype(np.uint8)


def _equalize(image: Image, _: float) -> Image:
    return np.dstack([cv2.equalizeHist(np.ascontiguousarray(image[..., channel])) for channel in range(3)]).astype(
        np.uint8
    )


def _identity(image: Image, _: float) -> Image:
    return image


OPERATIONS: dict[str, tuple[Operation, float, bool]] = {
    "identity": (_identity, 0.0, False),
    "shear_x": (_shear_x, 0.3, True),
    "shear_y": (_shear_y, 0.3, True),
    "translate_x": (_translate_x, 150 / 331, True),
    "translate_y": (_translate_y, 150 / 331, True),
    "rotate": (_rotate, 30.0, True),
    "brightness": (_brightness, 0.9, True),
    "colour": (_colour, 0.9, True),
    "contrast": (_contrast, 0.9, True),
    "sharpness": (_sharpness, 0.9, True),
    "posterize": (_posterize, 4.0, False),
    "solarize": (_solarize, 1.0, False),
    "autocontrast": (_autocontrast, 0.0, False),
    "equalize": (_equalize, 0.0, False),
}
"""Name: the operation, its value at magnitude 30, and whether its sign is drawn."""

NAMES = tuple(OPERATIONS)
