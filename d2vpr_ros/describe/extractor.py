"""From images to descriptors with one set of weights."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from d2vpr_ros.describe.identity import ModelIdentity
from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.describe.weights import weights_path
from d2vpr_ros.errors import UserError

__all__ = ["BACKENDS", "DEVICES", "PRECISIONS", "Extractor", "ModelIdentity", "Network", "weights_path"]

BACKENDS = ("auto", "torch", "onnxruntime")
PRECISIONS = ("exact", "fast")
DEVICES = ("auto", "cpu", "cuda", "tensorrt")
_BATCH = 16  # bounds the memory of one forward pass


class Network(Protocol):
    """What runs a network, whichever library it is.

    Attributes:
        identity: what it computes.
        width: numbers in a descriptor.
        device: where it runs, as found out from the library: `cpu`, `cuda`, `tensorrt`.
        library: what runs it, and its version.
        threads: on a processor.
    """

    @property
    def identity(self) -> ModelIdentity: ...
    @property
    def width(self) -> int: ...
    @property
    def device(self) -> str: ...
    @property
    def library(self) -> str: ...
    @property
    def threads(self) -> int: ...

    def one_thread(self) -> AbstractContextManager[Network]:
        """The same network run by a single thread of the processor, within the block."""

    def squash(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB of any size -> (S, S, 3) uint8, the network's input size."""

    def __call__(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """(N, S, S, 3) uint8 RGB -> (N, width) float32, each row of unit length."""


@dataclass(frozen=True, eq=False)
class Extractor:
    """Describes images; open one with `Extractor.open`."""

    network: Network
    preprocessor: Preprocessor

    @staticmethod
    def open(
        weights: str = "nano",
        backend: str = "auto",
        precision: str = "exact",
        device: str = "auto",
        projection: str = "default",
        images: Sequence[npt.NDArray[np.uint8]] | None = None,
    ) -> Extractor:
        """Load weights and everything that goes with them.

        Args:
            weights: a bundled name, a weights file, or a file that `d2vpr export` wrote, which takes no torch to open.
            backend: what runs the network; `auto` takes onnxruntime for an exported file and where there is no torch.
            precision: `exact` is float32; `fast` what this machine computes faster and nearly as well, measured once:
                see describe/precision.py and describe/onnx_fast.py.
            device: `auto` takes the GPU where there is one; `tensorrt` is for onnxruntime only.
            projection: what shortens descriptors: `default`, the file beside the weights (`<name>.pca512.safetensors`)
                where there is one; `none`; or a file of models/fit_pca.py. An exported file has its own.
            images: RGB pictures (H, W, 3) uint8 of different places, the map's at best, to try `fast` on; without them
                it is tried on drawn ones.

        Raises:
            UserError: no such weights, backend, precision or device, or a file that is something else.
        """
        one_of("backend", backend, BACKENDS)
        one_of("precision", precision, PRECISIONS)
        one_of("device", device, DEVICES)
        if backend == "auto":
            exported = Path(weights).suffix == ".onnx"
            backend = "onnxruntime" if exported or importlib.util.find_spec("torch") is None else "torch"
        preprocessor = Preprocessor()
        network: Network
        if backend == "onnxruntime":
            if precision == "fast" and Path(weights).suffix != ".onnx":
                from d2vpr_ros.describe.onnx_fast import open_fast

                network = open_fast(weights, device, projection, preprocessor, images)
            else:
                from d2vpr_ros.describe.onnx_network import open_onnx

                network = open_onnx(weights, precision, device, projection, preprocessor)
        else:
            from d2vpr_ros.describe.torch_network import open_torch

            network = open_torch(weights, precision, device, projection, preprocessor, images)
        return Extractor(network, preprocessor)

    @property
    def identity(self) -> ModelIdentity:
        return self.network.identity

    @property
    def width(self) -> int:
        """Numbers in a descriptor."""
        return self.network.width

    @property
    def device(self) -> str:
        """Where the network runs: `cpu`, `cuda` or `tensorrt`."""
        return self.network.device

    def describe(self, images: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        """N images, each (H, W, 3) uint8 RGB of any size -> (N, width) float32, each row of unit length.

        Raises:
            UserError: an image is empty or not RGB.
        """
        batches = [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
        parts = [self.describe_prepared([self.prepare(image) for image in batch]) for batch in batches]
        return np.concatenate(parts) if parts else np.empty((0, self.width), np.float32)

    def prepare(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB -> the (S, S, 3) that `describe_prepared` takes: small, so that many images can wait.

        Raises:
            UserError: the image is empty or not RGB.
        """
        return self.network.squash(image)

    def describe_prepared(self, prepared: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        """One batch of N prepared images -> (N, width) float32, each row of unit length."""
        return self.network(prepared[0][None] if len(prepared) == 1 else np.stack(prepared))


def one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(f"{name} '{value}' is not known; choose one of {', '.join(known)}")
