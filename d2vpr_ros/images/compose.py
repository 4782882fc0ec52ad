"""Pictures for people: the query beside its match."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]

_HEIGHT = 240
_GAP = 4
_GREEN, _RED = (40, 180, 60), (200, 50, 40)


def side_by_side(query: Image, match: Image | None, accepted: bool) -> Image:
    """Query left, match right (black where there is none), over a bar that is green for accepted and red for rejected.

    Args:
        query, match: (H, W, 3) uint8 RGB of any sizes.
    """
    left = _to_height(query)
    right = np.zeros_like(left) if match is None else _to_height(match)
    pair = np.hstack([left, np.full((_HEIGHT, _GAP, 3), 255, np.uint8), right])
    bar = np.full((2 * _GAP, pair.shape[1], 3), _GREEN if accepted else _RED, np.uint8)
    return np.vstack([pair, bar])


def encode_jpeg(rgb: Image, quality: int = 80) -> bytes:
    """(H, W, 3) uint8 RGB -> JPEG."""
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return jpeg.tobytes()


def decode_jpeg(jpeg: bytes) -> Image | None:
    """JPEG -> (H, W, 3) uint8 RGB, or None if it is none."""
    bgr = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) if jpeg else None  # raises on nothing at all
    return None if bgr is None else cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


def _to_height(image: Image) -> Image:
    width = max(1, round(image.shape[1] * _HEIGHT / image.shape[0]))
    return resize_area(image, (width, _HEIGHT))


def resize_area(rgb: Image, size: tuple[int, int]) -> Image:
    """(H, W, 3) uint8 -> `size` = (width, height), averaging over areas."""
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]
