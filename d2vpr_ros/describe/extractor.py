"""From images to descriptors with one set of weights."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.describe.projection import Projection
from d2vpr_ros.errors import UserError
from d2vpr_ros.model import D2VPR, load_checkpoint
from d2vpr_ros.share import weights_folder

BACKENDS = ("torch",)
PRECISIONS = ("exact",)
DEVICES = ("auto", "cpu", "cuda")
_BATCH = 16  # bounds the memory of one forward pass


@dataclass(frozen=True)
class ModelIdentity:
    """What has to be equal for two descriptors to be comparable; backend, device and precision are no part of it.

    Attributes:
        architecture: the network's size by name.
        weights_sha256: of the weights file, hexadecimal.
        preprocessing: `Preprocessor.hash`.
        projection: `Projection.hash`, empty without one.
        projection_fitted_on: in words, what the projection was fitted on; says nothing about comparability.
    """

    architecture: str
    weights_sha256: str
    preprocessing: str
    projection: str
    projection_fitted_on: str = field(default="", compare=False)

    def differences(self, other: ModelIdentity) -> str:
        """The fields that differ, in words; empty if none does."""
        mine, theirs = asdict(self), asdict(other)
        compared = [f.name for f in fields(self) if f.compare]
        return ", ".join(
            f"{name} {mine[name][:12] or 'none'} against {theirs[name][:12] or 'none'}"
            for name in compared
            if mine[name] != theirs[name]
        )


@dataclass(frozen=True, eq=False)
class Extractor:
    """Describes images; open one with `Extractor.open`."""

    model: D2VPR
    preprocessor: Preprocessor
    projection: Projection | None
    identity: ModelIdentity
    device: torch.device

    @staticmethod
    def open(
        weights: str = "nano",
        backend: str = "torch",
        precision: str = "exact",
        device: str = "auto",
        projection: str = "default",
    ) -> Extractor:
        """Load weights and everything that goes with them.

        Args:
            weights: a bundled name or a weights file.
            backend: what runs the network.
            precision: `exact` is float32.
            device: `auto` takes the GPU where there is one.
            projection: what shortens descriptors: `default`, the file beside the weights (`<name>.pca512.safetensors`)
                where there is one; `none`; or a file of models/fit_pca.py.

        Raises:
            UserError: no such weights, backend, precision or device, or a file that is something else.
        """
        _one_of("backend", backend, BACKENDS)
        _one_of("precision", precision, PRECISIONS)
        _one_of("device", device, DEVICES)
        if device == "cuda" and not torch.cuda.is_available():
            raise UserError("device 'cuda' was asked for, but torch finds no GPU here; use device 'auto' or 'cpu'")
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        path = weights_path(weights)
        model = load_checkpoint(path)
        if not isinstance(model, D2VPR) or model.encoder is not None:
            raise UserError(
                f"weights file {path} has a cross-image encoder, so a descriptor would depend on the other images of "
                "its batch; use weights without one for maps and live"
            )
        weights_sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        shortened = _projection(projection, path, weights_sha256)
        preprocessor = Preprocessor()
        hashed = (shortened.hash, shortened.fitted_on) if shortened else ("", "")
        identity = ModelIdentity(model.config.name, weights_sha256, preprocessor.hash, *hashed)
        return Extractor(model.to(device), preprocessor, shortened, identity, torch.device(device))

    @property
    def width(self) -> int:
        """Numbers in a descriptor."""
        return len(self.projection.components) if self.projection else self.model.config.descriptor_width

    def describe(self, images: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        """N images, each (H, W, 3) uint8 RGB of any size -> (N, width) float32, each row of unit length.

        Raises:
            UserError: an image is empty or not RGB.
        """
        batches = [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
        parts = [self.describe_prepared([self.prepare(image) for image in batch]) for batch in batches]
        return np.concatenate(parts) if parts else np.empty((0, self.width), np.float32)

    def prepare(self, image: npt.NDArray[np.uint8]) -> torch.Tensor:
        """(H, W, 3) uint8 RGB -> what `describe_prepared` takes: a small tensor, so that many images can wait.

        Raises:
            UserError: the image is empty or not RGB.
        """
        return self.preprocessor.resize(image)

    def describe_prepared(self, prepared: Sequence[torch.Tensor]) -> npt.NDArray[np.float32]:
        """One batch of N prepared images -> (N, width) float32, each row of unit length."""
        resized = torch.stack(list(prepared)).to(self.device)
        with torch.inference_mode():
            descriptors: npt.NDArray[np.float32] = self.model(self.preprocessor.normalise(resized)).cpu().numpy()
        return self.projection(descriptors) if self.projection else descriptors


def weights_path(weights: str) -> Path:
    """The file behind a bundled name or a path."""
    bundled = {path.stem: path for path in weights_folder().glob("*.safetensors") if "." not in path.stem}
    if weights in bundled:
        return bundled[weights]
    path = Path(weights).expanduser()
    if not path.is_file():
        raise UserError(f"no weights '{weights}': neither a file nor one of the bundled names ({', '.join(bundled)})")
    return path


def _projection(wanted: str, weights: Path, weights_sha256: str) -> Projection | None:
    """The projection that `Extractor.open` is asked for."""
    beside = weights.with_suffix(".pca512.safetensors")
    if wanted == "none" or (wanted == "default" and not beside.is_file()):
        return None
    path = beside if wanted == "default" else Path(wanted).expanduser()
    projection = Projection.load(path)
    if projection.weights_sha256 != weights_sha256:
        raise UserError(
            f"projection {path} was fitted for other weights than {weights.name}; fit it again with models/fit_pca.py"
        )
    return projection


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(f"{name} '{value}' is not known; choose one of {', '.join(known)}")
