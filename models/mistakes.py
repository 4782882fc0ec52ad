"""The page of an evaluation: its table, its protocols, and the worst mistakes as pairs of pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from d2vpr_ros.describe.attention import look
from d2vpr_ros.evaluation.explain import with_attention
from d2vpr_ros.evaluation.page import data_uri, write_page
from d2vpr_ros.evaluation.report import Table
from d2vpr_ros.model import D2VPR
from models.benchmarks import Benchmark, Image
from models.scores import KS, Score, as_text

SHOWN_WIDTH = 320


def worst_mistakes(score: Score, count: int) -> list[int]:
    """The queries whose first candidate is wrong although it looks most alike; without labels the least alike ones."""
    wrong = np.flatnonzero(~score.found[:, 0]) if score.labelled else np.arange(len(score.found))
    likeness = score.similarities[wrong, 0]
    order = np.argsort(-likeness if score.labelled else likeness, kind="stable")
    return [int(row) for row in wrong[order][:count]]


def write_mistakes(
    path: Path,
    scores: Sequence[tuple[Benchmark, Sequence[Score]]],
    command: str,
    count: int,
    networks: Mapping[str, D2VPR],
) -> None:
    """Write one page that needs nothing else.

    Args:
        command: what was run; escaped, as all text here.
        count: pairs shown of each method and benchmark.
        networks: by method, those whose attention is shown below the two pictures.

    Raises:
        OSError: it cannot be written.
    """
    methods = list(dict.fromkeys(score.method for _, of_one in scores for score in of_one))
    rows, groups = [], []
    for benchmark, of_one in scores:
        by_name = {score.method: as_text(score) for score in of_one}
        sizes = [benchmark.rule, str(len(benchmark.database)), str(len(benchmark.queries))]
        rows.append((benchmark.name, [*sizes, *(by_name.get(method, "") for method in methods)]))
        for score in of_one:
            network = networks.get(score.method)
            pairs = [_pair(benchmark, score, query, network) for query in worst_mistakes(score, count)]
            what = "the wrong first candidates that look most alike" if score.labelled else "the least alike first ones"
            groups.append((f"{benchmark.name}, {score.method}: {what}", pairs))
    write_page(
        path,
        "report",
        "Place recognition, measured",
        lead=f"Recall@{'/'.join(map(str, KS))}, share of the queries with a correct image among the first.",
        table=Table(["correct", "database", "queries", *methods], rows),
        drawings=(),
        player=None,
        groups=[group for group in groups if group[1]],
        facts=[
            ("command", command),
            *((benchmark.name, note) for benchmark, _ in scores for note in benchmark.notes),
            *dict.fromkeys((score.method, score.said) for _, of_one in scores for score in of_one),
        ],
    )


def _pair(benchmark: Benchmark, score: Score, query: int, network: D2VPR | None) -> dict[str, object]:
    """What the page's template shows of a query beside its first candidate."""
    match = int(score.candidates[query, 0])
    said = f"similarity {score.similarities[query, 0]:.3f}"
    names = (getattr(benchmark.queries, "names", None), getattr(benchmark.database, "names", None))
    if names[0] is not None and names[1] is not None:
        said += f", {names[0][query]} → {names[1][match]}"
    pictures = benchmark.queries[query], benchmark.database[match]
    shown: dict[str, object] = {
        "query": data_uri(_jpeg(pictures[0])),
        "match": data_uri(_jpeg(pictures[1])),
        "caption": said,
        "verdict": "false" if score.labelled else "silent",
    }
    if network is not None:
        shown["attention"] = [data_uri(_jpeg(with_attention(look(network, picture)))) for picture in pictures]
    return shown


def _jpeg(image: Image) -> bytes:
    height = max(1, round(image.shape[0] * SHOWN_WIDTH / image.shape[1]))
    small = cv2.resize(image, (SHOWN_WIDTH, height), interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
