"""A map's places in Milvus, a vector database that many robots can share: reaching a collection, and knowing it again.

Needs pymilvus, and milvus-lite for a database in a local file (extra `milvus`); nothing else in the package does.
A collection holds one map. It carries the identity of the model and of the frame, and every place its id and stamp, so
that neither another map's collection nor a place that this robot's map does not have can be taken for an answer.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from d2vpr_ros.errors import UserError
from d2vpr_ros.mapping.header import MapHeader
from d2vpr_ros.mapping.place_map import PlaceMap

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # it writes to stderr whatever becomes of a connection
try:
    from grpc import RpcError
    from pymilvus import DataType as DataType  # for the modules beside this one, which need no guard of their own
    from pymilvus import MilvusClient as MilvusClient
    from pymilvus import MilvusException
except ImportError as missing:
    raise UserError(
        f"Milvus needs a package that is not installed ({missing.name}); install it: pip install pymilvus milvus-lite"
    ) from None
for _name in ("pymilvus", "milvus_lite", "grpc"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)  # they log tracebacks; what went wrong is said in one line here

EXPECTED = "http://host:19530, or the name of a Milvus Lite file ending in .db (credentials: MILVUS_TOKEN)"
IDENTITY = "d2vpr.map"  # the property of a collection that says whose it is
WAY_OUT = "choose another with --collection (for the localizer: search_collection)"


class MilvusLost(Exception):
    """Milvus does not answer, or not with what was asked for; says why in one line."""


def is_uri(text: str) -> bool:
    """Whether this is the address of a Milvus as in `EXPECTED`."""
    parts = urlsplit(text)
    return text.endswith(".db") or (parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in text)


def connect(uri: str, timeout_s: float) -> MilvusClient:
    """A client that is connected.

    Raises:
        MilvusLost: there was no answer in time.
    """
    try:
        with answering():
            return MilvusClient(
                str(Path(uri).expanduser()) if uri.endswith(".db") else uri,
                token=os.environ.get("MILVUS_TOKEN", ""),
                timeout=timeout_s,
                # A connection of its own: a shared one, once lost, keeps new ones waiting for minutes.
                dedicated=True,
                grpc_options={"grpc.use_local_subchannel_pool": 1},
            )
    except MilvusLost as error:
        if uri.endswith(".db"):
            raise MilvusLost(
                f"{error}; check that it is a Milvus Lite database, that you have write permission, and that no other "
                "program has it open"
            ) from None
        raise


@contextmanager
def answering() -> Iterator[None]:
    """Whatever Milvus fails at inside the block is raised as MilvusLost."""
    try:
        yield
    except (MilvusException, RpcError) as error:
        said = getattr(error, "message", "") or (error.details() if hasattr(error, "details") else "") or str(error)
        raise MilvusLost(" ".join(str(said).split())[:200]) from None


def collection_name(place_map: PlaceMap, given: str = "") -> str:
    """The name given, or that of the map's file in the characters that Milvus takes.

    Raises:
        UserError: the name given has other characters.
    """
    if given and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,254}", given):
        raise UserError(f"'{given}' cannot be a collection's name; expected letters, digits and _, no digit first")
    return given or re.sub(r"[^A-Za-z0-9_]|^(?=\d)", "_", place_map.path.stem)[:255]


def identity(header: MapHeader) -> dict[str, object]:
    """What has to be equal for descriptors and positions to mean the same."""
    origin = asdict(header.origin) if header.origin else None
    return {**asdict(header.model), "numbers": header.descriptor_width, "frame": header.frame, "origin": origin}


def check_identity(client: MilvusClient, collection: str, header: MapHeader, timeout_s: float) -> None:
    """Compare what a collection says of itself with a map.

    Raises:
        UserError: it is of another map, or of none.
    """
    described = client.describe_collection(collection, timeout=timeout_s)
    try:
        theirs = dict(json.loads(described["properties"][IDENTITY]))
    except (KeyError, TypeError, ValueError):
        raise UserError(f"collection {collection} was not made by `d2vpr map push`; {WAY_OUT}") from None
    ours = identity(header)
    differences = [f"{name} {theirs.get(name)!r:.40} against {ours[name]!r:.40}" for name in ours
                   if theirs.get(name) != ours[name]]  # fmt: skip
    if differences:
        raise UserError(f"collection {collection} is of another map ({'; '.join(differences)}); {WAY_OUT}")


def is_of(place_map: PlaceMap, stored: Sequence[dict[str, Any]]) -> bool:
    """Whether the places that a collection and a map both have are the same ones, but for a few."""
    _, known = rows_of(place_map, [place["id"] for place in stored], [place["stamp_ns"] for place in stored])
    shared = int(np.isin([place["id"] for place in stored], place_map.ids).sum())
    return shared > 0 and 2 * int(known.sum()) > shared


def rows_of(
    place_map: PlaceMap, ids: list[int], stamps_ns: list[int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """(N,) the map's rows of these ids, and (N,) whether the map really has the place: by its id and its stamp."""
    rows = np.searchsorted(place_map.ids, np.array(ids, np.int64)).clip(max=len(place_map) - 1)
    known = (place_map.ids[rows] == np.array(ids, np.int64)) & (place_map.stamps_ns[rows] == np.array(stamps_ns))
    return rows, known
