"""The feature network run by torch."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from d2vpr_ros.describe.feature_points import Array, FeatureMaps, feature_identity
from d2vpr_ros.describe.identity import ModelIdentity
from d2vpr_ros.describe.torch_network import torch_device, torch_weights_path
from d2vpr_ros.describe.weights import file_sha256
from d2vpr_ros.model.xfeat import ARCHITECTURE, XFeat, load_xfeat


@dataclass(frozen=True, eq=False)
class TorchFeatureNetwork:
    """See `feature_points.FeatureNetwork`."""

    model: XFeat
    identity: ModelIdentity
    device: str

    @property
    def library(self) -> str:
        return f"torch {torch.__version__}"

    def __call__(self, grey: Array) -> FeatureMaps:
        with torch.inference_mode():
            maps = self.model(torch.from_numpy(grey)[None].to(self.device))
        descriptors, keypoints, reliability = (each[0].cpu().numpy() for each in maps)
        return FeatureMaps(descriptors, keypoints, reliability)


def open_features_torch(weights: str, device: str) -> TorchFeatureNetwork:
    """What `FeatureExtractor.open` asks of torch; the arguments are its.

    Raises:
        UserError: no such weights or device, or a file that is something else.
    """
    device = torch_device(device)
    path = torch_weights_path(weights)
    model = load_xfeat(path).to(device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster on a processor
    return TorchFeatureNetwork(model, feature_identity(ARCHITECTURE, file_sha256(path)), device)
