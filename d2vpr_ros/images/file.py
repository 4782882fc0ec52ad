"""One picture from a file of the user's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from d2vpr_ros.errors import UserError
from d2vpr_ros.images.decode import decode_compressed
from d2vpr_ros.images.deep import Range

_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")  # JPEG, PNG
_JPEG_SCAN, _JPEG_END, _PNG_END = b"\xff\xda", b"\xff\xd9", b"IEND"


def read_picture(path: Path, image_range: Range | None = None) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a JPEG or PNG file.

    Args:
        image_range: of 16 bits, as for `decode_image`.

    Raises:
        UserError: there is no such file, or it is no picture, or damaged, or cut off: OpenCV would make the rest grey.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder; expected one picture, JPEG or PNG")
    if not path.is_file():
        raise UserError(f"{path}: no such picture; expected a JPEG or PNG file")
    try:
        with path.open("rb") as file:
            data = file.read(16)
            if not data.startswith(_BEGINNINGS):
                raise UserError(f"{path} is no JPEG or PNG (it begins with {data[:8]!r}); convert it to one of them")
            data += file.read()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error})") from None
    if _cut_off(data):
        raise UserError(f"{path} is cut off: its {len(data)} bytes have no end of a picture; copy it again")
    try:
        return decode_compressed(np.frombuffer(data, np.uint8), image_range)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _cut_off(data: bytes) -> bool:
    """Whether a JPEG or PNG file has no end."""
    if data.startswith(_BEGINNINGS[1]):
        return _PNG_END not in data
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:  # over the segments, which may hold a small picture of their own
        if data[at : at + 2] == _JPEG_SCAN:
            return data.find(_JPEG_END, at) < 0
        at += 1 if data[at + 1] == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return True
