"""The feature network run by ONNX Runtime, from a file that `d2vpr export` wrote. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from d2vpr_ros.describe.feature_points import DESCRIPTOR_WIDTH, STRIDE, Array, FeatureMaps, feature_identity
from d2vpr_ros.describe.identity import ModelIdentity
from d2vpr_ros.describe.onnx_file import identity_of, read_onnx
from d2vpr_ros.describe.onnx_network import cannot_run, open_session, running_device
from d2vpr_ros.describe.weights import file_sha256, kept_onnx, weights_path
from d2vpr_ros.errors import UserError

if TYPE_CHECKING:
    import onnxruntime

WAY_OUT = "export the network again: d2vpr export xfeat -o FILE.onnx"


@dataclass(frozen=True, eq=False)
class OnnxFeatureNetwork:
    """See `feature_points.FeatureNetwork`."""

    session: onnxruntime.InferenceSession
    identity: ModelIdentity
    device: str

    @property
    def library(self) -> str:
        import onnxruntime

        return f"onnxruntime {onnxruntime.__version__}"

    def __call__(self, grey: Array) -> FeatureMaps:
        descriptors, keypoints, reliability = self.session.run(None, {self.session.get_inputs()[0].name: grey[None]})
        return FeatureMaps(descriptors[0], keypoints[0], reliability[0])


def open_features_onnx(weights: str, device: str) -> OnnxFeatureNetwork:
    """What `FeatureExtractor.open` asks of ONNX Runtime; the arguments are its.

    Raises:
        UserError: no such weights, no ONNX Runtime, not that device here, or a file that is something else.
    """
    path = Path(weights).expanduser()
    if path.suffix != ".onnx":
        source = weights_path(weights)
        path = kept_onnx(weights, source, file_sha256(source)[:16], lambda kept: _export(source, kept))
    return open_exported_features(path, device)


def open_exported_features(path: Path, device: str) -> OnnxFeatureNetwork:
    """An exported file, whatever it is called; else as `open_features_onnx`."""
    session = open_session(read_onnx(path), path, device)
    identity = identity_of(session.get_modelmeta().custom_metadata_map, path)
    if identity != feature_identity(identity.architecture, identity.weights_sha256):
        raise UserError(f"ONNX file {path} holds {identity.architecture}, no network of local features; {WAY_OUT}")
    network = OnnxFeatureNetwork(session, identity, running_device(session))
    for sides in ((STRIDE, STRIDE), (2 * STRIDE, 3 * STRIDE)):
        try:
            maps = network(np.zeros(sides, np.float32))
        except Exception as error:  # ONNX Runtime's own exceptions have no common base
            raise cannot_run(path, error) from None
        cells = (sides[0] // 8, sides[1] // 8)
        found = [each.shape for each in (maps.descriptors, maps.keypoints, maps.reliability)]
        if found != [(*cells, DESCRIPTOR_WIDTH), sides, cells]:
            raise UserError(f"ONNX file {path} gives maps of shapes {found} for a picture of {sides}; {WAY_OUT}")
        if not all(np.isfinite(each).all() for each in (maps.descriptors, maps.keypoints, maps.reliability)):
            raise UserError(f"ONNX file {path} gives numbers that are not finite; {WAY_OUT}")
    return network


def _export(source: Path, out: Path) -> None:
    from d2vpr_ros.describe.feature_export import export_features

    export_features(source, out, force=True)
