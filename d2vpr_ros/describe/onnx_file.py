"""Reading an exported network from strangers: what it says of itself, and what is refused before anything runs it.

The file is a protocol buffer (onnx.proto); only the few fields that are asked for are looked at, so no library is
needed. A graph without subgraphs has no loops: it ends.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from d2vpr_ros.describe.identity import ModelIdentity
from d2vpr_ros.errors import UserError

MAX_BYTES = 1 << 30  # the paper's network is 0.11 GB, with a projection to 4096 numbers 0.29 GB
IDENTITY_KEY = "d2vpr_ros.identity"
PRECISION_KEY = "d2vpr_ros.precision"

WAY_OUT = "export the weights again: d2vpr export WEIGHTS -o FILE.onnx"

# Field numbers of onnx.proto.
_MODEL_GRAPH, _MODEL_METADATA, _MODEL_FUNCTIONS = 7, 14, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_ATTRIBUTE, _NODE_DOMAIN = 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14
_ENTRY_KEY, _ENTRY_VALUE = 1, 2

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def read_onnx(path: Path) -> bytes:
    """The bytes of an ONNX file that keeps to one file and to plain operators.

    Raises:
        UserError: no such file, too large, no ONNX, or with external data, subgraphs, functions or foreign operators.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UserError(
                f"ONNX file {path} has {size / 1e9:.1f} GB; expected at most {MAX_BYTES / 1e9:.1f}; {WAY_OUT}"
            )
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"ONNX file {path} cannot be read ({error.strerror or error}); {WAY_OUT}") from None
    try:
        found = _objection(memoryview(content))
    except (ValueError, IndexError):
        found = "is damaged or no ONNX model"
    if found:
        raise UserError(f"ONNX file {path} {found}; {WAY_OUT}")
    return content


def identity_of(metadata: dict[str, str], path: Path) -> ModelIdentity:
    """The identity that `d2vpr export` wrote into a file.

    Raises:
        UserError: there is none, or not one of this version's.
    """
    try:
        values = json.loads(metadata[IDENTITY_KEY])
        if not all(isinstance(value, str) for value in values.values()):
            raise TypeError("a value is no text")
        return ModelIdentity(**values)
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        raise UserError(
            f"ONNX file {path} does not say which weights it was made from; only files of `d2vpr export` can be used: "
            "d2vpr export WEIGHTS -o FILE.onnx"
        ) from None


def metadata_of(identity: ModelIdentity, precision: str) -> dict[str, str]:
    """What `identity_of` reads."""
    return {IDENTITY_KEY: json.dumps(asdict(identity)), PRECISION_KEY: precision}


def _objection(model: memoryview) -> str:
    """What speaks against a model, in words; empty if nothing does."""
    graphs = 0
    for field, value in _fields(model):
        if field == _MODEL_FUNCTIONS:
            return "brings functions of its own"
        if field == _MODEL_METADATA:
            dict(_fields(_sub(value)))
        if field == _MODEL_GRAPH:
            graphs += 1
            if found := _objection_to_graph(_sub(value)):
                return found
    return "" if graphs == 1 else "is damaged or no ONNX model"


def _objection_to_graph(graph: memoryview) -> str:
    for field, value in _fields(graph):
        if field == _GRAPH_SPARSE:
            return "holds sparse tensors"
        if field == _GRAPH_INITIALIZER and _is_external(_sub(value)):
            return "keeps its weights in other files"
        if field == _GRAPH_NODE and (found := _objection_to_node(_sub(value))):
            return found
    return ""


def _objection_to_node(node: memoryview) -> str:
    for field, value in _fields(node):
        if field == _NODE_DOMAIN and bytes(_sub(value)) not in (b"", b"ai.onnx"):
            return "asks for operators from elsewhere"
        if field != _NODE_ATTRIBUTE:
            continue
        for kind, content in _fields(_sub(value)):
            if kind in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
                return "holds loops or branches"
            if kind in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS) and _is_external(_sub(content)):
                return "keeps its weights in other files"
    return ""


def _is_external(tensor: memoryview) -> bool:
    return any(
        field == _TENSOR_EXTERNAL or (field == _TENSOR_LOCATION and value != 0) for field, value in _fields(tensor)
    )


def _sub(value: memoryview | int) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message belongs")
    return value


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Field numbers and values of one message (protobuf's wire format).

    Raises:
        ValueError, IndexError: it is none.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        field, kind = key >> 3, key & 7
        if kind == _VARINT:
            number, at = _varint(message, at)
            yield field, number
            continue
        if kind == _BYTES:
            length, at = _varint(message, at)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError("an unknown kind of field")
        if at + length > len(message):
            raise ValueError("a field longer than the message")
        yield field, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
