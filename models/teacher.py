"""The distillation teacher: an ImageNet MobileNet v1 (8-bit TFLite, Apache-2.0) and its last feature map.

Needed only for training; run by ai-edge-litert, an extra.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA  # type: ignore[import-untyped]
from tqdm import tqdm

from d2vpr_ros.errors import UserError

FILE = "mobilenet_v1_1.0_224_quant_embedding_extractor.tflite"
SIDE = 7
"""The teacher's map is SIDE x SIDE cells of 1024 channels."""


def interpreter(path: Path, threads: int = 1) -> Any:
    """The interpreter of a TFLite file, ready to run.

    Raises:
        UserError: there is no such file, or ai-edge-litert is not installed.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise UserError("the teacher needs ai-edge-litert: pip install ai-edge-litert") from error
    if not path.is_file():
        raise UserError(f"{path}: no such teacher; expected {FILE} of google-coral/test_data")
    ready = Interpreter(str(path), num_threads=threads)
    ready.allocate_tensors()
    return ready


class Teacher:
    """Runs the network up to the map in front of its average pooling."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        self._interpreter = interpreter(path, threads)
        self._input = self._interpreter.get_input_details()[0]["index"]
        maps = [
            tensor
            for tensor in self._interpreter.get_tensor_details()
            if tuple(tensor["shape"]) == (1, SIDE, SIDE, 1024) and "Conv2d_13_pointwise/Relu6" in tensor["name"]
        ]
        if len(maps) != 1:
            raise UserError(f"{path}: expected a MobileNet v1 with one {SIDE}x{SIDE}x1024 map, found {len(maps)}")
        self._map = maps[0]["index"]

    def __call__(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """(3, 224, 224) uint8 RGB -> (49, 1024) uint8, row by row; zero is zero, the scale is the quantisation's."""
        self._interpreter.set_tensor(self._input, np.ascontiguousarray(image.transpose(1, 2, 0))[None])
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._map).reshape(SIDE * SIDE, 1024).copy()


@dataclass(frozen=True)
class Basis:
    """Brings a cell's 1024 numbers (brought to unit length) to fewer: centred, decorrelated, softly whitened."""

    mean: npt.NDArray[np.float32]
    components: npt.NDArray[np.float32]

    @classmethod
    def fitted(cls, cells: npt.NDArray[np.uint8], channels: int) -> Basis:
        """From (N, 1024) cells. The square root of whitening: rare directions count, noise does not take over."""
        pca = PCA(channels, svd_solver="randomized", random_state=0).fit(_unit(cells))
        scale = pca.explained_variance_[:, None] ** -0.25
        return cls(pca.mean_.astype(np.float32), (pca.components_ * scale).astype(np.float32))

    def __call__(self, cells: npt.NDArray[np.uint8]) -> npt.NDArray[np.float16]:
        """(..., 1024) -> (..., channels), each cell of unit length."""
        projected = (_unit(cells) - self.mean) @ self.components.T
        length = np.linalg.norm(projected, axis=-1, keepdims=True)
        return (projected / np.maximum(length, 1e-6)).astype(np.float16)


def _unit(cells: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    wide = cells.astype(np.float32)
    return wide / np.maximum(np.linalg.norm(wide, axis=-1, keepdims=True), 1.0)


def describe_all(
    images: npt.NDArray[np.uint8], teacher_file: Path, channels: int, basis: Basis | None = None
) -> tuple[npt.NDArray[np.float16], Basis]:
    """(N, 3, 224, 224) uint8 -> the teacher's maps (N, 49, channels) float16 and their basis.

    The basis is fitted on these pictures unless given.
    """
    teacher = Teacher(teacher_file)
    maps = np.stack([teacher(image) for image in tqdm(images, desc="teacher", mininterval=10)])
    if basis is None:
        cells = maps.reshape(-1, maps.shape[-1])
        chosen = np.random.default_rng(0).permutation(len(cells))[:30_000]
        basis = Basis.fitted(cells[chosen], channels)
    return np.concatenate([basis(part) for part in np.array_split(maps, max(1, len(maps) // 256))]), basis
