"""Writing a network as one ONNX graph, from uint8 RGB to the projected descriptor, and checking what was written."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.onnx.utils import register_custom_op_symbolic, unregister_custom_op_symbolic

from d2vpr_ros.describe.gate import Kept, compare, described, trial
from d2vpr_ros.describe.gate_pictures import gate_pictures
from d2vpr_ros.describe.onnx_file import metadata_of
from d2vpr_ros.describe.onnx_network import open_exported
from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.describe.torch_network import TorchNetwork, open_torch
from d2vpr_ros.errors import UserError
from d2vpr_ros.outfile import new_file

OPSETS = (17, 20)
LEAST_COSINE = 0.99999
"""What an exact file has to reach against torch in float32, image by image; for the others see gate.py."""

_CHECKED_TOGETHER = 3  # the batch is dynamic: checked at 1 and at this


@dataclass(frozen=True)
class Agreement:
    """How near an exported file is to torch in float32.

    Attributes:
        images: compared.
        kept: what became of torch's descriptors.
        difference: the largest of any number of a descriptor.
    """

    images: int
    kept: Kept
    difference: float


def export(
    weights: Path,
    out: Path,
    projection: str = "default",
    precision: str = "exact",
    opset: int = OPSETS[0],
    images: Sequence[npt.NDArray[np.uint8]] = (),
    force: bool = False,
) -> Agreement:
    """Write `out`; input uint8 (N, S, S, 3) RGB, squashed to S x S already, output float32 (N, width).

    Args:
        projection, precision: as `Extractor.open`'s projection; exact, fp16 or int8. fp16 multiplies matrices in half
            precision and does everything else in float32; int8 the backbone's matrices, scaled image by image.
        images: (H, W, 3) uint8 RGB of different places to check the file with; none takes drawn ones.
        force: whether `out` may be replaced.

    Raises:
        UserError: the libraries are missing, or what was written differs too much from torch; `out` is not there then.
    """
    try:
        import onnx
    except ImportError as error:
        raise UserError(f"an export needs the package onnx ({error}); `pip install d2vpr_ros[export]`") from None
    network = open_torch(str(weights), "exact", "cpu", projection, Preprocessor())
    size = network.whole.preprocessor.size
    with new_file(out, force=force) as path:
        picture = torch.zeros(2, size, size, 3, dtype=torch.uint8)
        batch = {0: "batch"}
        with quiet(), _transposes():
            torch.onnx.export(
                network.whole, (picture,), str(path), opset_version=opset, dynamo=False,
                input_names=["images"], output_names=["descriptors"],
                dynamic_axes={"images": batch, "descriptors": batch},
            )  # fmt: skip
        model = onnx.load(str(path))
        if precision == "fp16":
            from d2vpr_ros.describe.onnx_half import halve

            halve(model)
        if precision == "int8":
            from d2vpr_ros.describe.onnx_int8 import quantise

            model = quantise(model, path)
        model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = network.width
        onnx.helper.set_model_props(model, metadata_of(network.identity, precision))
        path.write_bytes(model.SerializeToString(deterministic=True))
        agreement = check(path, network, precision, images)
        if refusal := _refusal(agreement.kept, precision):
            raise UserError(
                f"{out} is not written: against torch in float32 {refusal}; use --precision exact, or another --opset"
            )
    return agreement


def check(path: Path, network: TorchNetwork, precision: str, images: Sequence[npt.NDArray[np.uint8]]) -> Agreement:
    """The file on ONNX Runtime (CPU) against torch, each preparing the images as it does."""
    asked = "exact" if precision == "exact" else "fast"
    written = open_exported(path, asked, "cpu", network.whole.preprocessor)
    if precision == "exact" and not images:
        images = list(gate_pictures(6))  # differs by rounding only: no need of places that are hard to tell apart
    squashed = trial(network.squash, images or None)
    wholes, alone = described(network, squashed), described(written, squashed)
    starts = range(0, len(squashed), _CHECKED_TOGETHER)
    together = np.concatenate([written(squashed[at : at + _CHECKED_TOGETHER]) for at in starts])
    kept = [compare(wholes, found) for found in (alone, together)]
    worst = Kept(float(np.min([one.cosine for one in kept])), max(one.changed for one in kept))  # nan is the worst
    return Agreement(len(squashed), worst, max(float(np.abs(wholes - found).max()) for found in (alone, together)))


def _refusal(kept: Kept, precision: str) -> str:
    if precision == "exact" and not kept.cosine >= LEAST_COSINE:
        return f"cosine {kept.cosine:.6f}, less than {LEAST_COSINE:g}"
    return kept.refusal


@contextmanager
def _transposes() -> Iterator[None]:
    """The exporter does not know `Tensor.mT`."""

    def transposed(graph: Any, tensor: Any) -> Any:
        rank = tensor.type().dim()
        return graph.op("Transpose", tensor, perm_i=[*range(rank - 2), rank - 1, rank - 2])

    register_custom_op_symbolic("aten::mT", transposed, OPSETS[0])
    try:
        yield
    finally:
        unregister_custom_op_symbolic("aten::mT", OPSETS[0])


@contextmanager
def quiet() -> Iterator[None]:
    """The exporter warns of being the older one, and of each size that it takes as fixed, which it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
