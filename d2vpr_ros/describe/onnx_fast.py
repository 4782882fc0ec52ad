"""The preset `fast` with ONNX Runtime: a reduced form of the weights where that is faster here, else float32.

The exported form was held against float32 when it was written; pictures of the site, where there are any, try it again.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Sequence

import numpy as np

from d2vpr_ros.describe.findings import MIN_GAIN, PrecisionReport, finding_key, read_findings, write_finding
from d2vpr_ros.describe.gate import Image, compare, described, footage_refusals, trial
from d2vpr_ros.describe.onnx_network import OnnxNetwork, open_exported
from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.describe.weights import file_sha256, onnx_path, weights_path
from d2vpr_ros.errors import UserError
from d2vpr_ros.share import cache_folder

log = logging.getLogger(__name__)

_ROUNDS, _WARM_UP = 9, 2
_REVISION = 1  # of what is measured, as precision.py's


def open_fast(
    weights: str, device: str, projection: str, preprocessor: Preprocessor, images: Sequence[Image] | None = None
) -> OnnxNetwork:
    """8 bits on a processor, 16 on a GPU; float32 where those differ too much from it or are no faster.

    Args:
        images: RGB pictures (H, W, 3) uint8 of different places to try it on, the map's at best.

    Raises:
        UserError: as `onnx_network.open_onnx`.
    """
    exact = open_exported(onnx_path(weights, projection), "fast", device, preprocessor)
    form = "int8" if exact.device == "cpu" else "fp16"
    source = weights_path(weights)
    refusal = footage_refusals(source, file_sha256(source)).get(f"onnx-{form}", "")
    if refusal:
        log.info("precision fast: float32; onnx-%s: %s", form, refusal)
        return exact
    try:
        reduced = open_exported(onnx_path(weights, projection, form), "fast", device, preprocessor)
    except UserError as error:
        log.info("precision fast: float32, because %s", error)
        return exact
    found = _finding(exact, reduced, images)
    log.info("precision fast: %s", found.reason)
    return reduced if found.form == reduced.form else exact


def _finding(exact: OnnxNetwork, reduced: OnnxNetwork, images: Sequence[Image] | None) -> PrecisionReport:
    """As it was found before with these files on this machine, else found now."""
    file = cache_folder() / "precision.json"
    where = (exact.device, exact.library, exact.threads)
    key = finding_key(_REVISION, *where, exact.path.name, reduced.path.name, images=images)
    found = read_findings(file).get(key)
    if found is None:
        found = _try(exact, reduced, images)
        write_finding(file, key, found)
    return found


def _try(exact: OnnxNetwork, reduced: OnnxNetwork, images: Sequence[Image] | None) -> PrecisionReport:
    gain, cosine = gain_of(exact, reduced), 1.0
    refusal = "" if gain >= MIN_GAIN else f"{gain:.2f} times the speed of float32, less than {MIN_GAIN}"
    if not refusal and images is not None:
        pictures = trial(exact.squash, images)
        kept = compare(described(exact, pictures), described(reduced, pictures))
        cosine, refusal = kept.cosine, kept.refusal
    if refusal:
        return PrecisionReport("fast", exact.form, 1.0, 1.0, f"float32; {reduced.form}: {refusal}")
    return PrecisionReport("fast", reduced.form, cosine, gain, f"{reduced.form}, {gain:.2f} times the speed of float32")


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
