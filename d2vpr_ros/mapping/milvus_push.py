"""Uploading a map to a Milvus collection."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from d2vpr_ros.errors import UserError
from d2vpr_ros.mapping import milvus
from d2vpr_ros.mapping.milvus import DataType, MilvusClient, MilvusLost
from d2vpr_ros.mapping.place_map import PlaceMap

_TIMEOUT_S = 60.0
_BATCH_BYTES = 4_000_000  # a server takes 64 MB


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
        client = milvus.connect(uri, _TIMEOUT_S)
        try:
            with milvus.answering():
                return _push(client, place_map, collection, on_progress)
        finally:
            client.close()
    except MilvusLost as error:
        raise UserError(
            f"map {place_map.path} could not be uploaded to {uri} ({error}); fix that and run the same command again; "
            "uploaded places stay"
        ) from None


def _push(client: MilvusClient, place_map: PlaceMap, collection: str, on_progress: Callable[[int], object]) -> int:
    if client.has_collection(collection, timeout=_TIMEOUT_S):
        milvus.check_identity(client, collection, place_map.header, _TIMEOUT_S)
    else:
        _create(client, collection, place_map)
    client.load_collection(collection, timeout=_TIMEOUT_S)
    stored = list(_stored(client, collection))
    if stored and not milvus.is_of(place_map, stored):
        raise UserError(f"collection {collection} holds another map than {place_map.path}; {milvus.WAY_OUT}")
    batch = max(1, _BATCH_BYTES // (4 * place_map.header.descriptor_width))
    for first in range(0, len(place_map), batch):
        rows = range(first, min(first + batch, len(place_map)))
        client.upsert(collection, [_entity(place_map, row) for row in rows], timeout=_TIMEOUT_S)
        on_progress(rows.stop)
    gone = np.setdiff1d([place["id"] for place in stored], place_map.ids).tolist()
    for first in range(0, len(gone), batch):
        client.delete(collection, ids=gone[first : first + batch], timeout=_TIMEOUT_S)
    client.flush(collection, timeout=_TIMEOUT_S)
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
    properties = {milvus.IDENTITY: json.dumps(milvus.identity(place_map.header), sort_keys=True)}
    client.create_collection(collection, schema=schema, index_params=index, properties=properties, timeout=_TIMEOUT_S)


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
    pages = client.query_iterator(collection, batch_size=10_000, output_fields=["id", "stamp_ns"], timeout=_TIMEOUT_S)
    try:
        while page := pages.next():
            yield from page
    finally:
        pages.close()
