"""The page of `d2vpr explain`: pictures with the network's attention over them and with the regions' sample points."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from d2vpr_ros.describe.attention import Look
from d2vpr_ros.evaluation.page import data_uri, write_page
from d2vpr_ros.images.compose import encode_jpeg

Image = npt.NDArray[np.uint8]
SHOWN = 448
"""Side in pixels of a shown picture; the network's input is half of it."""
QUARTERS = 4
"""How many of the regions are quarters; the others are ninths."""


def write_explanation(
    path: Path, weights: str, looks: Sequence[tuple[str, Look]], facts: Sequence[tuple[str, str]]
) -> None:
    """Write one page that needs nothing else.

    Args:
        weights: what it is called.
        looks: the name of each picture and what the network made of it.

    Raises:
        OSError: it cannot be written.
    """
    shown = [
        {
            "name": name,
            "attention": data_uri(encode_jpeg(with_attention(look))),
            "quarters": data_uri(encode_jpeg(with_points(look, slice(None, QUARTERS)))),
            "ninths": data_uri(encode_jpeg(with_points(look, slice(QUARTERS, None)))),
        }
        for name, look in looks
    ]
    write_page(path, "explain", f"What {weights} looks at", shown=shown, facts=facts)


def with_attention(look: Look) -> Image:
    """(SHOWN, SHOWN, 3): grey where little attention lies, coloured where most of it does."""
    picture = cv2.resize(look.picture, (SHOWN, SHOWN), interpolation=cv2.INTER_LINEAR)
    grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    share = look.attention / max(float(np.quantile(look.attention, 0.99)), 1e-12)
    share = cv2.resize(share.clip(0, 1), (SHOWN, SHOWN), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    levels = (255 * share).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    blend = (0.75 * share)[..., None]
    return np.asarray(grey * (1 - blend) + colours * blend, np.uint8)


def with_points(look: Look, regions: slice) -> Image:
    """(SHOWN, SHOWN, 3): the sample points of some regions, each region in a colour of its own."""
    picture = cv2.resize(look.picture, (SHOWN, SHOWN), interpolation=cv2.INTER_LINEAR) // 2 + 64
    chosen = look.regions()[regions]
    hues = np.linspace(0, 180, len(chosen), endpoint=False).astype(np.uint8)
    colours = cv2.cvtColor(
        np.stack([hues, np.full_like(hues, 255), np.full_like(hues, 255)], -1)[None], cv2.COLOR_HSV2RGB
    )
    for points, colour in zip(chosen, colours[0], strict=True):
        for x, y in points * (SHOWN - 1):
            cv2.circle(picture, (round(float(x)), round(float(y))), 4, colour.tolist(), -1, cv2.LINE_AA)
    return np.asarray(picture, np.uint8)
