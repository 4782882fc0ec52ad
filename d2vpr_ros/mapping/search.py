"""Where a localizer looks up places: in its own memory, or in a database that many robots share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from d2vpr_ros.errors import UserError
from d2vpr_ros.mapping.index import Index
from d2vpr_ros.mapping.place_map import PlaceMap
from d2vpr_ros.mapping.restriction import UNRESTRICTED, Restriction

LOCAL = "faiss"  # the value of `search_backend` that needs no database


class Search(Protocol):
    """Finds the places of one map that look like an image."""

    @property
    def status(self) -> str:
        """Where is searched now, for /diagnostics."""
        ...

    def nearest(
        self, descriptor: npt.NDArray[np.float32], k: int, restriction: Restriction = UNRESTRICTED
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """The k nearest places (fewer if there are fewer).

        Args:
            descriptor: (D,) float32 of unit length.

        Returns:
            similarities: (k,) float32 cosines, best first, clamped to [-1, 1].
            rows: (k,) int64 of the map.
        """
        ...

    def close(self) -> None:
        """Let go of what is held open."""
        ...


class LocalSearch:
    """In memory: exact, and always there."""

    status = LOCAL

    def __init__(self, place_map: PlaceMap) -> None:
        self._map = place_map
        self._index = Index.of(place_map.descriptors)

    def nearest(
        self, descriptor: npt.NDArray[np.float32], k: int, restriction: Restriction = UNRESTRICTED
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        similarities, rows = self._index.search(descriptor[None], k, restriction.rows(self._map))
        return similarities[0], rows[0]

    def close(self) -> None:
        """Nothing is held open."""


def open_search(backend: str, collection: str, place_map: PlaceMap, say: Callable[[str], object]) -> Search:
    """What the parameters `search_backend` and `search_collection` ask for.

    Args:
        backend: `faiss`, or the address of a Milvus.
        collection: in it; empty takes the name of the map's file.
        say: takes one line each time the connection to Milvus is lost or found again; called from any thread.

    Raises:
        UserError: the backend is neither, or the collection is not there or another map's.
    """
    local = LocalSearch(place_map)
    if backend == LOCAL:
        return local
    from d2vpr_ros.mapping import milvus
    from d2vpr_ros.mapping.milvus_search import open_places
    from d2vpr_ros.mapping.shared_search import SharedSearch

    if not milvus.is_uri(backend):
        found = backend.rpartition("@")[2]  # without a password that stands before it
        raise UserError(f"parameter 'search_backend' is '{found}'; expected {LOCAL}, {milvus.EXPECTED}")
    name = milvus.collection_name(place_map, collection)
    return SharedSearch(local, lambda: open_places(backend, name, place_map), say)
