"""The network run by torch."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from d2vpr_ros.describe import precision as precisions
from d2vpr_ros.describe.gate import footage_refusals
from d2vpr_ros.describe.identity import ModelIdentity
from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.describe.projection import Projection
from d2vpr_ros.describe.weights import file_sha256, projection_of, weights_path
from d2vpr_ros.errors import UserError
from d2vpr_ros.model import D2VPR, fuse, load_checkpoint

log = logging.getLogger(__name__)


class Whole(nn.Module):
    """(N, S, S, 3) uint8 RGB -> (N, width) float32 of unit length: normalisation, network, projection."""

    def __init__(self, network: nn.Module, preprocessor: Preprocessor, projection: Projection | None) -> None:
        super().__init__()
        self.network, self.preprocessor = network, preprocessor
        self.mean = self.components = None
        if projection is not None:
            self.mean = nn.Parameter(torch.from_numpy(projection.mean), requires_grad=False)
            self.components = nn.Parameter(torch.from_numpy(projection.components), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        descriptors = self.network(self.preprocessor.normalise(images.permute(0, 3, 1, 2)))
        if self.mean is None or self.components is None:
            return descriptors
        projected = nn.functional.linear(descriptors - self.mean, self.components)
        return nn.functional.normalize(projected, dim=-1)


@dataclass(frozen=True, eq=False)
class TorchNetwork:
    """See `extractor.Network`."""

    whole: Whole
    identity: ModelIdentity
    width: int
    device: str

    @property
    def library(self) -> str:
        return f"torch {torch.__version__}"

    @property
    def threads(self) -> int:
        return torch.get_num_threads()

    @contextmanager
    def one_thread(self) -> Iterator[TorchNetwork]:
        threads = self.threads
        torch.set_num_threads(1)
        try:
            yield self
        finally:
            torch.set_num_threads(threads)

    def squash(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        return self.whole.preprocessor.squash(image, self.device)

    def __call__(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            return self.whole(torch.from_numpy(images).to(self.device)).cpu().numpy()


def open_torch(
    weights: str,
    precision: str,
    device: str,
    projection: str,
    preprocessor: Preprocessor,
    images: Sequence[npt.NDArray[np.uint8]] | None = None,
) -> TorchNetwork:
    """What `Extractor.open` asks of torch; the arguments are its.

    Raises:
        UserError: no such weights or device, or a file that is something else.
    """
    device = torch_device(device)
    path = torch_weights_path(weights)
    model = open_model(path)
    weights_sha256 = file_sha256(path)
    shortened = projection_of(projection, path, weights_sha256)
    fused = fuse(model, preprocessor.size).to(device)
    refused = footage_refusals(path, weights_sha256) if precision == "fast" else {}
    network, report = precisions.apply(
        fused, precision, device,
        images=images, weights_sha256=weights_sha256, projection=shortened, refused=refused,
    )  # fmt: skip
    if report.reason and precision != "exact":
        log.info("precision %s: %s", precision, report.reason)
    whole = Whole(network, preprocessor, shortened).eval().to(device)
    width = len(shortened.components) if shortened else model.config.descriptor_width
    return TorchNetwork(whole, identity_of(model, weights_sha256, preprocessor, shortened), width, device)


def torch_device(device: str) -> str:
    """`cpu` or `cuda`, for what was asked for.

    Raises:
        UserError: torch has no such device, here or at all.
    """
    if device == "tensorrt":
        raise UserError("device 'tensorrt' runs with backend 'onnxruntime' only; use device 'auto', 'cpu' or 'cuda'")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device 'cuda' was asked for, but torch finds no GPU here; use device 'auto' or 'cpu'")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def torch_weights_path(weights: str) -> Path:
    """`weights_path` of what torch can load.

    Raises:
        UserError: no such file, or it is an exported one.
    """
    path = weights_path(weights)
    if path.suffix == ".onnx":
        raise UserError(f"weights file {path} is an exported one; use it with backend 'onnxruntime'")
    return path


def open_model(path: Path) -> D2VPR:
    """The network of a weights file, in eval mode.

    Raises:
        UserError: it is no D²-VPR network, or one with a cross-image encoder.
    """
    model = load_checkpoint(path)
    if not isinstance(model, D2VPR) or model.encoder is not None:
        raise UserError(
            f"weights file {path} has a cross-image encoder, so a descriptor would depend on the other images of "
            "its batch; use weights without one for maps and live"
        )
    return model


def identity_of(
    model: D2VPR, weights_sha256: str, preprocessor: Preprocessor, projection: Projection | None
) -> ModelIdentity:
    hashed = (projection.hash, projection.fitted_on) if projection else ("", "")
    return ModelIdentity(model.config.name, weights_sha256, preprocessor.hash, *hashed)
