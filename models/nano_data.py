"""What nano's stages learn from: real images with the teacher's maps of them, and views of simulated towns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from d2vpr_ros.model import D2VPR
from models import augment, teacher

NEIGHBOUR_SHARE = 0.25
"""How many real pairs are two frames of a video instead of two views of one frame."""


class Student(nn.Module):
    """The network with the linear heads that read teacher features from its tokens; the heads are thrown away."""

    def __init__(self, model: D2VPR, channels: int) -> None:
        super().__init__()
        self.model = model
        self.dense = nn.Linear(model.config.output_width, channels)
        self.whole = nn.Linear(model.config.output_width, channels)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 3, S, S) normalised -> descriptors (N, D), dense (N, channels, 7, 7), whole (N, channels)."""
        tokens: list[Tensor] = []
        hook = self.model.backbone.up_norm.register_forward_hook(lambda _module, _inputs, output: tokens.append(output))
        try:
            descriptors = self.model(images)
        finally:
            hook.remove()
        recovered = functional.layer_norm(tokens[0], tokens[0].shape[-1:])
        side = int((recovered.shape[1] - 1) ** 0.5)
        patches = self.dense(recovered[:, 1:]).mT.reshape(len(images), -1, side, side)
        cells = functional.interpolate(patches, (teacher.SIDE, teacher.SIDE), mode="area")
        return descriptors, cells, self.whole(recovered[:, 0])


@dataclass(frozen=True)
class Pool:
    """Pictures with the teacher's maps.

    Attributes:
        images: (N, 3, 224, 224) uint8.
        maps: (N, 49, C) float16.
        groups: (N,) pictures of one group may show the same place; a batch takes one of each.
        neighbours: (N, 2) row of the whole picture a crop is of, and of the video's next frame.
    """

    images: npt.NDArray[np.uint8]
    maps: npt.NDArray[np.float16]
    groups: npt.NDArray[np.int64]
    neighbours: npt.NDArray[np.int64]

    def draw_pairs(self, count: int, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        """`count` pictures of different groups, twice: (2 * count, 3, 224, 224) in 0..1 and (2 * count, C, 7, 7).

        The second time it is the video's next frame for NEIGHBOUR_SHARE of them, else the same picture again.
        A mirrored place is another place, its features are the mirrored ones: half of the batches are mirrored.
        """
        kinds = np.unique(self.groups)
        chosen = random.choice(kinds, count, replace=len(kinds) < count)
        rows = np.array([random.choice(np.flatnonzero(self.groups == group)) for group in chosen])
        stepped = random.random(count) < NEIGHBOUR_SHARE
        first = np.where(stepped, self.neighbours[rows, 0], rows)
        second = np.where(stepped, self.neighbours[rows, 1], rows)
        both = np.concatenate([first, second])
        images = torch.from_numpy(np.stack([self.images[row] for row in both])).float() / 255
        maps = torch.from_numpy(np.stack([self.maps[row] for row in both])).float()
        maps = maps.mT.reshape(2 * count, -1, teacher.SIDE, teacher.SIDE)
        return (images.flip(-1), maps.flip(-1)) if random.random() < 0.5 else (images, maps)


def changed_views(images: Tensor, maps: Tensor, side: int, viewpoint: augment.Viewpoint) -> tuple[Tensor, Tensor]:
    """Each picture moved and under other conditions, with the teacher's map moved alike."""
    if side <= images.shape[-1] // 2:
        images = functional.avg_pool2d(images, 2)
    seen = augment.viewpoint_grid(len(images), viewpoint)
    return augment.other_conditions(augment.warp(images, seen, side)), augment.warp(maps, seen, teacher.SIDE)


def feature_losses(cells: Tensor, whole: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """1 - cosine, over the cells and for the whole picture."""
    dense = 1 - functional.cosine_similarity(cells, maps, dim=1).mean()
    return dense, 1 - functional.cosine_similarity(whole, maps.mean(dim=(2, 3)), dim=1).mean()


def draw_town(
    town: npt.NDArray[np.uint8], towns: int, places: int, views: int, side: int, random: np.random.Generator
) -> Tensor:
    """`places` of `towns` towns, each seen `views` times: (views * places, 3, side, side) float32, 0..1, view by view.

    Args:
        town: (towns, places, views, 3, 224, 224) uint8.
    """
    rows = []
    for number in random.choice(len(town), towns, replace=False):
        for place in random.choice(town.shape[1], places // towns, replace=False):
            seen = random.choice(town.shape[2], views, replace=False)
            rows.append(town[number, place][np.sort(seen)])
    images = torch.from_numpy(np.stack(rows, axis=1)).flatten(0, 1).float() / 255
    if side == images.shape[-1] // 2:
        images = functional.avg_pool2d(images, 2)
    elif side != images.shape[-1]:
        images = functional.interpolate(images, (side, side), mode="bilinear", antialias=True)
    mirrored = images.flip(-1) if random.random() < 0.5 else images
    return augment.camera(mirrored)
