"""The preset `fast` with ONNX Runtime: a reduced form of the weights where that is faster here, else float32."""

from __future__ import annotations

import logging
import statistics
import time

import numpy as np

from d2vpr_ros.describe.onnx_network import OnnxNetwork, open_exported
from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.describe.weights import onnx_path
from d2vpr_ros.errors import UserError

log = logging.getLogger(__name__)

MIN_GAIN = 1.1
"""Times float32's speed that a reduced form is taken with; less is not worth another rounding."""

_ROUNDS, _WARM_UP = 9, 2


def open_fast(weights: str, device: str, projection: str, preprocessor: Preprocessor) -> OnnxNetwork:
    """8 bits on a processor, 16 on a GPU; float32 where those differ too much from it or are no faster.

    Raises:
        UserError: as `onnx_network.open_onnx`.
    """
    exact = open_exported(onnx_path(weights, projection), "fast", device, preprocessor)
    form = "int8" if exact.device == "cpu" else "fp16"
    try:
        reduced = open_exported(onnx_path(weights, projection, form), "fast", device, preprocessor)
    except UserError as error:
        log.info("precision fast: float32, because %s", error)
        return exact
    gain = gain_of(exact, reduced)
    log.info("precision fast: %s is %.2f times as fast as float32; from %g on it is taken", form, gain, MIN_GAIN)
    return reduced if gain >= MIN_GAIN else exact


def gain_of(exact: OnnxNetwork, reduced: OnnxNetwork) -> float:
    """Times as fast with one image: the median of alternating rounds."""
    image = np.zeros((1, exact.size, exact.size, 3), np.uint8)
    ratios = []
    for _ in range(_ROUNDS + _WARM_UP):
        clocks = [time.perf_counter()]
        for network in (exact, reduced):
            network(image)
            clocks.append(time.perf_counter())
        ratios.append((clocks[1] - clocks[0]) / (clocks[2] - clocks[1]))
    return statistics.median(ratios[_WARM_UP:])
