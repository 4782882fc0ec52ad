"""How long the preprocessing takes from images of usual sizes, and how near it comes to the same in float32.

    OPENBLAS_NUM_THREADS=1 python -m models.bench.preprocess
    OPENBLAS_NUM_THREADS=1 python -m models.bench.preprocess --image photograph.jpg  # also its cosine
    python -m models.bench.preprocess --footage FOOTAGE    # what a map made with torch is worth to a robot without it

Times are medians of alternating runs on one core (numpy's products heed the environment only).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from d2vpr_ros.describe.gate_pictures import gate_pictures
from d2vpr_ros.describe.precision import descriptors
from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.describe.resample import squash
from d2vpr_ros.describe.weights import file_sha256, projection_of, weights_path
from d2vpr_ros.evaluation.recall import recall_at
from d2vpr_ros.model import D2VPR, FusedD2VPR, fuse, load_checkpoint
from d2vpr_ros.multiview.view import Picture
from models import benchmarks
from models.bench.timing import ROUNDS, median_ms, processor, race

SIZES = ((640, 480), (1280, 720), (1920, 1080), (3840, 2160))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="nano")
    parser.add_argument("--image", type=Path, nargs="*", default=[])
    parser.add_argument("--footage", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    prepare = Preprocessor()
    print(f"{processor()}\n\n| image | ms | without torch, ms | PIL, ms | whole, ms |\n|---|---:|---:|---:|---:|")
    scenes = {}
    for width, height in SIZES:
        scene = cv2.resize(gate_pictures(1, 1080)[0], (width, height), interpolation=cv2.INTER_AREA)
        scenes[f"{width} x {height}"] = scene
        times = race(
            {
                "torch": partial(prepare.resize, scene),
                "numpy": partial(squash, scene, prepare.size),
                "PIL": partial(_pil, scene, prepare.size),
                "whole": partial(prepare, [scene]),
            },
            args.rounds,
        )
        print(f"| {width} x {height} | " + " | ".join(f"{median_ms(times, name):.2f}" for name in times) + " |")
    for path in args.image:
        picture = cv2.imread(str(path))
        if picture is None:
            raise SystemExit(f"{path} is no image")
        scenes[path.name] = np.ascontiguousarray(picture[..., ::-1])

    model = load_checkpoint(weights_path(args.weights))
    if not isinstance(model, D2VPR) or model.encoder is not None:
        raise SystemExit(f"{args.weights} is no D²-VPR network without a cross-image encoder")
    network = fuse(model)
    print("\n| picture | cosine to float32 resampling | without torch |\n|---|---:|---:|")
    with torch.inference_mode():
        for name, scene in scenes.items():
            exact = network(in_float32(prepare, scene))
            plain = torch.from_numpy(squash(scene, prepare.size)).permute(2, 0, 1)[None]
            cosines = [float((exact * network(form)).sum()) for form in (prepare([scene]), prepare.normalise(plain))]
            print(f"| {name} | {cosines[0]:.6f} | {cosines[1]:.6f} |")
    if args.footage:
        both_ways(args.footage, network, args.weights)


def both_ways(footage: Path, network: FusedD2VPR, weights: str) -> None:
    """Prints how near descriptors prepared with and without torch are, and the recall of the one against the other."""
    path = weights_path(weights)
    projection = projection_of("default", path, file_sha256(path))
    ways: dict[str, Callable[[Picture], Picture]] = {
        "torch": Preprocessor().squash,
        "without": partial(squash, size=Preprocessor().size),
    }
    print("\n| footage | cosine, with to without torch | R@1 with torch | map with, queries without |")
    print("|---|---|---:|---:|")
    for name in benchmarks.FOOTAGE:
        of = getattr(benchmarks, name)(footage)
        found: dict[tuple[str, int], npt.NDArray[np.float32]] = {}  # of pictures that these benchmarks may share
        for benchmark in of:
            asked, known = benchmark.queries, benchmark.database
            for way, images in (("torch", known), ("torch", asked), ("without", asked)):
                if (way, id(images)) not in found:
                    squashed = np.stack([ways[way](image) for image in images])
                    found[way, id(images)] = descriptors(network, squashed, projection)
            queries, database = [found[way, id(asked)] for way in ways], found["torch", id(known)]
            cosines = (queries[0] * queries[1]).sum(axis=1)
            recalls = [100 * recall_at(rows @ database.T, benchmark.positives, (1,))[1] for rows in queries]
            print(
                f"| {benchmark.name} | least {cosines.min():.5f}, median {np.median(cosines):.5f} "
                f"| {recalls[0]:.1f} | {recalls[1]:.1f} |",
                flush=True,
            )


def in_float32(prepare: Preprocessor, image: npt.NDArray[np.uint8]) -> Tensor:
    """(H, W, 3) uint8 -> (1, 3, S, S) float32: the same resampling without rounding to whole levels."""
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    resized = functional.interpolate(pixels, (prepare.size, prepare.size), mode="bilinear", antialias=True)
    return prepare.normalise(resized)


def _pil(image: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))


if __name__ == "__main__":
    main()
