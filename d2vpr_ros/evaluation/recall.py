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
