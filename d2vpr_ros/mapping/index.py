"""Nearest places by descriptor: exact search."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import faiss
import numpy as np
import numpy.typing as npt

_FLAT_UP_TO = 5_000  # places; above, half precision halves memory and time and finds the same neighbours
_SPLIT_FROM = 10_000_000  # numbers to go through; below, handing work to threads costs more than it saves

Found = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


@dataclass(eq=False)
class Index:
    """Built by `Index.of` over descriptors of unit length; one thread adds, and none searches meanwhile."""

    searcher: faiss.Index

    @staticmethod
    def of(descriptors: npt.NDArray[np.float32]) -> Index:
        """(N, D) float32 -> an index whose results are row numbers.

        It keeps a copy: 4 bytes a number up to 5 000 rows, 2 bytes above.
        """
        return Index(_searcher(descriptors))

    def add(self, descriptors: npt.NDArray[np.float32]) -> None:
        """Append rows, (N, D) float32; the index is then as `of` makes it of all rows."""
        before = self.searcher.ntotal
        if before <= _FLAT_UP_TO < before + len(descriptors):
            self.searcher = _searcher(np.concatenate([self.searcher.reconstruct_n(0, before), descriptors]))
        else:
            self.searcher.add(np.ascontiguousarray(descriptors, dtype=np.float32))

    def search(self, descriptors: npt.NDArray[np.float32], k: int, among: npt.NDArray[np.int64] | None = None) -> Found:
        """The k nearest rows of each query (fewer if there are fewer).

        Args:
            descriptors: (Q, D) float32 of unit length.
            among: (M,) the rows to look at, each once; None looks at all.

        Returns:
            similarities: (Q, k) float32 cosines, best first, clamped to [-1, 1].
            rows: (Q, k) int64.
        """
        queries = np.ascontiguousarray(descriptors, dtype=np.float32)
        allowed = self.searcher.ntotal if among is None else len(among)
        k = min(k, allowed)
        if k == 0:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        threads = faiss.omp_get_max_threads()
        if len(queries) > 1 or allowed * self.searcher.d < _SPLIT_FROM:
            if len(queries) == 1:
                faiss.omp_set_num_threads(1)  # of this thread's: they would wait for each other on a busy machine
            try:
                similarities, rows = self._search(queries, k, self._selectors(among, 1)[0])
            finally:
                faiss.omp_set_num_threads(threads)
        else:
            # FAISS spreads many queries over the cores but leaves a single one on one, so its rows are spread here.
            selectors = self._selectors(among, threads)
            found = list(_threads(threads).map(lambda selector: self._search(queries, k, selector), selectors))
            similarities, rows = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
            best = np.argsort(-similarities, axis=1, kind="stable")[:, :k]  # what a small share lacks sorts last
            similarities, rows = np.take_along_axis(similarities, best, 1), np.take_along_axis(rows, best, 1)
        return np.clip(similarities, -1.0, 1.0), rows

    def _search(self, queries: npt.NDArray[np.float32], k: int, selector: faiss.IDSelector | None) -> Found:
        parameters = None
        if selector is not None:
            parameters = faiss.SearchParameters()
            parameters.sel = selector
        similarities, rows = self.searcher.search(queries, k, params=parameters)
        return similarities, rows

    def _selectors(self, among: npt.NDArray[np.int64] | None, shares: int) -> list[faiss.IDSelector | None]:
        """The rows to look at in equal shares, as FAISS is told of them."""
        if among is None:
            if shares == 1:
                return [None]
            bounds = np.linspace(0, self.searcher.ntotal, shares + 1).astype(int).tolist()
            return [faiss.IDSelectorRange(first, end) for first, end in pairwise(bounds)]
        return [_bitmap(rows, self.searcher.ntotal) for rows in np.array_split(among, shares)]


def _searcher(descriptors: npt.NDArray[np.float32]) -> faiss.Index:
    width = descriptors.shape[1]
    if len(descriptors) <= _FLAT_UP_TO:
        searcher: faiss.Index = faiss.IndexFlatIP(width)
    else:
        searcher = faiss.IndexScalarQuantizer(width, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
        searcher.train(descriptors[:1])
    searcher.add(np.ascontiguousarray(descriptors, dtype=np.float32))
    return searcher


def _bitmap(rows: npt.NDArray[np.int64], count: int) -> faiss.IDSelectorBitmap:
    wanted = np.zeros(count, bool)
    wanted[rows] = True
    bits = np.packbits(wanted, bitorder="little")
    return faiss.IDSelectorBitmap(bits)  # type: ignore[call-arg, arg-type]  # its stub has the C++ arguments


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    """Threads that stay, each without threads of FAISS's own."""
    return ThreadPoolExecutor(count, "search", initializer=lambda: faiss.omp_set_num_threads(1))
