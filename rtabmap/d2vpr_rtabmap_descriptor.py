"""The descriptor of d2vpr_ros inside RTAB-Map, as a PyDescriptor (RTAB-Map built with Python).

    Mem/GlobalDescriptorStrategy 1, Kp/TfIdfLikelihoodUsed false, PyDescriptor/Dim 0,
    PyDescriptor/Path .../share/d2vpr_ros/rtabmap/d2vpr_rtabmap_descriptor.py

RTAB-Map calls init once and extract for each image. Its Python has to find d2vpr_ros: source the workspace, or set
PYTHONPATH to the site-packages of the environment. D2VPR_WEIGHTS names other weights than nano.
"""

from __future__ import annotations

import os

import numpy as np

from d2vpr_ros.describe import Extractor

_extractor = None
_numbers = 0


def init(numbers):
    """Load the model. numbers: PyDescriptor/Dim, how many of the descriptor's numbers are kept; 0 keeps all."""
    global _extractor, _numbers
    _extractor, _numbers = Extractor.open(os.environ.get("D2VPR_WEIGHTS", "nano")), int(numbers)


def extract(image):
    """(1, D) float32 of unit length. image: (H, W, C) of RTAB-Map, blue first or grey, its bytes signed."""
    pixels = np.ascontiguousarray(image).view(np.uint8)
    rgb = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else np.ascontiguousarray(pixels[:, :, 2::-1])
    descriptor = _extractor.describe([rgb])[0]
    kept = descriptor[: _numbers or None]
    return np.ascontiguousarray(kept[None] / np.linalg.norm(kept), dtype=np.float32)
