"""The numbers of a report, one function each: None where there is nothing to count, never NaN."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from d2vpr_ros.evaluation.recall import recall_of
from d2vpr_ros.evaluation.scoring import ScoredQuery

KS = (1, 5, 10)


def share(flags: Iterable[bool | None]) -> float | None:
    """How many are true of those that are known."""
    known = [flag for flag in flags if flag is not None]
    return float(np.mean(known)) if known else None


def quantile(values: Iterable[float | None], part: float) -> float | None:
    """The value that `part` of the known ones do not exceed."""
    known = [value for value in values if value is not None]
    return float(np.quantile(known, part)) if known else None


def precision(queries: Sequence[ScoredQuery]) -> float | None:
    """Right answers among all accepted ones."""
    return share(query.right for query in queries if query.accepted)


def recalls(queries: Sequence[ScoredQuery]) -> dict[int, float | None]:
    """Recall@1, 5 and 10 over these queries: that a right candidate is among the first k, accepted or not."""
    if not queries:
        return dict.fromkeys(KS)
    found = np.zeros((len(queries), max(KS)), bool)
    for row, query in zip(found, queries, strict=True):
        row[: len(query.found)] = query.found[: max(KS)]
    return {**recall_of(found, KS)}


def per_thousand(count: int, total: int) -> float | None:
    return 1000 * count / total if total else None
