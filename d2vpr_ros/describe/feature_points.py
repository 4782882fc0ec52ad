"""From the maps that the feature network gives to points and descriptors, whichever library ran it.

Agrees with the published code of XFeat (`XFeat.detectAndCompute`): the same pixels, and descriptors sampled
at the same places with the same bicubic kernel. What is added can be turned off: see `FeatureParams.subpixel`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt
from scipy import sparse

from d2vpr_ros.describe.identity import ModelIdentity

Array = npt.NDArray[np.float32]
Kernel = Callable[[Array], tuple[npt.NDArray[np.int32], Array]]

STRIDE = 32
"""Height and width of what the network takes are multiples of it."""
DESCRIPTOR_WIDTH = 64
_RECIPE = "mean of red, green and blue; sides the multiples of 32 below, bilinear; levels 0 to 255"
_TILES = 8  # of the equalisation, across and down; OpenCV's default
_CUBIC = -0.75  # the kernel's free parameter, as torch has it


@dataclass(frozen=True)
class FeatureParams:
    """What counts as a feature.

    Attributes:
        most_features: of one picture; the best are kept.
        least_keypoint: how probable a pixel has to be the keypoint of its 8 x 8 cell, 0 to 1; published: 0.05.
        suppression: side in pixels of the square in which a point has to be the most probable one, odd; published: 5.
        subpixel: whether a point is moved to the centre of mass of the 3 x 3 probabilities around it, up to one pixel;
            the published code leaves it on the pixel. The descriptor is that of the pixel either way. Between a picture
            and the same turned and scaled, 13 % more matches are then right to a pixel, at no cost.
        largest_side: pixels; a picture with a longer side is shrunk to it. Bounds memory and time.
        contrast_limit: of an adaptive histogram equalisation (CLAHE, 8 x 8 tiles) before the network; 0 is none, as
            published. 2 costs 1 ms and helps by night; the features of both pictures have to be made alike.
    """

    most_features: int = 512
    least_keypoint: float = 0.05
    suppression: int = 5
    subpixel: bool = True
    largest_side: int = 1024
    contrast_limit: float = 0.0


@dataclass(frozen=True, eq=False)
class FeatureMaps:
    """What the network gives for one picture of (H, W) pixels, multiples of 32.

    Attributes:
        descriptors: (H / 8, W / 8, 64) float32, not of unit length.
        keypoints: (H, W) float32, how probable a pixel is the keypoint of its 8 x 8 cell.
        reliability: (H / 8, W / 8) float32, how well the descriptors there match, 0 to 1.
    """

    descriptors: Array
    keypoints: Array
    reliability: Array


class FeatureNetwork(Protocol):
    """What runs the feature network, whichever library it is.

    Attributes:
        identity: what it computes.
        device: where it runs: `cpu`, `cuda`, `tensorrt`.
        library: what runs it, and its version.
    """

    @property
    def identity(self) -> ModelIdentity: ...
    @property
    def device(self) -> str: ...
    @property
    def library(self) -> str: ...

    def __call__(self, grey: Array) -> FeatureMaps:
        """(H, W) float32, the mean of red, green and blue, levels 0 to 255; H and W multiples of 32."""


def feature_identity(architecture: str, weights_sha256: str, contrast_limit: float = 0.0) -> ModelIdentity:
    """What has to be equal for two local descriptors to be comparable."""
    recipe = f"{_RECIPE}; contrast limit {contrast_limit:g}" if contrast_limit else _RECIPE
    return ModelIdentity(architecture, weights_sha256, hashlib.sha256(recipe.encode()).hexdigest()[:16], "")


def equalised(grey: Array, limit: float) -> Array:
    """Grey levels (H, W) float32 -> the same with the contrast of each part of the picture raised, 0 to 255."""
    levels = np.asarray(cv2.convertScaleAbs(grey), np.uint8)
    return cv2.createCLAHE(limit, (_TILES, _TILES)).apply(levels).astype(np.float32)


def pick_points(maps: FeatureMaps, params: FeatureParams) -> tuple[Array, Array]:
    """The best points: (N, 2) float32 x, y in pixels of the network's input, and their scores (N,), falling."""
    height, width = maps.keypoints.shape
    square = np.ones((params.suppression, params.suppression), np.uint8)
    best = maps.keypoints == cv2.dilate(maps.keypoints, square)
    best &= maps.keypoints > params.least_keypoint
    best[-1] = best[:, -1] = best[0, 0] = False  # the published code gives them no score
    rows, columns = np.divmod(np.flatnonzero(best), width)
    points = np.column_stack([columns, rows]).astype(np.float32)
    reliability = _sampling(points, (height, width), maps.reliability.shape, _linear) @ maps.reliability.ravel()
    scores = maps.keypoints[rows, columns] * reliability
    order = np.argsort(-scores, kind="stable")[: params.most_features]
    order = order[scores[order] > 0]
    return points[order], scores[order]


