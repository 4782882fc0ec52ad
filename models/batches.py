"""Batches of P places with K images each: batch number n of a seed is the same whatever happened before it.

So a killed run continues exactly, and the same recipe trains alike on one process or on many.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.errors import UserError
from models.places import Image, Places
from models.rand_augment import RandAugment

Drawn = tuple[int, tuple[int, ...]]
"""A place's number and the seed of what is drawn for it: its images and how they are changed."""


@dataclass(frozen=True)
class Transform:
    """From an image of any size to the network's input.

    Attributes:
        size: side in pixels, a multiple of 14.
        resize: `bilinear` (distillation, as published) or `bicubic` (fine-tuning); both antialiased, on 8-bit values.
        augment: RandAugment.
    """

    size: int = 224
    resize: str = "bicubic"
    augment: RandAugment = field(default_factory=RandAugment)

    def __post_init__(self) -> None:
        if self.resize not in ("bilinear", "bicubic"):
            raise UserError(f"resize {self.resize!r}: expected bilinear or bicubic")
        if self.size < 14 or self.size % 14:
            raise UserError(f"size {self.size}: expected a multiple of 14, as 224")

    def __call__(self, image: Image, random: np.random.Generator) -> Tensor:
        """(H, W, 3) uint8 RGB -> (3, size, size) uint8."""
        if self.resize == "bilinear":
            resized = Preprocessor(self.size).resize(image)
        else:
            whole = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
            resized = functional.interpolate(whole, (self.size, self.size), mode="bicubic", antialias=True)[0]
        changed = self.augment(np.ascontiguousarray(resized.permute(1, 2, 0).numpy()), random)
        return torch.from_numpy(np.ascontiguousarray(changed)).permute(2, 0, 1)


class PlaceImages(Dataset[tuple[Tensor, Tensor]]):
    """`images_per_place` images of a place, drawn and changed by the seed that comes with its number."""

    def __init__(self, places: Places, images_per_place: int, transform: Transform) -> None:
        self.places, self.images_per_place, self.transform = places, images_per_place, transform

    def __getitem__(self, drawn: Drawn) -> tuple[Tensor, Tensor]:
        """(K, 3, S, S) uint8 and the place's number K times, int64."""
        place, seed = drawn
        random = np.random.default_rng(seed)
        rows = random.choice(self.places.rows[place], self.images_per_place, replace=False)
        images = [self.transform(self.places.read(int(row)), random) for row in rows]
        return torch.stack(images), torch.full((len(images),), place)


class BatchStream:
    """Which places each batch holds, without end.

    Every epoch the places are shuffled within their group and the groups among each other, so that most batches lie
    within one group; what is left at the end of an epoch is smaller than a batch and waits for the next.

    Args:
        groups: of every place.
        count: places a batch, over all processes.
        seed: of the run.
        first_step: number of the first batch that is given out.
        rank, world: this process and how many there are; each takes its share of every batch.
    """

    def __init__(
        self, groups: Sequence[str], count: int, seed: int, first_step: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        if len(groups) < count:
            raise UserError(
                f"a batch needs {count} places, the data has {len(groups)}; lower places_per_batch in the recipe"
            )
        if count % world:
            raise UserError(f"{count} places per batch cannot be divided among {world} processes; change one of them")
        self.members = [np.flatnonzero(np.array(groups) == name) for name in dict.fromkeys(groups)]
        self.count, self.seed, self.first_step, self.rank, self.world = count, seed, first_step, rank, world
        self.batches_per_epoch = len(groups) // count

    def order(self, epoch: int) -> npt.NDArray[np.int64]:
        """All places in the order of an epoch."""
        random = np.random.default_rng((self.seed, epoch))
        return np.concatenate(
            [random.permutation(self.members[group]) for group in random.permutation(len(self.members))]
        )

    def __iter__(self) -> Iterator[list[Drawn]]:
        known = -1
        for step in itertools.count(self.first_step):
            epoch, number = divmod(step, self.batches_per_epoch)
            if epoch != known:
                known, order = epoch, self.order(epoch)
            batch = order[number * self.count : (number + 1) * self.count][self.rank :: self.world]
            yield [(int(place), (self.seed, step, int(place))) for place in batch]


def joined(drawn: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Places of (K, ...) -> images (P * K, 3, S, S) and labels (P * K,)."""
    images, labels = zip(*drawn, strict=True)
    return torch.cat(images), torch.cat(labels)


def loader(images: PlaceImages, stream: BatchStream, workers: int) -> DataLoader[tuple[Tensor, Tensor]]:
    """Reads the stream's batches, `workers` at a time; batches do not depend on how many read them."""
    return DataLoader(
        images,
        batch_sampler=stream,  # without an end, so without a length
        num_workers=workers,
        collate_fn=joined,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=False,
    )
