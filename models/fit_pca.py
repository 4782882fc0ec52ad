"""Fit the projection that shortens descriptors: PCA, centred, half whitened, on training pictures only.

    python -m models.fit_pca --weights models/weights/nano.safetensors --pictures cache/real.npy cache/town.npy

Pictures are (..., 3, 224, 224) uint8 npy files, as training caches them. The result lies beside the weights.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import save_file
from sklearn.decomposition import PCA  # type: ignore[import-untyped]
from tqdm import tqdm

from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.errors import UserError
from d2vpr_ros.model import D2VPR, load_checkpoint

BATCH = 32
WHITENING = 0.5
"""Power of the variances that is divided out: 0 leaves them (as published), 1 makes every direction count alike."""


def sample_pictures(caches: Iterable[Path], count: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """About `count` pictures, equally many from every cache: (N, 3, S, S)."""
    random, paths = np.random.default_rng(seed), list(caches)
    parts = []
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path}: no such cache of pictures; models/train_nano.py writes them")
        cache = np.load(path, mmap_mode="r")
        pictures = cache.reshape(-1, *cache.shape[-3:])
        chosen = random.choice(len(pictures), min(len(pictures), count // len(paths)), replace=False)
        parts.append(pictures[np.sort(chosen)])
    return np.concatenate(parts)


def fit_pca(model: D2VPR, pictures: npt.NDArray[np.uint8], weights: Path, width: int, fitted_on: str) -> Path:
    """Fit on the descriptors of the pictures (N, 3, S, S) and write `<weights>.pca512.safetensors`."""
    preprocessor = Preprocessor()
    model.eval()
    descriptors = []
    with torch.inference_mode():
        for start in tqdm(range(0, len(pictures), BATCH), desc="describe", mininterval=10):
            images = torch.from_numpy(np.array(pictures[start : start + BATCH]))
            descriptors.append(model(preprocessor.normalise(images)).numpy())
    if len(pictures) < 2 * width:
        raise UserError(f"a projection to {width} numbers needs {2 * width} pictures or more, got {len(pictures)}")
    pca = PCA(width, svd_solver="randomized", random_state=0).fit(np.concatenate(descriptors))
    variance = pca.explained_variance_ / pca.explained_variance_[0]
    components = pca.components_ * variance[:, None] ** -(WHITENING / 2)
    out = weights.with_suffix(f".pca{width}.safetensors")
    tensors = {"mean": pca.mean_.astype(np.float32), "components": components.astype(np.float16)}
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    save_file(tensors, out, {"weights_sha256": sha256, "fitted_on": fitted_on})
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, nargs="+", required=True)
    parser.add_argument("--count", type=int, default=4000, help="pictures to fit on")
    parser.add_argument("--width", type=int, default=512)
    arguments = parser.parse_args()
    try:
        model = load_checkpoint(arguments.weights)
        if not isinstance(model, D2VPR):
            raise UserError(f"{arguments.weights} is no D²-VPR: nothing to fit a projection for")
        pictures = sample_pictures(arguments.pictures, arguments.count)
        names = ", ".join(path.name for path in arguments.pictures)
        out = fit_pca(model, pictures, arguments.weights, arguments.width, f"{len(pictures)} pictures of {names}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
