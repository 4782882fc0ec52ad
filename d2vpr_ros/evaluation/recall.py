"""Recall@k, the one function for it: training, benchmarks and the demo count alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def recall_at(
    similarity: npt.NDArray[np.floating], positives: npt.NDArray[np.bool_], ks: Sequence[int] = (1, 5, 10)
) -> dict[int, float]:
    """Share of *all* queries with at least one positive among their k most similar database images.

    The denominator is every query, those without any positive included: they count as missed, as in the published
    benchmarks. To count over the answerable ones only, leave the others out of both arguments and say so.

    Args:
        similarity: (queries, database), larger is more alike; of equal ones the first counts as nearer.
        positives: (queries, database), True where both show the same place.
        ks: list lengths; one longer than the database means all of it.

    Returns:
        recall in 0..1 for each k.

    Raises:
        ValueError: shapes differ, there is no query, or a k is below 1.
    """
    if similarity.shape != positives.shape or similarity.ndim != 2 or len(similarity) == 0:
        raise ValueError(f"expected two (queries, database) arrays, got {similarity.shape} and {positives.shape}")
    nearest = np.argsort(-similarity, axis=1, kind="stable")
    return recall_of(np.take_along_axis(positives, nearest, axis=1), ks)


def recall_of(found: npt.NDArray[np.bool_], ks: Sequence[int] = (1, 5, 10)) -> dict[int, float]:
    """Recall@k of candidates that are ranked already.

    Args:
        found: (queries, ranks), True where the candidate of that rank is right; best rank first.

    Raises:
        ValueError: a k is below 1.
    """
    if any(k < 1 for k in ks):
        raise ValueError(f"recall@k needs k of at least 1, got {list(ks)}")
    return {k: float(found[:, :k].any(axis=1).mean()) for k in ks}


def nearest(
    queries: npt.NDArray[np.float32], database: npt.NDArray[np.float32], k: int, rows: int = 256
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The k most similar database images of each query, in the order in which `recall_at` ranks them.

    Memory stays bounded: `rows` queries are compared at a time, and the arrays may be memory-mapped.

    Args:
        queries, database: descriptors (N, D) and (M, D) of unit length.
        k: list length; one longer than the database means all of it.

    Returns:
        rows of the database (N, k) and their cosine similarities (N, k), best first; of equal ones the first row.

    Raises:
        ValueError: k is below 1, or the widths differ.
    """
    if k < 1 or queries.shape[1:] != database.shape[1:]:
        raise ValueError(f"expected k of at least 1 and one width, got {k}, {queries.shape} and {database.shape}")
    k = min(k, len(database))
    found, alike = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
    for start in range(0, len(queries), rows):
        similarity = queries[start : start + rows] @ database.T
        # Everything at least as similar as the k-th, so that equal ones at the end are not chosen at random.
        least = np.partition(similarity, -k, axis=1)[:, -k]
        for number, (row, bound) in enumerate(zip(similarity, least, strict=True), start):
            candidates = np.flatnonzero(row >= bound)
            best = candidates[np.argsort(-row[candidates], kind="stable")[:k]]
            found[number], alike[number] = best, row[best]
    return found, alike
