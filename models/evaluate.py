"""Print recall@1/5/10 of weights beside a patch-normalised thumbnail.

python -m models.evaluate --weights nano --footage FOLDER
python -m models.evaluate --weights nano --town-seeds 0 1 --map-condition noon --query-conditions night rain
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from d2vpr_ros.describe.extractor import Extractor
from d2vpr_ros.errors import UserError
from d2vpr_ros.evaluation.recall import recall_at
from models import benchmarks
from models.benchmarks import Benchmark, Image
from models.thumbnail import describe_thumbnails

Describe = Callable[[Sequence[Image]], npt.NDArray[np.float32]]
KS = (1, 5, 10)


def collect(
    footage: Path | None, names: Sequence[str], town_seeds: Sequence[int], map_condition: str, query: Sequence[str]
) -> list[Benchmark]:
    """The benchmarks asked for; those on footage only where a folder is given."""
    of_footage = {
        "snow": benchmarks.snow,
        "campus": benchmarks.campus,
        "tower": benchmarks.tower,
        "sevenscenes": benchmarks.sevenscenes,
    }
    found = [benchmark for name in names for benchmark in of_footage[name](footage)] if footage else []
    return found + [b for seed in town_seeds for b in benchmarks.town(seed, map_condition, query)]


def evaluate(methods: dict[str, Describe], measured: Sequence[Benchmark]) -> dict[str, dict[str, dict[int, float]]]:
    """Recall of every method on every benchmark: {benchmark: {method: {k: recall}}}; prints each as it is known."""
    results: dict[str, dict[str, dict[int, float]]] = {}
    print(f"{'benchmark':32}{'correct':13}{'map':>5}{'queries':>9}  " + "".join(f"{name:>20}" for name in methods))
    known: dict[tuple[str, int], npt.NDArray[np.float32]] = {}
    for benchmark in measured:
        row = {}
        for name, describe in methods.items():
            for images in (benchmark.database, benchmark.queries):
                if (name, id(images)) not in known:
                    known[name, id(images)] = describe(images)
            queries, database = known[name, id(benchmark.queries)], known[name, id(benchmark.database)]
            row[name] = recall_at(queries @ database.T, benchmark.positives, KS)
        results[benchmark.name] = row
        cells = "".join(f"{' / '.join(f'{recall[k]:.2f}' for k in KS):>20}" for recall in row.values())
        sizes = f"{len(benchmark.database):>5}{len(benchmark.queries):>9}"
        print(f"{benchmark.name:32}{benchmark.rule:13}{sizes}  {cells}", flush=True)
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="nano", help="a bundled name or a weights file")
    parser.add_argument("--projection", default="default", help="default, none (the whole descriptor), or a file")
    parser.add_argument("--footage", type=Path, help="folder with the footage; read in place")
    parser.add_argument("--only", nargs="*", default=benchmarks.FOOTAGE, choices=benchmarks.FOOTAGE)
    parser.add_argument("--town-seeds", nargs="*", type=int, default=[0, 1], help="0 to 99, never trained on")
    parser.add_argument("--map-condition", default="noon")
    parser.add_argument("--query-conditions", nargs="+", default=["dusk", "night", "rain", "snow"])
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    arguments = parser.parse_args()
    try:
        extractor = Extractor.open(arguments.weights, projection=arguments.projection)
        measured = collect(
            arguments.footage,
            arguments.only,
            arguments.town_seeds,
            arguments.map_condition,
            arguments.query_conditions,
        )
        results = evaluate({"weights": extractor.describe, "thumbnail": describe_thumbnails}, measured)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