def centred(maps: FeatureMaps, points: Array) -> Array:
    """Points (N, 2) of whole pixels -> (N, 2), each at the centre of mass of the 3 x 3 probabilities around it."""
    around = np.pad(maps.keypoints, 1)
    columns, rows = points.astype(np.intp).T
    step = np.arange(3)
    masses = around[rows[:, None, None] + step[:, None], columns[:, None, None] + step]
    across, down = masses.sum(axis=1), masses.sum(axis=2)
    moved = np.column_stack([across[:, 2] - across[:, 0], down[:, 2] - down[:, 0]]) / across.sum(axis=1)[:, None]
    return points + moved


def sample_descriptors(maps: FeatureMaps, points: Array) -> Array:
    """Points (N, 2) in pixels of the network's input -> (N, 64) float32 of unit length."""
    cells = maps.descriptors.shape[:2]
    sampled = _sampling(points, maps.keypoints.shape, cells, _cubic) @ _unit(
        maps.descriptors.reshape(-1, DESCRIPTOR_WIDTH)
    )
    return _unit(sampled)


def _unit(rows: Array) -> Array:
    return rows / np.maximum(np.sqrt(np.einsum("nc,nc->n", rows, rows)), np.float32(1e-12))[:, None]


def _sampling(points: Array, size: Sequence[int], cells: Sequence[int], kernel: Kernel) -> sparse.csr_array:
    """(N, cells) matrix that samples a map, row by row, at points of the picture; outside of the map is zero.

    The published code takes the centre of the last pixel for the map's edge, and half a cell before it for that of the
    first: reproduced, since descriptors were always compared so.
    """
    (height, width), (rows, columns) = size, cells
    x, across = kernel(points[:, 0] * np.float32(columns / (width - 1)) - np.float32(0.5))
    y, down = kernel(points[:, 1] * np.float32(rows / (height - 1)) - np.float32(0.5))
    across[(x < 0) | (x >= columns)] = 0
    down[(y < 0) | (y >= rows)] = 0
    weights = down[:, :, None] * across[:, None, :]
    index = y.clip(0, rows - 1)[:, :, None] * columns + x.clip(0, columns - 1)[:, None, :]
    taps = weights[0].size if len(points) else 0
    starts = np.arange(len(points) + 1, dtype=np.int32) * taps
    return sparse.csr_array((weights.ravel(), index.ravel(), starts), shape=(len(points), rows * columns))


def _linear(at: Array) -> tuple[npt.NDArray[np.int32], Array]:
    """Positions (N,) -> the two cells around each and their weights, (N, 2)."""
    first = np.floor(at)
    part = at - first
    return first.astype(np.int32)[:, None] + np.arange(2, dtype=np.int32), np.column_stack([1 - part, part])


def _cubic(at: Array) -> tuple[npt.NDArray[np.int32], Array]:
    """Positions (N,) -> the four cells around each and their weights, (N, 4)."""
    first = np.floor(at)
    distance = np.abs((at - first)[:, None] - np.arange(-1, 3, dtype=np.float32))
    a = np.float32(_CUBIC)
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((distance - 5) * distance + 8) * distance * a - 4 * a
    return first.astype(np.int32)[:, None] + np.arange(-1, 3, dtype=np.int32), np.where(distance <= 1, near, far)
