"""Searching for places in a Milvus collection, as in the map that was uploaded there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from d2vpr_ros.errors import UserError
from d2vpr_ros.mapping import milvus
from d2vpr_ros.mapping.milvus import MilvusClient, MilvusLost
from d2vpr_ros.mapping.place_map import PlaceMap
from d2vpr_ros.mapping.restriction import UNRESTRICTED, Restriction

TIMEOUT_S = 0.5  # an image is answered from the robot's own map rather than late
_LOAD_TIMEOUT_S = 10.0  # the server reads the collection into memory; no image waits for that
_MOST_HITS = 16_384  # Milvus's own limit
_SAMPLE = 100  # places by which a collection is known again


@dataclass(frozen=True, eq=False)
class MilvusPlaces:
    """A collection that `open_places` found to hold the places of a map."""

    client: MilvusClient
    collection: str
    place_map: PlaceMap

    def nearest(
        self, descriptor: npt.NDArray[np.float32], k: int, restriction: Restriction = UNRESTRICTED
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """The k nearest places of the map (fewer if there are fewer).

        Args:
            descriptor: (D,) float32 of unit length.

        Returns:
            similarities: (k,) float32 cosines, best first, clamped to [-1, 1].
            rows: (k,) int64 of the map.

        Raises:
            MilvusLost: no answer within `TIMEOUT_S`, or none of the map's places in it.
        """
        limit = min(k, len(self.place_map), _MOST_HITS)
        while True:
            hits = self._ask(descriptor, limit, restriction) if limit and restriction.sessions != frozenset() else []
            similarities, rows = self._known(hits, restriction)
            # Milvus compares numbers with constants, so it is asked for the square around a circle, and may know more
            # places than this map: what falls away here is made up for by asking for more.
            if len(rows) >= k or len(hits) < limit or limit in (0, _MOST_HITS):
                break
            limit = min(4 * limit, _MOST_HITS)
        if not len(rows) and restriction == UNRESTRICTED:
            raise MilvusLost(f"collection {self.collection} holds none of the map's places")
        return np.clip(similarities[:k], -1.0, 1.0), rows[:k]

    def close(self) -> None:
        self.client.close()

    def _ask(self, descriptor: npt.NDArray[np.float32], limit: int, restriction: Restriction) -> list[dict[str, Any]]:
        with milvus.answering():
            found = self.client.search(
                self.collection,
                data=[np.asarray(descriptor, np.float32)],
                anns_field="descriptor",
                limit=limit,
                filter=expression(restriction),
                output_fields=["stamp_ns"],
                search_params={"metric_type": "IP"},
                timeout=TIMEOUT_S,
            )
        return list(found[0])

    def _known(
        self, hits: list[dict[str, Any]], restriction: Restriction
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        similarities = np.array([hit["distance"] for hit in hits], np.float32)
        stamps = [hit["entity"]["stamp_ns"] for hit in hits]
        rows, known = milvus.rows_of(self.place_map, [hit["id"] for hit in hits], stamps)
        if restriction.region is not None:
            known &= restriction.region.holds(self.place_map.positions[rows])
        return similarities[known], rows[known]


def open_places(uri: str, collection: str, place_map: PlaceMap) -> MilvusPlaces:
    """Connect to the collection of a map.

    Raises:
        UserError: there is no such collection or file, or it holds another map.
        MilvusLost: there was no answer in time.
    """
    if uri.endswith(".db") and not Path(uri).expanduser().exists():
        raise UserError(f"Milvus Lite file {uri} does not exist; make it: d2vpr map push {place_map.path} --to {uri}")
    client = milvus.connect(uri, TIMEOUT_S)
    try:
        with milvus.answering():
            if not client.has_collection(collection, timeout=TIMEOUT_S):
                raise UserError(
                    f"{uri} has no collection {collection}; upload the map: d2vpr map push {place_map.path} --to {uri}"
                )
            milvus.check_identity(client, collection, place_map.header, TIMEOUT_S)
            client.load_collection(collection, timeout=_LOAD_TIMEOUT_S)
            rows = np.unique(np.linspace(0, len(place_map) - 1, _SAMPLE).astype(int))
            ids = place_map.ids[rows].tolist()
            found = client.query(collection, ids=ids, output_fields=["stamp_ns"], timeout=TIMEOUT_S)
        if not milvus.is_of(place_map, found):
            raise UserError(f"collection {collection} holds another map than {place_map.path}; {milvus.WAY_OUT}")
    except BaseException:
        client.close()
        raise
    return MilvusPlaces(client, collection, place_map)


def expression(restriction: Restriction) -> str:
    """The restriction as Milvus filters; made of numbers only. A circle becomes the square around it."""
    parts = []
    if (region := restriction.region) is not None:
        reach = region.radius_m + 1e-3  # rounding must not cut a place off; the circle itself is held to afterwards
        for name, centre in (("x", region.x), ("y", region.y)):
            parts += [f"{name} >= {float(centre - reach)!r}", f"{name} <= {float(centre + reach)!r}"]
    if restriction.sessions is not None:
        parts.append(f"session in {[int(session) for session in sorted(restriction.sessions)]}")
    return " and ".join(parts)
