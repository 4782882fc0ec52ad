"""Pictures with the statistics of photographs, made from a seed: what a precision is tried on where no photograph is.

Dead leaves (Lee, Mumford and Huang, IJCV 2001): shaded discs and rectangles of all sizes cover each other, sizes
distributed so that the picture looks the same at every scale. That gives what counts here: edges, occlusion,
flat surfaces beside fine texture, a power spectrum of 1/f² and a few activations far above the rest.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

_LEAVES = 400
_BACKGROUND = 40  # large ones beneath them, so that no ground shows
_SMALLEST, _LARGEST = 0.03, 0.6  # radius of a leaf in parts of the picture's side


def gate_pictures(count: int = 12, side: int = 224) -> npt.NDArray[np.uint8]:
    """(count, side, side, 3) uint8 RGB; the first is the same whatever the count. Some are dark, some flat."""
    return np.stack([_picture(np.random.default_rng([7, number]), side) for number in range(count)])


def gate_places(side: int = 224) -> list[npt.NDArray[np.uint8]]:
    """16 places, (side, side, 3) uint8 RGB each: four ways, on each the next place shows seven eighths of the last."""
    return list(_along_the_ways(side))


def _along_the_ways(side: int) -> Iterator[npt.NDArray[np.uint8]]:
    step = side // 8
    for way in gate_pictures(4, side + 4 * step):
        for start in range(0, 4 * step, step):
            yield way[2 * step : 2 * step + side, start : start + side]


def changed_view(picture: npt.NDArray[np.uint8], number: int) -> npt.NDArray[np.uint8]:
    """The same place seen again: nearer and from aside, in another light, with a camera's noise.

    Args:
        picture: (H, W, 3) uint8 RGB.
        number: the same always gives the same change.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    draw = np.random.default_rng([11, number])
    height, width = picture.shape[:2]
    high, wide = max(1, round(height * 0.9)), max(1, round(width * 0.9))
    top, left = draw.integers(0, height - high + 1), draw.integers(0, width - wide + 1)
    seen = cv2.resize(picture[top : top + high, left : left + wide], (width, height), interpolation=cv2.INTER_LINEAR)
    lit = (seen / 255.0) ** draw.uniform(0.7, 1.4) * draw.uniform(0.7, 1.0, 3)
    return (255 * np.clip(lit + draw.normal(0, 0.015, picture.shape), 0, 1)).astype(np.uint8)


def _picture(draw: np.random.Generator, side: int) -> npt.NDArray[np.uint8]:
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    picture = np.zeros((side, side, 3), np.float32)
    mood = draw.uniform(0.6, 1.1, 3)  # the light's colour
    radii = draw.uniform(_LARGEST**-2, _SMALLEST**-2, _LEAVES) ** -0.5  # density r^-3 between the bounds
    for radius in (*draw.uniform(0.1, _LARGEST, _BACKGROUND), *radii):
        centre_x, centre_y = draw.uniform(-0.1, 1.1, 2)
        left, right = (int(side * np.clip(centre_x + sign * radius, 0, 1)) for sign in (-1, 1))
        top, bottom = (int(side * np.clip(centre_y + sign * radius, 0, 1)) for sign in (-1, 1))
        here = np.s_[top:bottom, left:right]
        across, down = (x[here] - centre_x) / radius, (y[here] - centre_y) / radius
        inside = across**2 + down**2 < 1 if draw.random() < 0.5 else np.abs(across) < draw.uniform(0.3, 1.0)
        shade = 1 + draw.normal(0, 0.2) * across + draw.normal(0, 0.2) * down
        colour = mood * draw.beta(1.5, 1.2) + draw.normal(0, 0.06, 3)
        picture[here][inside] = (shade[..., None] * colour)[inside]
    contrast, noise = draw.uniform(0.25, 1.0), draw.normal(0, draw.uniform(0, 0.03), picture.shape)
    return (255 * np.clip(picture * contrast + noise, 0, 1)).astype(np.uint8)
