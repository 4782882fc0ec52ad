"""A linear projection that shortens descriptors: PCA, centred, renormalised."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from d2vpr_ros.errors import UserError

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Projection:
    """D numbers -> K numbers.

    Attributes:
        mean: (D,) float32, what is taken off first.
        components: (K, D) float32, one direction a row.
        weights_sha256: of the weights it was fitted for; it fits no others.
        fitted_on: which pictures, in words.
    """

    mean: Float32
    components: Float32
    weights_sha256: str
    fitted_on: str = ""

    @property
    def hash(self) -> str:
        digest = hashlib.sha256(np.ascontiguousarray(self.mean).tobytes())
        digest.update(np.ascontiguousarray(self.components).tobytes())
        return digest.hexdigest()[:16]

    def __call__(self, descriptors: Float32) -> Float32:
        """(N, D) -> (N, K) float32 of unit length.

        After centring, inner products rank as distances do only if renormalised.
        """
        projected = (descriptors - self.mean) @ self.components.T
        return projected / np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), 1e-12)

    @staticmethod
    def load(path: Path) -> Projection:
        """Read `mean`, `components` and the notes `weights_sha256` and `fitted_on` from safetensors.

        Raises:
            UserError: the file is missing or holds something else.
        """
        try:
            with safe_open(path, framework="np") as file:
                mean = file.get_tensor("mean").astype(np.float32)
                components = file.get_tensor("components").astype(np.float32)
                notes = file.metadata() or {}
                weights_sha256, fitted_on = notes["weights_sha256"], notes.get("fitted_on", "")
        except FileNotFoundError:
            raise UserError(f"projection file {path} does not exist; fit one with models/fit_pca.py") from None
        except (SafetensorError, OSError, KeyError) as error:
            raise UserError(
                f"projection file {path} is not readable ({error}); expected safetensors with mean, components "
                "and weights_sha256, as models/fit_pca.py writes them"
            ) from None
        if components.ndim != 2 or mean.shape != components.shape[1:]:
            raise UserError(
                f"projection file {path} holds mean {mean.shape} and components {components.shape}; "
                "expected (D,) and (K, D)"
            )
        return Projection(mean, components, weights_sha256, fitted_on)
