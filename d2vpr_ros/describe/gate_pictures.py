"""Pictures with the statistics of photographs, made from a seed: what a precision is tried on where no photograph is.

Dead leaves (Lee, Mumford and Huang, IJCV 2001): shaded discs and rectangles of all sizes cover each other, sizes
distributed so that the picture looks the same at every scale. That gives what counts here: edges, occlusion,
flat surfaces beside fine texture, a power spectrum of 1/f² and a few activations far above the rest.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_LEAVES = 400
_BACKGROUND = 40  # large ones beneath them, so that no ground shows
_SMALLEST, _LARGEST = 0.03, 0.6  # radius of a leaf in parts of the picture's side


def gate_pictures(count: int = 12, side: int = 224) -> npt.NDArray[np.uint8]:
    """(count, side, side, 3) uint8 RGB; the first is the same whatever the count. Some are dark, some flat."""
    return np.stack([_picture(np.random.default_rng([7, number]), side) for number in range(count)])


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
