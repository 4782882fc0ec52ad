"""From a picture to its local features: points that another view of the place has, too, each with a descriptor.

The network is XFeat (`d2vpr_ros.model.xfeat`). Two descriptors are compared by their cosine; mutual nearest neighbours
above about 0.8 are worth a look. Imports no torch.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from d2vpr_ros.describe.extractor import BACKENDS, DEVICES, one_of
from d2vpr_ros.describe.feature_points import (
    DESCRIPTOR_WIDTH,
    STRIDE,
    FeatureNetwork,
    FeatureParams,
    centred,
    equalised,
    feature_identity,
    pick_points,
    sample_descriptors,
)
from d2vpr_ros.describe.identity import ModelIdentity
from d2vpr_ros.describe.preprocess import check_image

__all__ = ["FeatureExtractor", "FeatureParams", "LocalFeatures"]

LEAST_CONTRAST = 1.0
"""Standard deviation in grey levels of 0 to 255. With less, the network's own scaling would enlarge rounding errors."""


@dataclass(frozen=True, eq=False)
class LocalFeatures:
    """The local features of one picture, best first.

    Attributes:
        points: (N, 2) float32, x to the right and y down in pixels of the picture as given; the centre of the first
            pixel is (0, 0), as in OpenCV.
        descriptors: (N, 64) float32, each of unit length.
        scores: (N,) float32, 0 to 1, falling: how surely a point is one, times how reliable its descriptor is.
        size: (width, height) of the picture in pixels.
    """

    points: npt.NDArray[np.float32]
    descriptors: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True, eq=False)
class FeatureExtractor:
    """Finds local features; open one with `FeatureExtractor.open`."""

    network: FeatureNetwork
    params: FeatureParams

    @staticmethod
    def open(
        weights: str = "xfeat",
        backend: str = "auto",
        device: str = "auto",
        params: FeatureParams | None = None,
    ) -> FeatureExtractor:
        """Load the network.

        Args:
            weights: the bundled `xfeat`, a weights file, or a file that `d2vpr export` wrote, which takes no torch to
                open.
            backend: what runs the network; `auto` takes onnxruntime for an exported file and where there is no torch.
            device: `auto` takes the GPU where there is one; `tensorrt` is for onnxruntime only.
            params: default `FeatureParams()`.

        Raises:
            UserError: no such weights, backend or device, or a file that is something else.
        """
        one_of("backend", backend, BACKENDS)
        one_of("device", device, DEVICES)
        if backend == "auto":
            exported = Path(weights).suffix == ".onnx"
            backend = "onnxruntime" if exported or importlib.util.find_spec("torch") is None else "torch"
        network: FeatureNetwork
        if backend == "onnxruntime":
            from d2vpr_ros.describe.features_onnx import open_features_onnx

            network = open_features_onnx(weights, device)
        else:
            from d2vpr_ros.describe.features_torch import open_features_torch

            network = open_features_torch(weights, device)
        return FeatureExtractor(network, params or FeatureParams())

    @property
    def identity(self) -> ModelIdentity:
        """Equal for two extractors whose descriptors can be compared."""
        made = self.network.identity
        return feature_identity(made.architecture, made.weights_sha256, self.params.contrast_limit)

    def extract(self, rgb: npt.NDArray[np.uint8]) -> LocalFeatures:
        """(H, W, 3) uint8 RGB of any size -> its features, at most `params.most_features`.

        There are none in a picture below 32 pixels a side, nor in one that is black or uniform. One whose longer side
        is above `params.largest_side` is looked at in that size.

        Raises:
            UserError: the image is empty or not RGB.
        """
        check_image(rgb)
        height, width = rgb.shape[:2]
        if min(height, width) < STRIDE:
            return _none((width, height))
        grey = grey_levels(rgb, self.params.largest_side)
        if float(cv2.meanStdDev(grey)[1][0, 0]) < LEAST_CONTRAST:
            return _none((width, height))
        if self.params.contrast_limit:
            grey = equalised(grey, self.params.contrast_limit)
        maps = self.network(grey)
        points, scores = pick_points(maps, self.params)
        descriptors = sample_descriptors(maps, points)
        if self.params.subpixel:
            points = centred(maps, points)
        ratio = np.array([width / grey.shape[1], height / grey.shape[0]], np.float32)
        return LocalFeatures((points + 0.5) * ratio - np.float32(0.5), descriptors, scores, (width, height))


def grey_levels(rgb: npt.NDArray[np.uint8], largest_side: int) -> npt.NDArray[np.float32]:
    """(H, W, 3) uint8 -> (H', W') float32, what the network takes: sides are multiples of 32, as published."""
    height, width = rgb.shape[:2]
    scale = min(1.0, largest_side / max(height, width))
    target = tuple(max(STRIDE, int(scale * side) // STRIDE * STRIDE) for side in (width, height))
    if scale < 1.0:  # averages over areas, so that no fine pattern turns into a coarse one
        rgb = np.asarray(cv2.resize(rgb, target, interpolation=cv2.INTER_AREA), np.uint8)
    grey = cv2.transform(rgb.astype(np.float32), np.full((1, 3), 1 / 3, np.float32))
    return np.asarray(cv2.resize(grey, target, interpolation=cv2.INTER_LINEAR), np.float32)


def _none(size: tuple[int, int]) -> LocalFeatures:
    return LocalFeatures(
        np.empty((0, 2), np.float32), np.empty((0, DESCRIPTOR_WIDTH), np.float32), np.empty(0, np.float32), size
    )
