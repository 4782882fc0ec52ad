"""The views that small learns from: places of simulated towns, and real pictures seen again under other conditions.

Views are drawn once, by number, and then only their frozen blocks' outputs are kept (models/block_cache.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from models import augment
from models.augment import Viewpoint
from models.data import Picture

TOWN_MOVED = 0.5
"""Share of the town's views that are moved once more, as a hand-held camera is."""


@dataclass(frozen=True)
class Looks:
    """How often a real picture is looked at, the first time as it is.

    Attributes:
        tower, street: looks at a frame of the tower, at a street photograph.
        viewpoint: how far a look may move.
    """

    tower: int = 3
    street: int = 20
    viewpoint: Viewpoint = field(default_factory=Viewpoint)


@dataclass(frozen=True, eq=False)
class Views:
    """All views, the town's first.

    Attributes:
        town: (towns, places, views, 3, S, S) uint8.
        real: (pictures, 3, S, S) uint8.
        picture, look: (real views,) int64, which picture a real view shows and the how manieth look it is.
        viewpoint: of the looks.
    """

    town: npt.NDArray[np.uint8]
    real: npt.NDArray[np.uint8]
    picture: npt.NDArray[np.int64]
    look: npt.NDArray[np.int64]
    viewpoint: Viewpoint

    @property
    def town_views(self) -> int:
        return int(np.prod(self.town.shape[:3]))

    def __len__(self) -> int:
        return self.town_views + len(self.picture)

    def draw(self, numbers: npt.NDArray[np.int64], side: int, seed: int) -> Tensor:
        """The views of these numbers: (N, 3, side, side) float32, 0..1; the same for the same numbers and seed."""
        torch.manual_seed(seed)
        flat = self.town.reshape(-1, *self.town.shape[3:])
        is_town = numbers < self.town_views
        drawn = torch.empty(len(numbers), 3, side, side)
        if is_town.any():
            drawn[torch.from_numpy(is_town)] = town_look(_floats(flat[numbers[is_town]]), side)
        if not is_town.all():
            rows = numbers[~is_town] - self.town_views
            pictures = _floats(self.real[self.picture[rows]])
            looked = real_look(pictures, torch.from_numpy(self.look[rows] > 0), side, self.viewpoint)
            drawn[torch.from_numpy(~is_town)] = looked
        return drawn


def views_of(pictures: list[Picture], real: npt.NDArray[np.uint8], town: npt.NDArray[np.uint8], looks: Looks) -> Views:
    """All views of the towns and of the real pictures, `real` (N, 3, S, S) being these at the network's size."""
    counts = np.array([looks.street if picture.video == "lund" else looks.tower for picture in pictures])
    picture = np.repeat(np.arange(len(pictures)), counts)
    look = np.concatenate([np.arange(count) for count in counts])
    return Views(town, real, picture, look, looks.viewpoint)


def town_look(images: Tensor, side: int) -> Tensor:
    """(N, 3, S, S) -> (N, 3, side, side): by another camera, half of them moved a little."""
    moved = torch.rand(len(images)) < TOWN_MOVED
    seen = torch.where(moved[:, None, None], augment.viewpoint_grid(len(images), augment.MILD), torch.eye(3))
    return augment.camera(augment.sensor(augment.lens(_warped(images, seen, side))))


def real_look(images: Tensor, changed: Tensor, side: int, viewpoint: Viewpoint) -> Tensor:
    """(N, 3, S, S) -> (N, 3, side, side): those that are `changed` (N,) moved and under other conditions."""
    seen = torch.where(changed[:, None, None], augment.viewpoint_grid(len(images), viewpoint), torch.eye(3))
    plain = _warped(images, seen, side)
    return torch.where(changed[:, None, None, None], augment.street_conditions(plain), plain)


def _warped(images: Tensor, seen: Tensor, side: int) -> Tensor:
    """Moved at the pictures' own size, then brought to `side` with antialiasing."""
    moved = augment.warp(images, seen, images.shape[-1])
    if side == images.shape[-1]:
        return moved
    return functional.interpolate(moved, (side, side), mode="bilinear", antialias=True)


def _floats(images: npt.NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images)).float() / 255
