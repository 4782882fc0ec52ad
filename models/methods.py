"""What describes images in an evaluation: our weights, the encoder over batches, a baseline, or a peer's file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from d2vpr_ros.describe.extractor import Extractor
from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.describe.projection import Projection
from d2vpr_ros.describe.weights import file_sha256, weights_path
from d2vpr_ros.errors import UserError
from d2vpr_ros.model import load_checkpoint
from models.thumbnail import describe_thumbnails

Image = npt.NDArray[np.uint8]
Describe = Callable[[Sequence[Image]], npt.NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Method:
    """One column of the table.

    Attributes:
        name: of the column.
        describe: N images (H, W, 3) uint8 RGB of any size -> (N, D) float32; brought to unit length afterwards.
        said: what it is, for people who read the result later.
        batch: images described at once; with a cross-image encoder the result depends on it.
        shuffled: describe the images in random order, so that neighbours of a drive do not share a batch.
    """

    name: str
    describe: Describe
    said: str
    batch: int = 32
    shuffled: bool = False


def of_weights(weights: str, projection: str) -> Method:
    """A bundled name or a weights file.

    Raises:
        UserError: see `Extractor.open`.
    """
    extractor = Extractor.open(weights, projection=projection)
    return Method(Path(weights).stem, extractor.describe, f"{extractor.width} numbers, {extractor.identity}")


def thumbnails() -> Method:
    return Method("thumbnail", describe_thumbnails, "patch-normalised, 64 x 32 (the baseline to beat)")


def of_encoder(weights: str, batch: int, projection: str, shuffled: bool) -> list[Method]:
    """Weights with a cross-image encoder, in the order of the data set and, if asked for, in random order.

    Each descriptor attends over the images of its batch. In the order of a drive those show neighbouring places, which
    helps in a way that no robot has; the shuffled run shows how much. The last batch of a set is smaller.

    Raises:
        UserError: the weights have no encoder, the batch is none, or the projection is of other weights.
    """
    if batch < 1:
        raise UserError(f"--encoder-batch {batch}: expected a number of images of at least 1")
    path = weights_path(weights)
    network = load_checkpoint(path)
    if getattr(network, "encoder", None) is None:
        raise UserError(f"weights file {path} has no cross-image encoder; leave --encoder-batch out")
    preprocess = Preprocessor()
    shorten = None if projection in ("default", "none") else Projection.load(Path(projection))
    if shorten is not None and shorten.weights_sha256 != file_sha256(path):
        raise UserError(f"projection {projection} was fitted for other weights than {path.name}; fit it anew")

    def describe(images: Sequence[Image]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            whole = network(preprocess(images)).numpy()
        return whole if shorten is None else shorten(whole)

    said = f"{path.name}, encoder over batches of {batch}"
    methods = [Method(f"batch {batch}", describe, f"{said} in the order of the data set", batch)]
    if shuffled:
        methods.append(Method(f"batch {batch}, shuffled", describe, f"{said}, images shuffled", batch, True))
    return methods


def descriptors(method: Method, images: Sequence[Image], file: Path, what: str) -> npt.NDArray[np.float32]:
    """All images as (N, D) float32 of unit length in `file`, memory-mapped: a batch at a time is held in memory.

    Raises:
        UserError: the method gives something else than one finite vector an image.
    """
    order = np.random.default_rng(0).permutation(len(images)) if method.shuffled else np.arange(len(images))
    out: npt.NDArray[np.float32] | None = None
    starts = range(0, len(images), method.batch)
    for start in tqdm(starts, desc=f"{method.name}: {what}", mininterval=2, disable=None, leave=False):
        rows = order[start : start + method.batch]
        described = np.asarray(method.describe([images[int(row)] for row in rows]), np.float32)
        if described.ndim != 2 or len(described) != len(rows) or not np.isfinite(described).all():
            raise UserError(f"{method.name}: {len(rows)} images gave {described.shape} or not finite numbers")
        if out is None:
            shape = (len(images), described.shape[1])
            out = np.lib.format.open_memmap(file, "w+", np.float32, shape)  # type: ignore[no-untyped-call]
        out[rows] = described / np.maximum(np.linalg.norm(described, axis=1, keepdims=True), 1e-12)
    if out is None:
        raise UserError(f"{what}: no images to describe")
    return out
