"""What describes images in an evaluation: our weights, the encoder over batches, a baseline, or a peer's file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
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
READERS = 4
"""Threads that read and decode images."""
TIMED = 9
"""Runs that a method's time is the median of."""
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
        file: what it is loaded from.
    """

    name: str
    describe: Describe
    said: str
    batch: int = 32
    shuffled: bool = False
    file: Path | None = None


def of_weights(weights: str, projection: str, name: str) -> Method:
    """A bundled name or a weights file, as a column called `name`.

    Raises:
        UserError: see `Extractor.open`.
    """
    extractor = Extractor.open(weights, projection=projection)
    identity = extractor.identity
    parts = {"weights": identity.weights_sha256, "projection": identity.projection, "input": identity.preprocessing}
    hashes = ", ".join(f"{part} {value[:12] or 'none'}" for part, value in parts.items())
    said = f"{identity.architecture}, {extractor.width} numbers, {hashes}"
    return Method(name, extractor.describe, said, file=weights_path(weights))


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
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = load_checkpoint(path).to(device)
    if getattr(network, "encoder", None) is None:
        raise UserError(f"weights file {path} has no cross-image encoder; remove --encoder-batch")
    preprocess = Preprocessor()
    shorten = None if projection in ("default", "none") else Projection.load(Path(projection))
    if shorten is not None and shorten.weights_sha256 != file_sha256(path):
        raise UserError(f"projection {projection} was fitted for other weights than {path.name}; fit it again")

    def describe(images: Sequence[Image]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            whole = network(preprocess(images).to(device)).cpu().numpy()
        return whole if shorten is None else shorten(whole)

    said = f"{path.name}, encoder over batches of {batch}"
    methods = [Method(f"batch {batch}", describe, f"{said} in the order of the data set", batch, file=path)]
    if shuffled:
        name = f"batch {batch}, shuffled"
        methods.append(Method(name, describe, f"{said}, images shuffled", batch, True, file=path))
    return methods


def cost_of(method: Method, image: Image) -> tuple[float, int, float]:
    """Milliseconds for one image by itself (the median of `TIMED`), numbers in a descriptor, MB of the file."""
    spent = []
    for _ in range(1 + TIMED):  # the first time warms up
        began = time.perf_counter()
        described = method.describe([image])
        spent.append(time.perf_counter() - began)
    megabytes = method.file.stat().st_size / 1e6 if method.file else 0.0
    return 1e3 * float(np.median(spent[1:])), int(described.shape[1]), megabytes


def descriptors(method: Method, images: Sequence[Image], file: Path, what: str) -> npt.NDArray[np.float32]:
    """All images as (N, D) float32 of unit length in `file`, memory-mapped: two batches at a time are held in memory.

    Raises:
        UserError: an image cannot be read, or the method gives something else than one finite vector an image.
    """
    order = np.random.default_rng(0).permutation(len(images)) if method.shuffled else np.arange(len(images))
    out: npt.NDArray[np.float32] | None = None
    with tqdm(total=len(images), desc=f"{method.name}: {what}", mininterval=2, disable=None, leave=False) as bar:
        for rows, batch in _read_ahead(images, order, method.batch):
            described = np.asarray(method.describe(batch), np.float32)
            if described.ndim != 2 or len(described) != len(rows) or not np.isfinite(described).all():
                raise UserError(f"{method.name}: {len(rows)} images gave {described.shape} or not finite numbers")
            if out is None:
                shape = (len(images), described.shape[1])
                out = np.lib.format.open_memmap(file, "w+", np.float32, shape)  # type: ignore[no-untyped-call]
            out[rows] = described / np.maximum(np.linalg.norm(described, axis=1, keepdims=True), 1e-12)
            bar.update(len(rows))
    if out is None:
        raise UserError(f"{what}: no images to describe")
    return out


def _read_ahead(
    images: Sequence[Image], order: npt.NDArray[np.int64], batch: int
) -> Iterator[tuple[npt.NDArray[np.int64], list[Image]]]:
    """Rows and images, batch by batch; the next batch is read while one is described."""
    with ThreadPoolExecutor(READERS) as pool:
        parts = [order[start : start + batch] for start in range(0, len(order), batch)]
        reading = [pool.submit(images.__getitem__, int(row)) for row in parts[0]] if parts else []
        for rows, following in zip(parts, [*parts[1:], order[:0]], strict=True):
            read = [each.result() for each in reading]
            reading = [pool.submit(images.__getitem__, int(row)) for row in following]
            yield rows, read
