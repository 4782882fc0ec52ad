"""Writing the feature network as one ONNX graph of any height and width, and checking what was written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from d2vpr_ros.describe.feature_points import FeatureParams
from d2vpr_ros.describe.features import FeatureExtractor, LocalFeatures
from d2vpr_ros.describe.features_onnx import open_exported_features
from d2vpr_ros.describe.features_torch import open_features_torch
from d2vpr_ros.describe.gate_pictures import gate_pictures
from d2vpr_ros.describe.onnx_export import OPSETS, quiet
from d2vpr_ros.describe.onnx_file import metadata_of
from d2vpr_ros.errors import UserError
from d2vpr_ros.outfile import new_file

LEAST_COSINE = 0.9999
LEAST_SHARE = 0.99
"""What an exported file has to reach against torch; see `FeatureAgreement`."""
SAME_POINT_PX = 0.1


@dataclass(frozen=True)
class FeatureAgreement:
    """How near the features of an exported file are to torch's.

    Attributes:
        images: compared.
        share: the least share of an image's points that both find, 0 to 1; at the last places of the ranking two may
            change places by rounding.
        cosine: the least of the descriptors of such a point.
    """

    images: int
    share: float
    cosine: float


def export_features(
    weights: Path,
    out: Path,
    opset: int = OPSETS[0],
    images: Sequence[npt.NDArray[np.uint8]] = (),
    force: bool = False,
) -> FeatureAgreement:
    """Write `out`; input float32 (N, H, W), what `FeatureNetwork` takes; output the three maps of `FeatureMaps`.

    Args:
        images: (H, W, 3) uint8 RGB to check the file with; none takes drawn ones.
        force: whether `out` may be replaced.

    Raises:
        UserError: the libraries are missing, or what was written differs too much from torch; `out` is not there then.
    """
    try:
        import onnx
    except ImportError as error:
        raise UserError(f"an export needs the package onnx ({error}); `pip install d2vpr_ros[export]`") from None
    network = open_features_torch(str(weights), "cpu")
    names = ["descriptors", "keypoints", "reliability"]
    axes = {name: {0: "batch", 1: f"{name} height", 2: f"{name} width"} for name in ["grey", *names]}
    with new_file(out, force=force) as path:
        with quiet(), torch.inference_mode():
            torch.onnx.export(
                network.model, (torch.rand(1, 64, 96) * 255,), str(path), opset_version=opset, dynamo=False,
                input_names=["grey"], output_names=names, dynamic_axes=axes,
            )  # fmt: skip
        model = onnx.load(str(path))
        onnx.helper.set_model_props(model, metadata_of(network.identity, "exact"))
        path.write_bytes(model.SerializeToString(deterministic=True))
        params = FeatureParams()
        written = FeatureExtractor(open_exported_features(path, "cpu"), params)
        agreement = compare_features(FeatureExtractor(network, params), written, images or list(gate_pictures(6)))
        if not (agreement.cosine >= LEAST_COSINE and agreement.share >= LEAST_SHARE):  # nan is refused, too
            raise UserError(
                f"{out} is not written: against torch {agreement.share:.1%} of the points are the same (expected "
                f"{LEAST_SHARE:.0%}) with cosine {agreement.cosine:.6f} (expected {LEAST_COSINE}); try another --opset"
            )
    return agreement


def compare_features(
    one: FeatureExtractor, other: FeatureExtractor, images: Sequence[npt.NDArray[np.uint8]]
) -> FeatureAgreement:
    """What becomes of `one`'s features with `other`."""
    agreements = [_agreement(one.extract(image), other.extract(image)) for image in images]
    shares, cosines = zip(*agreements, strict=True)
    return FeatureAgreement(len(images), min(shares), float(np.min(cosines)))


def _agreement(one: LocalFeatures, other: LocalFeatures) -> tuple[float, float]:
    """Share and cosine of `FeatureAgreement`, of one image."""
    if not len(one) or not len(other):
        return float(len(one) == len(other)), 1.0
    apart = np.linalg.norm(one.points[:, None] - other.points, axis=2)
    nearest, same = apart.argmin(axis=1), apart.min(axis=1) <= SAME_POINT_PX
    cosines = np.einsum("nc,nc->n", one.descriptors, other.descriptors[nearest])[same]
    return float(same.mean()), float(cosines.min(initial=1.0))
