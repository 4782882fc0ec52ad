"""Nearest places by descriptor: exact search."""

from __future__ import annotations

from dataclasses import dataclass

import faiss
import numpy as np
import numpy.typing as npt

_FLAT_UP_TO = 20_000  # places; above, half precision halves memory and time and finds the same neighbours


@dataclass(frozen=True, eq=False)
class Index:
    """Built by `Index.of` over descriptors of unit length."""

    searcher: faiss.Index

    @staticmethod
    def of(descriptors: npt.NDArray[np.float32]) -> Index:
        """(N, D) float32 -> an index whose results are row numbers."""
        width = descriptors.shape[1]
        if len(descriptors) <= _FLAT_UP_TO:
            searcher: faiss.Index = faiss.IndexFlatIP(width)
        else:
            searcher = faiss.IndexScalarQuantizer(width, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
            searcher.train(descriptors[:1])
        searcher.add(np.ascontiguousarray(descriptors, dtype=np.float32))
        return Index(searcher)

    def search(
        self, descriptors: npt.NDArray[np.float32], k: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """The k nearest rows of each query (fewer if there are fewer).

        Returns:
            similarities: (Q, k) float32 cosines, best first, clamped to [-1, 1].
            rows: (Q, k) int64.
        """
        similarities, rows = self.searcher.search(np.ascontiguousarray(descriptors), min(k, self.searcher.ntotal))
        return np.clip(similarities, -1.0, 1.0), rows
