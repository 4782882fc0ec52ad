"""Stage 2: places. Town places under other conditions, and real pictures with a moved view or a neighbouring frame.

Multi-similarity loss with its miner over town and real places in one batch (they are each other's easy negatives; the
hard ones are other places of the same towns). The teacher's features stay as a regulariser on the real half.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from d2vpr_ros.describe.preprocess import Preprocessor
from models import augment, loop
from models.distill import PlaceLoss, Pool, Student, changed_views, feature_losses


@dataclass(frozen=True)
class Finetuning:
    """Recipe of the stage.

    Attributes:
        schedule: length and rate.
        side: of the pictures in pixels.
        town_places: a batch, from `towns` towns, each seen `town_views` times.
        real: pictures a batch, each seen twice.
        dense, global_: weights of the teacher's features beside the place loss.
        places: weight of the place loss; place_loss: its kind, see `PlaceLoss`.
        viewpoint: how far a view of a real picture moves.
    """

    schedule: loop.Schedule
    side: int = 112
    town_places: int = 12
    towns: int = 2
    town_views: int = 2
    real: int = 12
    dense: float = 0.5
    global_: float = 0.15
    places: float = 1.0
    place_loss: str = "multi_similarity"
    viewpoint: augment.Viewpoint = field(default_factory=augment.Viewpoint)


def draw_town(town: npt.NDArray[np.uint8], recipe: Finetuning, random: np.random.Generator) -> Tensor:
    """(towns, places, views, 3, 224, 224) -> (town_views * town_places, 3, side, side) float32, 0..1, view by view."""
    rows = []
    for number in random.choice(len(town), recipe.towns, replace=False):
        for place in random.choice(town.shape[1], recipe.town_places // recipe.towns, replace=False):
            views = random.choice(town.shape[2], recipe.town_views, replace=False)
            rows.append(town[number, place][np.sort(views)])
    images = torch.from_numpy(np.stack(rows, axis=1)).flatten(0, 1).float() / 255
    if recipe.side <= images.shape[-1] // 2:
        images = functional.avg_pool2d(images, 2)
    elif recipe.side != images.shape[-1]:
        images = functional.interpolate(images, (recipe.side, recipe.side), mode="bilinear", antialias=True)
    mirrored = images.flip(-1) if random.random() < 0.5 else images
    return augment.camera(mirrored)


def finetune(
    student: Student, town: npt.NDArray[np.uint8], pool: Pool, recipe: Finetuning, checkpoint: Path, seed: int = 1
) -> None:
    """Trains `student` in place."""
    random = np.random.default_rng(seed)
    preprocessor, place_loss = Preprocessor(), PlaceLoss(recipe.place_loss)
    town_names = torch.arange(recipe.town_places).repeat(recipe.town_views)
    names = torch.cat([town_names, recipe.town_places + torch.arange(recipe.real).repeat(2)])

    def losses() -> dict[str, Tensor]:
        with torch.no_grad():
            real, targets = changed_views(*pool.draw_pairs(recipe.real, random), recipe.side, recipe.viewpoint)
            simulated = draw_town(town, recipe, random)
            views = preprocessor.normalise(torch.cat([simulated, real]) * 255)
        descriptors, cells, whole = student(views)
        first_real = len(simulated)
        dense, global_ = feature_losses(cells[first_real:], whole[first_real:], targets)
        return {
            "dense": recipe.dense * dense,
            "global": recipe.global_ * global_,
            "places": recipe.places * place_loss(descriptors, names),
        }

    loop.train(student, losses, recipe.schedule, checkpoint)
