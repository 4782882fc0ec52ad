"""One method on one benchmark: its candidates, and recall as table, JSON and list of matches."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from d2vpr_ros.evaluation.recall import nearest, recall_of
from models.benchmarks import Benchmark
from models.methods import Method

KS = (1, 5, 10)


@dataclass(frozen=True, eq=False)
class Score:
    """What a method found.

    Attributes:
        method, said: its name and what it is.
        candidates: (queries, 10) rows of the database, best first (fewer columns where the database is smaller).
        similarities: (queries, 10) cosines.
        found: (queries, 10), True where the candidate is correct.
        answerable: (queries,), True where the database has a correct image.
        labelled: whether there is a truth to count by.
    """

    method: str
    said: str
    candidates: npt.NDArray[np.int64]
    similarities: npt.NDArray[np.float32]
    found: npt.NDArray[np.bool_]
    answerable: npt.NDArray[np.bool_]
    labelled: bool

    @property
    def recall(self) -> dict[int, float]:
        """Over all queries, as published."""
        return recall_of(self.found, KS)

    @property
    def recall_of_answerable(self) -> dict[int, float] | None:
        """Over the queries that have a correct image; None where none has."""
        return recall_of(self.found[self.answerable], KS) if self.answerable.any() else None


def score(
    method: Method, benchmark: Benchmark, queries: npt.NDArray[np.float32], database: npt.NDArray[np.float32]
) -> Score:
    """Search the database for every query."""
    candidates, similarities = nearest(queries, database, max(KS))
    found = np.take_along_axis(benchmark.positives, candidates, axis=1)
    answerable = np.asarray(benchmark.positives.any(axis=1))
    return Score(method.name, method.said, candidates, similarities, found, answerable, benchmark.labelled)


def as_text(score: Score) -> str:
    """R@1 / R@5 / R@10 as shares."""
    return " / ".join(f"{score.recall[k]:.3f}" for k in KS) if score.labelled else "no labels"


def as_json(benchmark: Benchmark, scores: Sequence[Score]) -> dict[str, Any]:
    """All numbers of a benchmark, with the protocol beside them."""
    return {
        "benchmark": benchmark.name,
        "rule": benchmark.rule,
        "notes": list(benchmark.notes),
        "database": len(benchmark.database),
        "queries": len(benchmark.queries),
        "methods": [
            {
                "method": each.method,
                "said": each.said,
                "recall": each.recall if each.labelled else None,
                "queries_with_a_correct_image": int(each.answerable.sum()) if each.labelled else None,
                "recall_of_those": each.recall_of_answerable if each.labelled else None,
            }
            for each in scores
        ],
    }


def write_matches(path: Path, results: Sequence[tuple[Benchmark, Sequence[Score]]]) -> None:
    """A csv of the first candidates of every query; `correct` is empty where there are no labels."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["benchmark", "method", "query", "rank", "database", "similarity", "correct"])
        for benchmark, scores in results:
            names = [getattr(images, "names", range(len(images))) for images in (benchmark.queries, benchmark.database)]
            for each in scores:
                for (query, rank), row in np.ndenumerate(each.candidates):
                    correct = int(each.found[query, rank]) if each.labelled else ""
                    alike = f"{each.similarities[query, rank]:.6f}"
                    found = [names[0][query], rank + 1, names[1][row], alike, correct]
                    writer.writerow([benchmark.name, each.method, *found])
