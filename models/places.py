"""What is trained on, whatever it comes from: images that are read when needed, sorted by the place they show."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from d2vpr_ros.errors import UserError

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Places:
    """Images by place.

    Attributes:
        rows: for every place the rows of its images.
        groups: for every place what it lies in (a city, a map, a town): batches are drawn within one where possible,
            because its other places are the hard negatives.
        read: a row's image, (H, W, 3) uint8 RGB, when it is needed.
        fingerprint: 16 hex digits that change with the data.
        described: in words, for the run folder.
    """

    rows: Sequence[npt.NDArray[np.int64]]
    groups: Sequence[str]
    read: Callable[[int], Image]
    fingerprint: str
    described: str

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def images(self) -> int:
        return sum(len(rows) for rows in self.rows)


def fingerprint_of(parts: Iterable[str]) -> str:
    """16 hex digits of what identifies the data, part by part."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:16]


def with_enough_images(places: Places, least: int, source: Path) -> Places:
    """The places that have `least` images or more.

    Raises:
        UserError: there is none.
    """
    kept = [number for number, rows in enumerate(places.rows) if len(rows) >= least]
    if not kept:
        most = max((len(rows) for rows in places.rows), default=0)
        raise UserError(
            f"{source}: none of {len(places)} places has {least} images (the most is {most}); "
            "lower images_per_place in the recipe, or give more data"
        )
    return Places(
        [places.rows[number] for number in kept],
        [places.groups[number] for number in kept],
        places.read,
        places.fingerprint,
        places.described,
    )
