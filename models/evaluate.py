"""Print recall@1/5/10 of weights, and of other models beside them, on footage, towns, benchmarks and own folders.

python -m models.evaluate --weights nano --footage FOLDER
python -m models.evaluate --weights nano --town-seeds 0 1 --map-condition noon --query-conditions night rain
python -m models.evaluate --weights FILE --projection FILE --benchmark pitts30k --data PITTS30K
python -m models.evaluate --weights nano --benchmark msls-val --data MSLS_VAL --page mistakes.html
python -m models.evaluate --weights runs/a/best.safetensors runs/b/best.safetensors --footage FOLDER
python -m models.evaluate --weights nano --database MONDAY --queries TUESDAY --tolerance 2
python -m models.evaluate --weights nano --onnx peer.onnx --preprocessing size=320 range=imagenet --footage FOLDER
python -m models.evaluate --weights nano small --peers FOLDER --footage FOLDER --town-seeds 0 1
python -m models.evaluate --weights encoder.pth --encoder-batch 8 --shuffled --benchmark pitts30k --data PITTS30K
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from d2vpr_ros.describe.attention import load_network
from d2vpr_ros.describe.weights import weights_path
from d2vpr_ros.errors import UserError
from models import benchmarks, layouts, methods, peers
from models.benchmarks import Benchmark
from models.methods import Method
from models.mistakes import write_mistakes
from models.protocols import PROTOCOLS
from models.scores import KS, Score, as_json, as_text, score, write_matches


def evaluate(measured: Sequence[Method], on: Sequence[Benchmark], folder: Path) -> list[tuple[Benchmark, list[Score]]]:
    """Score every method on every benchmark; prints each as it is known.

    Args:
        folder: for the descriptors while they are needed; pictures that several benchmarks share are described once.

    Raises:
        UserError: an image cannot be read, or a method gives no descriptors.
    """
    known: dict[tuple[str, int], npt.NDArray[np.float32]] = {}
    scores = []
    for benchmark in on:
        print(f"{benchmark.name}: {len(benchmark.queries)} queries in {len(benchmark.database)} images")
        for note in benchmark.notes or (f"correct: {benchmark.rule}; all queries count",):
            print(f"  {note}")
        of_one = []
        for method in measured:
            for images in (benchmark.database, benchmark.queries):
                if (method.name, id(images)) not in known:
                    file, what = folder / f"{len(known)}.npy", f"{benchmark.name}, {len(images)} images"
                    known[method.name, id(images)] = methods.descriptors(method, images, file, what)
            pair = known[method.name, id(benchmark.queries)], known[method.name, id(benchmark.database)]
            of_one.append(score(method, benchmark, *pair))
            print(f"  {method.name:24} {as_text(of_one[-1])}{_of_answerable(of_one[-1])}", flush=True)
        scores.append((benchmark, of_one))
    return scores


def _of_answerable(score: Score) -> str:
    of_those = score.recall_of_answerable
    if not score.labelled or of_those is None or score.answerable.all():
        return ""
    numbers = " / ".join(f"{of_those[k]:.3f}" for k in KS)
    return f"   of the {score.answerable.sum()} with a correct image: {numbers}"


def table(
    scores: Sequence[tuple[Benchmark, Sequence[Score]]], costs: Mapping[str, tuple[float, int, float]] | None = None
) -> str:
    """All results as a Markdown table; with `costs` by method (see `cost_of`) these are its last rows."""
    names = list(dict.fromkeys(each.method for _, of_one in scores for each in of_one))
    lines = [f"| benchmark | correct | map | queries | {' | '.join(names)} |", "|---" * (4 + len(names)) + "|"]
    for benchmark, of_one in scores:
        cells = {each.method: as_text(each) for each in of_one}
        sizes = f"{len(benchmark.database)} | {len(benchmark.queries)}"
        recalls = " | ".join(cells.get(name, "") for name in names)
        lines.append(f"| {benchmark.name} | {benchmark.rule} | {sizes} | {recalls} |")
    if costs:
        for row, (what, form) in enumerate((("ms an image, here", ".1f"), ("numbers", "d"), ("MB of file", ".1f"))):
            lines.append(f"| {what} | | | | {' | '.join(format(costs[name][row], form) for name in names)} |")
    return "\n".join(lines)


def collect(arguments: argparse.Namespace) -> list[Benchmark]:
    """What is asked for on the command line.

    Raises:
        UserError: nothing is, an option is missing, or the data is not as it should be.
    """
    found: list[Benchmark] = []
    for name in arguments.benchmark:
        if arguments.data is None:
            raise UserError(f"--benchmark {name} needs --data FOLDER, the data set")
        found.append(layouts.read_benchmark(PROTOCOLS[name], arguments.data, arguments.images))
    if arguments.gsv_cities is not None:
        found.append(layouts.read_gsv_places(arguments.gsv_cities, arguments.cities or "all"))
    if (arguments.database is None) != (arguments.queries is None):
        raise UserError("--database and --queries are needed together: two folders of images")
    if arguments.database is not None:
        plain = layouts.read_plain_folders(arguments.database, arguments.queries, arguments.labels, arguments.tolerance)
        found.append(plain)
    if arguments.footage is not None:
        of_footage = {
            "snow": benchmarks.snow,
            "campus": benchmarks.campus,
            "tower": benchmarks.tower,
            "sevenscenes": benchmarks.sevenscenes,
        }
        found += [benchmark for name in arguments.only for benchmark in of_footage[name](arguments.footage)]
    seeds = arguments.town_seeds if arguments.town_seeds is not None else [] if found else [0, 1]
    conditions = (arguments.map_condition, arguments.query_conditions)
    return found + [benchmark for seed in seeds for benchmark in benchmarks.town(seed, *conditions)]


def chosen_methods(arguments: argparse.Namespace) -> list[Method]:
    """The columns asked for.

    Raises:
        UserError: weights or a peer's file are not what they should be.
    """
    found = []
    if arguments.encoder_batch is not None:
        if len(arguments.weights) != 1:
            raise UserError("--encoder-batch takes one --weights file; run the command once for each")
        batch, shuffled = arguments.encoder_batch, arguments.shuffled
        found += methods.of_encoder(arguments.weights[0], batch, arguments.projection, shuffled)
    elif arguments.shuffled:
        raise UserError("--shuffled needs --encoder-batch: other descriptors do not depend on the order")
    else:
        stems = [Path(weights).stem for weights in arguments.weights]
        for weights, stem in zip(arguments.weights, stems, strict=True):
            name = stem if stems.count(stem) == 1 else weights
            found.append(methods.of_weights(weights, arguments.projection, name))
    preprocessing = peers.parse_preprocessing(arguments.preprocessing)
    found += [peers.of_onnx(path, preprocessing) for path in arguments.onnx]
    found += [peers.of_tflite(path) for path in arguments.tflite]
    if arguments.peers is not None:
        from models import backbone_peers

        if arguments.footage is None:
            raise UserError("--peers also needs --footage: two of them are fitted on training pictures")
        found += backbone_peers.of_folder(arguments.peers, arguments.footage)
    if not arguments.no_thumbnail:
        found.append(methods.thumbnails())
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_argument_group("models")
    what.add_argument("--weights", nargs="+", default=["nano"], help="bundled names or weights files")
    what.add_argument("--projection", default="default", help="default, none (the whole descriptor), or a file")
    what.add_argument("--encoder-batch", type=int, metavar="N", help="weights with a cross-image encoder, N a batch")
    what.add_argument("--shuffled", action="store_true", help="once more with batches of images in random order")
    what.add_argument("--onnx", type=Path, action="append", default=[], metavar="FILE", help="a peer; can be repeated")
    what.add_argument(
        "--preprocessing",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="of --onnx: size=224, range=imagenet|0..1|-1..1|0..255, layout=nchw|nhwc, fit=squash|crop",
    )
    what.add_argument("--tflite", type=Path, action="append", default=[], metavar="FILE", help="an 8-bit classifier")
    what.add_argument(
        "--peers",
        type=Path,
        metavar="FOLDER",
        help="with files of models.backbones and the MobileNet: all of them, and what each costs",
    )
    what.add_argument("--no-thumbnail", action="store_true", help="leave the baseline out")
    data = parser.add_argument_group("data")
    data.add_argument("--benchmark", action="append", default=[], choices=PROTOCOLS, help="with --data; repeatable")
    data.add_argument("--data", type=Path, metavar="FOLDER", help="of the benchmark: images/ or its npy lists")
    data.add_argument("--images", type=Path, metavar="FOLDER", help="where npy lists find images (default: --data)")
    data.add_argument("--gsv-cities", type=Path, metavar="FOLDER", help="Dataframes/ and Images/")
    data.add_argument("--cities", nargs="+", help="some of them (default: all)")
    data.add_argument("--database", type=Path, metavar="FOLDER", help="own images of known places")
    data.add_argument("--queries", type=Path, metavar="FOLDER", help="own images to find")
    data.add_argument("--labels", type=Path, metavar="CSV", help="columns query,database: a correct pair a line")
    data.add_argument("--tolerance", type=int, metavar="N", help="or correct: file numbers that differ by N at most")
    data.add_argument("--footage", type=Path, help="folder with the footage; read in place")
    data.add_argument("--only", nargs="*", default=benchmarks.FOOTAGE, choices=benchmarks.FOOTAGE)
    data.add_argument("--town-seeds", nargs="*", type=int, help="0 to 99, never trained on (alone: 0 1)")
    data.add_argument("--map-condition", default="noon")
    data.add_argument("--query-conditions", nargs="+", default=["dusk", "night", "rain", "snow"])
    out = parser.add_argument_group("results")
    out.add_argument("--json", type=Path, help="also write the numbers here")
    out.add_argument("--page", type=Path, help="also write a page with the worst mistakes as pairs of pictures")
    out.add_argument("--pairs", type=int, default=12, help="on the page, of each method and benchmark (default: 12)")
    out.add_argument("--attention", action="store_true", help="on the page, below them: where our weights look")
    out.add_argument("--matches", type=Path, help="also write the first ten candidates of every query as csv")
    return parser


def main(words: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(words)
    command = shlex.join(["python", "-m", "models.evaluate", *(sys.argv[1:] if words is None else words)])
    try:
        for path in filter(None, (arguments.json, arguments.page, arguments.matches)):
            if not path.absolute().parent.is_dir():  # told now, not after hours
                raise UserError(f"{path}: the folder {path.absolute().parent} does not exist")
        measured, on = chosen_methods(arguments), collect(arguments)
        with tempfile.TemporaryDirectory(prefix="descriptors") as folder:
            scores = evaluate(measured, on, Path(folder))
        costs = {each.name: methods.cost_of(each, on[0].queries[0]) for each in measured} if arguments.peers else None
        print(f"\n{table(scores, costs)}")
        if arguments.json:
            content = {"command": command, "results": [as_json(*one) for one in scores]}
            arguments.json.write_text(json.dumps(content, indent=1), encoding="utf-8")
        if arguments.page:
            ours = {weights_path(each) for each in arguments.weights} if arguments.attention else set()
            networks = {each.name: load_network(each.file) for each in measured if each.file in ours and each.file}
            write_mistakes(arguments.page, scores, command, arguments.pairs, networks)
        if arguments.matches:
            write_matches(arguments.matches, scores)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
