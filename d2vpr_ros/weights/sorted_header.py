"""Safetensors files that are the same bytes whenever their contents are: the library writes notes in random order."""

from __future__ import annotations

import json
import struct


def sort_header(content: bytes) -> bytes:
    """A whole safetensors file with the keys of its header in order; tensors and their offsets stay as they are.

    The format: 8 bytes little-endian length of the header, the header as JSON padded with spaces, then the tensors.
    """
    (length,) = struct.unpack_from("<Q", content)
    header = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + content[8 + length :]
