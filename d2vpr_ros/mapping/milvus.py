"""A map's places in Milvus, a vector database that many robots can share: uploading them, and searching there.

Needs pymilvus, and milvus-lite for a database in a local file (extra `milvus`); nothing else in the package does.
A collection holds one map. It carries the identity of the model and of the frame, and every place its id and stamp, so
that neither another map's collection nor a place that this robot's map does not have can be taken for an answer.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from d2vpr_ros.errors import UserError
from d2vpr_ros.mapping.header import MapHeader
from d2vpr_ros.mapping.place_map import PlaceMap
from d2vpr_ros.mapping.restriction import UNRESTRICTED, Restriction

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # it writes to stderr whatever becomes of a connection
try:
    from grpc import RpcError
    from pymilvus import DataType, MilvusClient, MilvusException
except ImportError as missing:
    raise UserError(
        f"Milvus needs a package that is not installed ({missing.name}); install it: pip install pymilvus milvus-lite"
    ) from None
for _name in ("pymilvus", "milvus_lite", "grpc"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)  # they log tracebacks; what went wrong is said in one line here

EXPECTED = "http://host:19530, or the name of a Milvus Lite file ending in .db (credentials: MILVUS_TOKEN)"
TIMEOUT_S = 0.5  # for a robot: an image is answered from its own map rather than late
_LOAD_TIMEOUT_S = 10.0  # the server reads the collection into memory; no image waits for that
_UPLOAD_TIMEOUT_S = 60.0
_UPLOAD_BYTES = 4_000_000  # a batch; a server takes 64 MB
_MOST_HITS = 16_384  # Milvus's own limit
_SAMPLE = 100
_IDENTITY = "d2vpr.map"


class MilvusLost(Exception):
    """Milvus does not answer, or not with what was asked for; says why in one line."""


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
        with _answering():
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
        rows, known = _rows(self.place_map, [hit["id"] for hit in hits], stamps)
        if restriction.region is not None:
            known &= restriction.region.holds(self.place_map.positions[rows])
        return similarities[known], rows[known]


def is_uri(text: str) -> bool:
    """Whether this is the address of a Milvus as in `EXPECTED`."""
    parts = urlsplit(text)
    return text.endswith(".db") or (parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in text)


def collection_name(place_map: PlaceMap, given: str = "") -> str:
    """The name given, or that of the map's file in the characters that Milvus takes.

    Raises:
        UserError: the name given has other characters.
    """
    if given and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,254}", given):
        raise UserError(f"'{given}' cannot be a collection's name; expected letters, digits and _, no digit first")
    return given or re.sub(r"[^A-Za-z0-9_]|^(?=\d)", "_", place_map.path.stem)[:255]


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


def open_places(uri: str, collection: str, place_map: PlaceMap) -> MilvusPlaces:
    """Connect to the collection of a map.

    Raises:
        UserError: there is no such collection or file, or it holds another map.
        MilvusLost: there was no answer in time.
    """
    if uri.endswith(".db") and not Path(uri).exists():
        raise UserError(f"Milvus Lite file {uri} does not exist; make it: d2vpr map push {place_map.path} --to {uri}")
    client = _connect(uri, TIMEOUT_S)
    try:
        with _answering():
            if not client.has_collection(collection, timeout=TIMEOUT_S):
                raise UserError(
                    f"{uri} has no collection {collection}; upload the map: d2vpr map push {place_map.path} --to {uri}"
                )
            _check_identity(client, collection, place_map.header, TIMEOUT_S)
            client.load_collection(collection, timeout=_LOAD_TIMEOUT_S)
            rows = np.unique(np.linspace(0, len(place_map) - 1, _SAMPLE).astype(int))
            ids = place_map.ids[rows].tolist()
            found = client.query(collection, ids=ids, output_fields=["stamp_ns"], timeout=TIMEOUT_S)
        if not _is_of(place_map, found):
            raise UserError(f"collection {collection} holds another map than {place_map.path}; {_WAY_OUT}")
    except BaseException:
        client.close()
        raise
    return MilvusPlaces(client, collection, place_map)


def push_map(
    place_map: PlaceMap, uri: str, collection: str, on_progress: Callable[[int], object] = lambda places: None
) -> int:
    """Make a collection hold the places of a map, whatever it held of it before.

    Args:
        on_progress: called with the number of places uploaded so far.

    Returns:
        How many places were taken out of the collection because the map has them no more.

    Raises:
        UserError: Milvus does not answer, or the collection holds something else.
    """
    try:
        client = _connect(uri, _UPLOAD_TIMEOUT_S)
        try:
            with _answering():
                return _push(client, place_map, collection, on_progress)
        finally:
            client.close()
    except MilvusLost as error:
        raise UserError(
            f"map {place_map.path} could not be uploaded to {uri} ({error}); put that right and run the same "
            "command again: what has arrived stays"
        ) from None


_WAY_OUT = "choose another with --collection (for the localizer: search_collection)"


def _push(client: MilvusClient, place_map: PlaceMap, collection: str, on_progress: Callable[[int], object]) -> int:
    if client.has_collection(collection, timeout=_UPLOAD_TIMEOUT_S):
        _check_identity(client, collection, place_map.header, _UPLOAD_TIMEOUT_S)
    else:
        _create(client, collection, place_map)
    client.load_collection(collection, timeout=_UPLOAD_TIMEOUT_S)
    stored = list(_stored(client, collection))
    if stored and not _is_of(place_map, stored):
        raise UserError(f"collection {collection} holds another map than {place_map.path}; {_WAY_OUT}")
    batch = max(1, _UPLOAD_BYTES // (4 * place_map.header.descriptor_width))
    for first in range(0, len(place_map), batch):
        rows = range(first, min(first + batch, len(place_map)))
        client.upsert(collection, [_entity(place_map, row) for row in rows], timeout=_UPLOAD_TIMEOUT_S)
        on_progress(rows.stop)
    gone = np.setdiff1d([place["id"] for place in stored], place_map.ids).tolist()
    for first in range(0, len(gone), batch):
        client.delete(collection, ids=gone[first : first + batch], timeout=_UPLOAD_TIMEOUT_S)
    client.flush(collection, timeout=_UPLOAD_TIMEOUT_S)
    return len(gone)


def _create(client: MilvusClient, collection: str, place_map: PlaceMap) -> None:
    schema = MilvusClient.create_schema(
        auto_id=False, enable_dynamic_field=False, description="places of a d2vpr map, made by d2vpr map push"
    )
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("descriptor", DataType.FLOAT_VECTOR, dim=place_map.header.descriptor_width)
    for name in ("session", "stamp_ns"):
        schema.add_field(name, DataType.INT64)
    for name in ("x", "y"):
        schema.add_field(name, DataType.DOUBLE)
    index = client.prepare_index_params()
    index.add_index("descriptor", index_type="FLAT", metric_type="IP")  # exact, as on the robot
    properties = {_IDENTITY: json.dumps(_identity(place_map.header), sort_keys=True)}
    client.create_collection(
        collection, schema=schema, index_params=index, properties=properties, timeout=_UPLOAD_TIMEOUT_S
    )


def _entity(place_map: PlaceMap, row: int) -> dict[str, Any]:
    return {
        "id": int(place_map.ids[row]),
        "descriptor": place_map.descriptors[row],
        "session": int(place_map.sessions[row]),
        "stamp_ns": int(place_map.stamps_ns[row]),
        "x": float(place_map.positions[row, 0]),
        "y": float(place_map.positions[row, 1]),
    }


def _stored(client: MilvusClient, collection: str) -> Iterator[dict[str, Any]]:
    pages = client.query_iterator(
        collection, batch_size=10_000, output_fields=["id", "stamp_ns"], timeout=_UPLOAD_TIMEOUT_S
    )
    try:
        while page := pages.next():
            yield from page
    finally:
        pages.close()


def _is_of(place_map: PlaceMap, stored: Sequence[dict[str, Any]]) -> bool:
    """Whether the places that a collection and a map both have are the same ones, but for a few."""
    _, known = _rows(place_map, [place["id"] for place in stored], [place["stamp_ns"] for place in stored])
    shared = int(np.isin([place["id"] for place in stored], place_map.ids).sum())
    return shared > 0 and 2 * int(known.sum()) > shared


def _rows(
    place_map: PlaceMap, ids: list[int], stamps_ns: list[int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """The map's rows of these ids, and whether the map has the place: by its id and its stamp."""
    rows = np.searchsorted(place_map.ids, np.array(ids, np.int64)).clip(max=len(place_map) - 1)
    known = (place_map.ids[rows] == np.array(ids, np.int64)) & (place_map.stamps_ns[rows] == np.array(stamps_ns))
    return rows, known


