"""What fewer bits cost and give: cosine to float32, recall and speed, on real footage.

    python -m models.bench.precision --footage FOOTAGE               # nano; laid out as benchmarks.py reads it
    python -m models.bench.precision --footage FOOTAGE --only snow campus --forms int8 bfloat16 --threads 1
    python -m models.bench.precision --weights small.pth             # no footage: speed, and cosine on made pictures

Speeds are of one image at a time, all forms and the paper's released way in turn; recall is of projected descriptors,
as the localizer uses them, against a database described in float32 and against one described in the same form.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from d2vpr_ros.describe.gate_pictures import gate_pictures
from d2vpr_ros.describe.precision import FORMS, apply, processor_flags
from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.describe.projection import Projection
from d2vpr_ros.describe.weights import file_sha256, projection_of, weights_path
from d2vpr_ros.evaluation.recall import recall_at
from d2vpr_ros.model import D2VPR, FusedD2VPR, fuse, load_checkpoint
from models import benchmarks
from models.bench.reference import reference_forward
from models.bench.timing import ROUNDS, median_ms, processor, race, ratio

Float32 = npt.NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="nano")
    parser.add_argument("--footage", type=Path)
    parser.add_argument("--only", nargs="*", default=benchmarks.FOOTAGE, choices=benchmarks.FOOTAGE)
    parser.add_argument("--forms", nargs="*", default=["int8"], choices=[form for form in FORMS if form != "float32"])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    path = weights_path(args.weights)
    model = load_checkpoint(path)
    if not isinstance(model, D2VPR) or model.encoder is not None:
        raise SystemExit(f"{args.weights} is no D²-VPR network without a cross-image encoder")
    model = model.to(args.device)
    fused = fuse(model).to(args.device)
    forms = {"float32": fused, **{name: FORMS[name](fused) for name in args.forms}}
    print(f"{processor()}; {path.stem}; matrix units: {', '.join(processor_flags()) or 'none'}")
    print(f"the preset fast here: {apply(fused, 'fast', args.device)[1].reason}\n")
    speeds(model, forms, args.device, args.rounds)
    describe = partial(descriptors, device=args.device)
    exact = describe(fused, list(gate_pictures()))
    for name in args.forms:
        print(f"\nmade pictures, {name}: {_cosines(exact, describe(forms[name], list(gate_pictures())))}")
    if args.footage:
        projection = projection_of("default", path, file_sha256(path))
        print("\n| footage | form | cosine to float32 | R@1 | points | R@1 in a float32 map | points |")
        print("|---|---|---|---:|---:|---:|---:|")
        for name in args.only:
            for row in rows(getattr(benchmarks, name)(args.footage), forms, projection, describe):
                print(row, flush=True)


def rows(
    of: Sequence[benchmarks.Benchmark],
    forms: dict[str, FusedD2VPR],
    projection: Projection | None,
    describe: Callable[[FusedD2VPR, Sequence[npt.NDArray[np.uint8]]], Float32],
) -> Iterator[str]:
    """The table's rows of benchmarks that may share pictures."""
    found: dict[tuple[str, int], tuple[Float32, Float32]] = {}
    for benchmark in of:
        for form, network in forms.items():
            for images in (benchmark.database, benchmark.queries):
                if (form, id(images)) not in found:
                    whole = describe(network, images)
                    found[form, id(images)] = whole, projection(whole) if projection else whole
        exact_queries, queries = found["float32", id(benchmark.queries)]
        _, database = found["float32", id(benchmark.database)]
        before = _recall(queries, database, benchmark.positives)
        yield f"| {benchmark.name} | float32 | | {before:.1f} | | | |"
        for form in forms:
            if form != "float32":
                whole, mine = found[form, id(benchmark.queries)]
                own = _recall(mine, found[form, id(benchmark.database)][1], benchmark.positives)
                mixed = _recall(mine, database, benchmark.positives)
                yield (
                    f"| {benchmark.name} | {form} | {_cosines(exact_queries, whole)} | {own:.1f} "
                    f"| {own - before:+.1f} | {mixed:.1f} | {mixed - before:+.1f} |"
                )


@torch.inference_mode()
def speeds(model: D2VPR, forms: dict[str, FusedD2VPR], device: str, rounds: int) -> None:
    """Prints the times of one image."""
    image = torch.randn(1, 3, 224, 224, device=device)
    times = race(
        {
            "reference": partial(reference_forward, model, image),
            **{name: partial(form, image) for name, form in forms.items()},
        },
        rounds,
    )
    print("| form | ms | times the reference's speed | times float32's |\n|---|---:|---:|---:|")
    for name in times:
        against = (ratio(times, "reference", name), ratio(times, "float32", name))
        print(f"| {name} | {median_ms(times, name):.1f} | {against[0]:.2f} | {against[1]:.2f} |")


@torch.inference_mode()
def descriptors(network: FusedD2VPR, images: Sequence[npt.NDArray[np.uint8]], device: str) -> Float32:
    """(N, D) float32 of N pictures, one at a time as live."""
    prepare = Preprocessor()
    found = [
        network(prepare([image]).to(device)).cpu() for image in tqdm(images, leave=False, disable=None, unit="image")
    ]
    together: Float32 = torch.cat(found).numpy()
    return together


def _recall(queries: Float32, database: Float32, positives: npt.NDArray[np.bool_]) -> float:
    """R@1 in per cent."""
    return 100 * recall_at(queries @ database.T, positives, (1,))[1]


def _cosines(first: Float32, second: Float32) -> str:
    cosines = (first * second).sum(axis=1)
    return f"least {cosines.min():.5f}, median {np.median(cosines):.5f}"


if __name__ == "__main__":
    main()
