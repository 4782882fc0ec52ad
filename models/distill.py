"""Stage 1: real pictures. The student sees a changed view and gives the teacher's features of the clean one.

Two views of every picture, so that the descriptor learns places at the same time. The loss has three parts: dense
(cosine between a linear reading of the recovered tokens and the teacher's 7 x 7 map, seen through the same warp),
global (the same of the class token and the teacher's mean), and multi-similarity between the views' descriptors.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from pytorch_metric_learning.losses import MultiSimilarityLoss, NTXentLoss
from pytorch_metric_learning.miners import MultiSimilarityMiner
from torch import Tensor, nn
from torch.nn import functional

from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.errors import UserError
from d2vpr_ros.model import D2VPR
from models import augment, loop, teacher

NEIGHBOUR_SHARE = 0.25
"""How many real pairs are two frames of a video instead of two views of one frame."""


@dataclass(frozen=True)
class Distillation:
    """Recipe of the stage.

    Attributes:
        schedule: length and rate.
        side: of the pictures in pixels: small ones first, they cost a quarter.
        pictures: a batch, each seen twice.
        dense, global_, places: weights of the three losses.
        place_loss: kind of `PlaceLoss`.
        viewpoint: how far a view moves.
    """

    schedule: loop.Schedule
    side: int = 112
    pictures: int = 24
    dense: float = 1.0
    global_: float = 0.3
    places: float = 0.5
    place_loss: str = "contrastive"
    viewpoint: augment.Viewpoint = field(default_factory=lambda: augment.Viewpoint(0.15, 0.08, 1.25, 5.0, 0.15))


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


class PlaceLoss(nn.Module):
    """Equal places near, other ones far.

    Args:
        kind: `multi_similarity` with its miner as published (alpha 1, beta 50, base 0, epsilon 0.1), which looks at
            the hardest pairs, or `contrastive` (NT-Xent at temperature 0.1), which looks at all of them and gets a
            network that starts from nothing going.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        if kind not in ("multi_similarity", "contrastive"):
            raise UserError(f"place loss {kind!r}: expected multi_similarity or contrastive")
        self.miner = MultiSimilarityMiner(epsilon=0.1) if kind == "multi_similarity" else None
        self.loss = MultiSimilarityLoss(alpha=1.0, beta=50.0, base=0.0) if self.miner else NTXentLoss(temperature=0.1)

    def forward(self, descriptors: Tensor, places: Tensor) -> Tensor:
        """(N, D) unit descriptors, (N,) names of places -> scalar."""
        pairs = self.miner(descriptors, places) if self.miner else None
        return self.loss(descriptors, places, pairs)


def distill(student: Student, pool: Pool, recipe: Distillation, checkpoint: Path, seed: int = 0) -> None:
    """Trains `student` in place."""
    random = np.random.default_rng(seed)
    preprocessor, place_loss = Preprocessor(), PlaceLoss(recipe.place_loss)
    names = torch.arange(recipe.pictures).repeat(2)

    def losses() -> dict[str, Tensor]:
        with torch.no_grad():
            views, targets = changed_views(*pool.draw_pairs(recipe.pictures, random), recipe.side, recipe.viewpoint)
            views = preprocessor.normalise(views * 255)
        descriptors, cells, whole = student(views)
        dense, global_ = feature_losses(cells, whole, targets)
        return {
            "dense": recipe.dense * dense,
            "global": recipe.global_ * global_,
            "places": recipe.places * place_loss(descriptors, names),
        }

    loop.train(student, losses, recipe.schedule, checkpoint)