def _identity(header: MapHeader) -> dict[str, object]:
    """What has to be equal for descriptors and positions to mean the same."""
    origin = asdict(header.origin) if header.origin else None
    return {**asdict(header.model), "numbers": header.descriptor_width, "frame": header.frame, "origin": origin}


def _check_identity(client: MilvusClient, collection: str, header: MapHeader, timeout_s: float) -> None:
    described = client.describe_collection(collection, timeout=timeout_s)
    try:
        theirs = dict(json.loads(described["properties"][_IDENTITY]))
    except (KeyError, TypeError, ValueError):
        raise UserError(f"collection {collection} was not made by `d2vpr map push`; {_WAY_OUT}") from None
    ours = _identity(header)
    differences = [f"{name} {theirs.get(name)!r:.40} against {ours[name]!r:.40}" for name in ours
                   if theirs.get(name) != ours[name]]  # fmt: skip
    if differences:
        raise UserError(f"collection {collection} is of another map ({'; '.join(differences)}); {_WAY_OUT}")


def _connect(uri: str, timeout_s: float) -> MilvusClient:
    try:
        with _answering():
            return MilvusClient(
                uri,
                token=os.environ.get("MILVUS_TOKEN", ""),
                timeout=timeout_s,
                # A connection of its own: a shared one, once lost, keeps new ones waiting for minutes.
                dedicated=True,
                grpc_options={"grpc.use_local_subchannel_pool": 1},
            )
    except MilvusLost as error:
        if uri.endswith(".db"):
            raise MilvusLost(f"{error}: is it a Milvus Lite database, yours to write, open nowhere else?") from None
        raise


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except (MilvusException, RpcError) as error:
        said = getattr(error, "message", "") or (error.details() if hasattr(error, "details") else "") or str(error)
        raise MilvusLost(" ".join(str(said).split())[:200]) from None
