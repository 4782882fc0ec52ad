"""Fit the projection that shortens descriptors: PCA, centred, and by default not whitened, as published.

    python -m models.fit_pca --weights models/weights/nano.safetensors --pictures cache/real.npy cache/town.npy
    python -m models.fit_pca --weights nano --pictures town.d2map --out town.pca512.safetensors

Pictures are folders of images, maps with pictures, or (..., 3, 224, 224) uint8 npy files as training caches them. They
are read and described a batch at a time, and the same pictures give the same file. Without --out the result becomes
the default of these weights; a projection fitted on one map should be a file of its own, named where it is used
(`d2vpr map build --projection FILE`).
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import save
from sklearn.decomposition import IncrementalPCA  # type: ignore[import-untyped]
from tqdm import tqdm

from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.describe.projection import Projection
from d2vpr_ros.errors import UserError
from d2vpr_ros.evaluation.recall import recall_at
from d2vpr_ros.images.decode import decode_compressed
from d2vpr_ros.mapping import read_map
from d2vpr_ros.weights.sorted_header import sort_header
from models import augment, methods
from models.data import read_rgb
from models.methods import Method

Picture = npt.NDArray[np.uint8]

KS = (1, 5)
HELD_OUT = 0.1
"""Share of the pictures that the loss in recall is measured on."""
ENDINGS = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Source:
    """Pictures that are read when they are needed: `read(row)` gives (H, W, 3) uint8 RGB."""

    count: int
    read: Callable[[int], Picture]


def open_source(path: Path) -> Source:
    """A folder of images, a map, or an npy file of training pictures.

    Raises:
        UserError: it is none of these, or holds no picture.
    """
    if path.suffix == ".npy" and path.is_file():
        cache = np.load(path, mmap_mode="r")
        pictures = cache.reshape(-1, *cache.shape[-3:])
        return Source(len(pictures), lambda row: np.ascontiguousarray(pictures[row].transpose(1, 2, 0)))
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in ENDINGS)
        if files:
            return Source(len(files), lambda row: read_rgb(files[row]))
        raise UserError(f"{path}: the folder has no images ({', '.join(ENDINGS)})")
    if path.is_file():
        place_map = read_map(path)

        def read(row: int) -> Picture:
            jpeg = place_map.picture(row)
            if jpeg is None:
                raise UserError(f"map {path} has no picture of place {place_map.ids[row]}; build it with pictures")
            return decode_compressed(np.frombuffer(jpeg, np.uint8))

        return Source(len(place_map), read)
    raise UserError(f"{path}: no such pictures; expected a folder of images, a .d2map with pictures, or a .npy file")


def choose(sources: Sequence[Source], count: int, seed: int = 0) -> list[tuple[Source, int]]:
    """About `count` pictures in random order, equally many from every source."""
    random = np.random.default_rng(seed)
    share = -(-count // len(sources))
    chosen = [
        (source, int(row))
        for source in sources
        for row in random.choice(source.count, min(source.count, share), replace=False)
    ]
    return [chosen[number] for number in random.permutation(len(chosen))]


def describe(method: Method, pictures: Sequence[tuple[Source, int]]) -> Iterator[npt.NDArray[np.float32]]:
    """Descriptors of the pictures, batch by batch."""
    for start in tqdm(range(0, len(pictures), method.batch), desc="describe", mininterval=10, disable=None):
        yield method.describe([source.read(row) for source, row in pictures[start : start + method.batch]])


def fit(
    batches: Iterator[npt.NDArray[np.float32]], width: int, whitening: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float16]]:
    """Mean (D,) and components (width, D) of descriptors that come in batches; never more than 3 * width are held.

    Args:
        whitening: power of the standard deviations that is divided out: 0 leaves them, 1 makes every direction alike.

    Raises:
        UserError: fewer than 2 * width descriptors.
    """
    pca, held, seen = IncrementalPCA(width), list[npt.NDArray[np.float32]](), 0
    for batch in batches:
        held.append(batch)
        if sum(map(len, held)) >= 2 * width:
            block = np.concatenate(held)
            pca.partial_fit(block[: 2 * width])
            held, seen = [block[2 * width :]], seen + 2 * width
    if not seen:
        found = sum(map(len, held))
        raise UserError(f"a projection to {width} numbers needs {2 * width} pictures or more, got {found}")
    rest = np.concatenate(held)
    if len(rest) >= width:  # a smaller rest would lower the rank, and is left out
        pca.partial_fit(rest)
    relative = pca.explained_variance_ / pca.explained_variance_[0]
    components = pca.components_ * relative[:, None] ** (-whitening / 2)
    # In C order: safetensors writes the memory as it lies, whatever the order of the axes.
    return pca.mean_.astype(np.float32), np.ascontiguousarray(components, np.float16)


def recalls(
    method: Method, pictures: Sequence[tuple[Source, int]], projection: Projection
) -> dict[str, dict[int, float]]:
    """Recall of each picture by a moved view of it under other light, whole and projected: what the loss is."""
    torch.manual_seed(0)
    size = Preprocessor().size
    squashed: list[Picture] = [
        cv2.resize(source.read(row), (size, size), interpolation=cv2.INTER_AREA).astype(np.uint8)
        for source, row in pictures
    ]
    views = torch.from_numpy(np.stack(squashed)).movedim(-1, 1).float() / 255
    moved = augment.light(augment.warp(views, augment.viewpoint_grid(len(views), augment.Viewpoint()), size))
    queries = list((moved.movedim(1, -1) * 255).round().to(torch.uint8).numpy())
    wholes = [
        np.concatenate([method.describe(of[start : start + method.batch]) for start in range(0, len(of), method.batch)])
        for of in (squashed, queries)
    ]
    same = np.eye(len(pictures), dtype=bool)
    shortened = projection(wholes[0]), projection(wholes[1])
    return {
        "whole": recall_at(wholes[1] @ wholes[0].T, same, KS),
        "projected": recall_at(shortened[1] @ shortened[0].T, same, KS),
    }


def fit_pca(
    weights: Path,
    paths: Sequence[Path],
    count: int,
    width: int,
    out: Path,
    fitted_on: str,
    whitening: float = 0.0,
    encoder_batch: int | None = None,
) -> dict[str, dict[int, float]]:
    """Fit on nine tenths of `count` pictures, write `out`, and return the recalls of the other tenth.

    Args:
        encoder_batch: of weights with a cross-image encoder: images that are described together, in random order.

    Raises:
        UserError: too few pictures, or a source that is none.
    """
    if encoder_batch is None:
        method = methods.of_weights(str(weights), "none", weights.stem)
    else:
        (method,) = methods.of_encoder(str(weights), encoder_batch, "none", shuffled=False)
    chosen = choose([open_source(path) for path in paths], count)
    held_out = max(1, int(len(chosen) * HELD_OUT))
    mean, components = fit(describe(method, chosen[held_out:]), width, whitening)
    write_projection(mean, components, weights, f"{len(chosen) - held_out} pictures of {fitted_on}", out)
    return recalls(method, chosen[:held_out], Projection.load(out))


def write_projection(
    mean: npt.NDArray[np.float32], components: npt.NDArray[np.float16], weights: Path, fitted_on: str, out: Path
) -> None:
    """The file that `Projection.load` reads, for the weights in that file and no others."""
    notes = {"weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(), "fitted_on": fitted_on}
    out.write_bytes(sort_header(save({"mean": mean, "components": components}, notes)))


def main() -> int:
    from d2vpr_ros.describe.extractor import weights_path

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="nano", help="a bundled name or a weights file")
    parser.add_argument("--pictures", type=Path, nargs="+", required=True, help="folders, maps or npy files")
    parser.add_argument("--count", type=int, default=2**14, help="pictures at most (default: 16384, as published)")
    parser.add_argument("--width", type=int, default=512, help="numbers in a shortened descriptor (default: 512)")
    parser.add_argument("--whitening", type=float, default=0.0, help="0, as published, to 1 (default: 0)")
    parser.add_argument("--encoder-batch", type=int, metavar="N", help="weights with a cross-image encoder, N a batch")
    parser.add_argument("--out", type=Path, help="default: beside the weights, as their default projection")
    arguments = parser.parse_args()
    try:
        weights = weights_path(arguments.weights)
        out = arguments.out or weights.with_suffix(f".pca{arguments.width}.safetensors")
        names = ", ".join(path.name for path in arguments.pictures)
        options = (arguments.whitening, arguments.encoder_batch)
        measured = fit_pca(weights, arguments.pictures, arguments.count, arguments.width, out, names, *options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, recall in measured.items():
        print(f"{name:10} " + " / ".join(f"R@{k} {recall[k]:.3f}" for k in KS) + " of moved views of held-out pictures")
    print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
