"""Pretrained backbones as peers: what they are worth at places with nothing learned, beside weights that were trained.

The files are those that models/backbones.py makes. Two of the peers need a look at some pictures first (a mean, a
vocabulary); they are given training pictures, never those of a benchmark.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from sklearn.cluster import MiniBatchKMeans  # type: ignore[import-untyped]
from torch import Tensor
from torch.nn import functional

from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.describe.resample import squash
from d2vpr_ros.errors import UserError
from d2vpr_ros.model import D2VPR, SMALL
from d2vpr_ros.model.checkpoint import read_state_dict
from d2vpr_ros.model.vit import Block
from models.block_cache import frozen_taps
from models.data import read_rgb, training_pictures
from models.dinov2 import start_from_dinov2
from models.efficientnet import EfficientNetLite
from models.methods import Image, Method
from models.peers import GEM, of_tflite
from models.teacher import FILE as MOBILENET

DINOV2, EFFICIENTNET = "dinov2_small.safetensors", "efficientnet_lite2.safetensors"
READ_BLOCK = 8
"""The block whose output the next one's attention makes its values of: the best reading found, nothing trained."""
WORDS = 32
"""Of the vocabulary, as AnyLoc takes (arXiv 2308.00688)."""
LOOKED_AT = 240
"""Training pictures for the mean and the vocabulary."""
LITE2_SIDE = 260
"""Side of EfficientNet-Lite2's input."""


def of_folder(folder: Path, footage: Path) -> list[Method]:
    """Every peer, from the files in one folder.

    Args:
        footage: where the training pictures are, see `training_pictures`.

    Raises:
        UserError: a file is not there, or something else.
    """
    missing = [name for name in (DINOV2, EFFICIENTNET, MOBILENET) if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{folder}: no {', '.join(missing)} there; make the first two with `python -m models.backbones`, "
            f"{MOBILENET} is of google-coral/test_data"
        )
    pictures = training_pictures(footage)
    looked_at = [read_rgb(picture.path) for picture in pictures[:: max(1, len(pictures) // LOOKED_AT)]]
    values = values_of(folder / DINOV2)
    return [
        of_regions(values, looked_at, folder / DINOV2),
        of_vlad(values, looked_at, folder / DINOV2),
        of_tflite(folder / MOBILENET),
        of_efficientnet(folder / EFFICIENTNET),
    ]


Values = Callable[[Sequence[Image]], Tensor]


def values_of(path: Path) -> Values:
    """N images -> (N, 256, 384), what block READ_BLOCK + 1 of a DINOv2-small would pass on of each patch.

    Raises:
        UserError: the file is no DINOv2-small.
    """
    model = D2VPR(SMALL).eval()
    start_from_dinov2(model, path)
    preprocess, block = Preprocessor(), list(model.backbone.blocks)[READ_BLOCK]
    assert isinstance(block, Block)
    weight, bias = (part[2 * SMALL.width :] for part in (block.attn.qkv.weight, block.attn.qkv.bias))

    @torch.inference_mode()
    def values(images: Sequence[Image]) -> Tensor:
        tokens = frozen_taps(model.backbone, preprocess(images), READ_BLOCK)[:, -1]
        return functional.linear(block.norm1(tokens), weight, bias)[:, 1:]

    return values


def of_regions(values: Values, looked_at: Sequence[Image], file: Path) -> Method:
    """The mean value of 14 regions (the whole, quarters, ninths), each of unit length, without the usual picture."""

    def uncentred(images: Sequence[Image]) -> npt.NDArray[np.float32]:
        seen = values(images)
        maps = seen.mT.reshape(len(images), SMALL.width, 16, 16)
        parts = [functional.adaptive_avg_pool2d(maps, cells).flatten(2) for cells in (1, 2, 3)]
        return functional.normalize(torch.cat(parts, dim=2), dim=1).flatten(1).numpy()

    usual = np.concatenate([uncentred(looked_at[at : at + 16]) for at in range(0, len(looked_at), 16)]).mean(axis=0)
    said = f"DINOv2-small, untrained: values of block {READ_BLOCK + 1}, mean of 14 regions, centred"
    return Method("DINOv2 regions", lambda images: uncentred(images) - usual, said, file=file)


def of_vlad(values: Values, looked_at: Sequence[Image], file: Path) -> Method:
    """As AnyLoc: each patch's value is put to its nearest of WORDS words, and the differences are added up by word."""
    seen = torch.cat([values(looked_at[at : at + 16]) for at in range(0, len(looked_at), 16)])
    cells = functional.normalize(seen, dim=-1).flatten(0, 1)
    clusters = MiniBatchKMeans(WORDS, random_state=0, n_init=3, batch_size=4096).fit(cells.numpy())
    words = torch.from_numpy(clusters.cluster_centers_.astype(np.float32))

    def describe(images: Sequence[Image]) -> npt.NDArray[np.float32]:
        cells = functional.normalize(values(images), dim=-1)
        nearest = functional.one_hot(torch.cdist(cells, words[None]).argmin(dim=-1), WORDS).float()
        added = nearest.mT @ cells - nearest.sum(dim=1)[:, :, None] * words
        return functional.normalize(added, dim=-1).flatten(1).numpy()

    said = (
        f"DINOv2-small, untrained: values of block {READ_BLOCK + 1}, hard-assignment VLAD of {WORDS} words, as AnyLoc"
    )
    return Method("DINOv2 VLAD", describe, said, file=file)


def of_efficientnet(path: Path) -> Method:
    """EfficientNet-Lite2's last map, pooled by a generalised mean.

    Raises:
        UserError: the file is something else.
    """
    state, _ = read_state_dict(path)
    try:
        network = EfficientNetLite(state)
    except (KeyError, ValueError, RuntimeError) as error:
        raise UserError(f"{path}: not an EfficientNet-Lite of models/backbones.py ({error})") from None

    @torch.inference_mode()
    def describe(images: Sequence[Image]) -> npt.NDArray[np.float32]:
        batch = np.stack([squash(np.ascontiguousarray(image), LITE2_SIDE) for image in images])
        maps = network((torch.from_numpy(batch).permute(0, 3, 1, 2).float() - 127) / 128)
        return maps.flatten(2).clamp(min=1e-6).pow(GEM).mean(dim=2).pow(1 / GEM).numpy()

    return Method("EfficientNet-Lite2 GeM", describe, f"{path.name}: its last map by a generalised mean", file=path)
