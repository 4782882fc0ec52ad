"""What fewer bits cost and give: cosine to float32, recall and speed, on real footage; which forms `fast` refuses.

    python -m models.bench.precision --footage FOOTAGE               # nano; laid out as benchmarks.py reads it
    python -m models.bench.precision --footage FOOTAGE --record      # and lets `fast` know, by a file at the weights
    python -m models.bench.precision --footage FOOTAGE --only snow campus --forms int8 bfloat16 --threads 1
    python -m models.bench.precision --weights small.pth             # no footage: speed, and the gate's own pictures

Speeds are of one image at a time, all forms and the paper's released way in turn; recall is of projected descriptors,
as the localizer uses them, against a database described in float32 and against one described in the same form. A form
that changes recall@1 by more than 0.5 points on any footage is refused.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from d2vpr_ros.describe.gate import Image, compare, described, recall_refusal, trial, write_changes
from d2vpr_ros.describe.onnx_network import open_exported
from d2vpr_ros.describe.precision import FORMS, apply, descriptors, processor_flags
from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.describe.weights import file_sha256, onnx_path, projection_of, weights_path
from d2vpr_ros.errors import UserError
from d2vpr_ros.evaluation.recall import recall_at
from d2vpr_ros.model import D2VPR, fuse, load_checkpoint
from models import benchmarks
from models.bench.reference import reference_forward
from models.bench.timing import ROUNDS, median_ms, processor, race, ratio

Float32 = npt.NDArray[np.float32]
Describe = Callable[[Image], Float32]
"""(N, S, S, 3) uint8 -> (N, D) descriptors as a map holds them, one image at a time."""

EXPORTED = {"onnx-int8": "int8", "onnx-fp16": "fp16"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="nano")
    parser.add_argument("--footage", type=Path)
    parser.add_argument("--only", nargs="*", default=benchmarks.FOOTAGE, choices=benchmarks.FOOTAGE)
    known = [*(form for form in FORMS if form != "float32"), *EXPORTED]
    parser.add_argument("--forms", nargs="*", default=["int8", *EXPORTED], choices=known)
    parser.add_argument("--record", action="store_true", help="write the largest changes beside the weights")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    args = parser.parse_args()
    if args.record and (not args.footage or len(args.only) < len(benchmarks.FOOTAGE)):
        raise SystemExit("--record needs --footage FOOTAGE and all of it: leave --only out")
    torch.set_num_threads(args.threads)
    path = weights_path(args.weights)
    model = load_checkpoint(path)
    if not isinstance(model, D2VPR) or model.encoder is not None:
        raise SystemExit(f"{args.weights} is no D²-VPR network without a cross-image encoder")
    model = model.to(args.device)
    projection = projection_of("default", path, file_sha256(path))
    fused = fuse(model).to(args.device)
    forms: dict[str, Describe] = {"float32": partial(descriptors, fused, projection=projection)}
    for name in args.forms:
        if name in EXPORTED:
            try:
                exported = onnx_path(args.weights, "default", EXPORTED[name])
            except UserError as error:
                print(f"{name} is refused on export: {error}")
                continue
            forms[name] = partial(described, open_exported(exported, "fast", args.device, Preprocessor()))
        else:
            forms[name] = partial(descriptors, FORMS[name](fused), projection=projection)
    print(f"{processor()}; {path.stem}; matrix units: {', '.join(processor_flags()) or 'none'}")
    print(f"the preset fast here: {apply(fused, 'fast', args.device, projection=projection)[1].reason}\n")
    speeds(model, forms, args.device, args.rounds)
    pictures = trial(Preprocessor().squash)
    exact = forms["float32"](pictures)
    for name in forms:
        kept = compare(exact, forms[name](pictures))
        print(
            f"made pictures, {name}: cosine {kept.cosine:.5f} or more, {kept.changed:.1f} % of the views find another"
        )
    if args.footage:
        largest = footage_table(args.footage, args.only, forms)
        for name, (points, footage) in largest.items():
            refusal = recall_refusal(points, footage)
            print(
                f"{name}: {f'refused: {refusal}' if refusal else 'kept: no recall@1 changes by more than 0.5 points'}"
            )
        if args.record:
            print(f"written: {write_changes(path, file_sha256(path), largest)}")


def footage_table(footage: Path, names: Sequence[str], forms: Mapping[str, Describe]) -> dict[str, tuple[float, str]]:
    """Prints the table; of each form the largest change of recall@1 in points, and where."""
    print("\n| footage | form | cosine to float32 | R@1 | points | R@1 in a float32 map | points |")
    print("|---|---|---|---:|---:|---:|---:|")
    largest: dict[str, tuple[float, str]] = {}
    for name in names:
        for row, form, points, where in rows(getattr(benchmarks, name)(footage), forms):
            print(row, flush=True)
            if form != "float32":
                largest[form] = max(largest.get(form, (0.0, "")), (points, where), key=lambda one: abs(one[0]))
    return largest


def rows(of: Sequence[benchmarks.Benchmark], forms: Mapping[str, Describe]) -> Iterator[tuple[str, str, float, str]]:
    """Of benchmarks that may share pictures: a row of the table, the form, its larger change in points, and where."""
    found: dict[tuple[str, int], Float32] = {}
    for benchmark in of:
        for images in (benchmark.database, benchmark.queries):
            if ("float32", id(images)) in found:
                continue
            small = np.stack([Preprocessor().squash(image) for image in images])
            for form, describe in forms.items():
                shown = tqdm(small, f"{benchmark.name}, {form}", leave=False, disable=None, unit="image")
                found[form, id(images)] = np.concatenate([describe(image[None]) for image in shown])
        queries, database = (found["float32", id(part)] for part in (benchmark.queries, benchmark.database))
        before = _recall(queries, database, benchmark.positives)
        yield f"| {benchmark.name} | float32 | | {before:.1f} | | | |", "float32", 0.0, benchmark.name
        for form in forms:
            if form != "float32":
                mine = found[form, id(benchmark.queries)]
                own = _recall(mine, found[form, id(benchmark.database)], benchmark.positives) - before
                mixed = _recall(mine, database, benchmark.positives) - before
                row = (
                    f"| {benchmark.name} | {form} | {_cosines(queries, mine)} | {before + own:.1f} "
                    f"| {own:+.1f} | {before + mixed:.1f} | {mixed:+.1f} |"
                )
                where = f"{benchmark.name} ({len(mine)} images)"
                yield row, form, max(own, mixed, key=abs), where


@torch.inference_mode()
def speeds(model: D2VPR, forms: Mapping[str, Describe], device: str, rounds: int) -> None:
    """Prints the times of one image."""
    image, picture = torch.randn(1, 3, 224, 224, device=device), trial(Preprocessor().squash)[:1]
    contenders = {name: partial(describe, picture) for name, describe in forms.items()}
    times = race({"reference": partial(reference_forward, model, image), **contenders}, rounds)
    print("| form | ms | times the reference's speed | times float32's |\n|---|---:|---:|---:|")
    for name in times:
        against = (ratio(times, "reference", name), ratio(times, "float32", name))
        print(f"| {name} | {median_ms(times, name):.1f} | {against[0]:.2f} | {against[1]:.2f} |")


def _recall(queries: Float32, database: Float32, positives: npt.NDArray[np.bool_]) -> float:
    """R@1 in per cent."""
    return 100 * recall_at(queries @ database.T, positives, (1,))[1]


def _cosines(first: Float32, second: Float32) -> str:
    cosines = (first * second).sum(axis=1)
    return f"least {cosines.min():.5f}, median {np.median(cosines):.5f}"


if __name__ == "__main__":
    main()
