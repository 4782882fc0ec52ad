"""The stages that nano is trained by: it starts from nothing, on few real images and many simulated ones.

The student sees a changed view and gives the teacher's features of the clean one. Two views of every image, so that
the descriptor learns places at the same time; a stage may add places of simulated towns under other conditions. The
loss has three parts: dense (cosine between a linear reading of the recovered tokens and the teacher's 7 x 7 map, seen
through the same warp), global (the same of the class token and the teacher's mean), and places between descriptors.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from d2vpr_ros.describe.preprocess import Preprocessor
from models import augment
from models.losses import PlaceLoss
from models.nano_data import Pool, Student, changed_views, draw_town, feature_losses
from models.runs import Machine
from models.timed_stage import Schedule, run_timed

LONGEST_GRADIENT = 1.0


@dataclass(frozen=True)
class Stage:
    """Recipe of a stage.

    Attributes:
        name: of the stage and its folder.
        schedule: length and rate.
        side: of the images in pixels: small ones first, they cost a quarter.
        town_places: a batch, from `towns` towns, each seen `town_views` times; 0: real images only.
        real: images a batch, each seen twice.
        dense, global_: weights of the teacher's features beside the place loss.
        places: weight of the place loss; place_loss: its kind, see `PlaceLoss`.
        viewpoint: how far a view of a real image moves.
        stem: learning rate of the convolutional stem in parts of the others'; 0 keeps it as it was distilled.
    """

    name: str
    schedule: Schedule
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
    stem: float = 1.0


class StageModule(LightningModule):
    """Draws each step's batch from its number, so that a stage that was killed continues as if it had not been."""

    def __init__(self, student: Student, pool: Pool, town: npt.NDArray[np.uint8], stage: Stage, seed: int) -> None:
        super().__init__()
        self.student, self.pool, self.town, self.stage, self.seed = student, pool, town, stage, seed
        self.preprocessor, self.place_loss = Preprocessor(), PlaceLoss(stage.place_loss)
        town_names = torch.arange(stage.town_places).repeat(stage.town_views)
        self.names = torch.cat([town_names, stage.town_places + torch.arange(stage.real).repeat(2)])
        self.stem = student.model.backbone.patch_embed
        self.stem.requires_grad_(stage.stem > 0)

    def training_step(self, step: Tensor, batch_idx: int) -> dict[str, Tensor]:
        stage, random = self.stage, np.random.default_rng((self.seed, int(step)))
        self.stem.eval()  # its statistics were distilled, from more pictures than a batch has
        with torch.no_grad():
            views, targets = changed_views(*self.pool.draw_pairs(stage.real, random), stage.side, stage.viewpoint)
            if stage.town_places:
                simulated = draw_town(self.town, stage.towns, stage.town_places, stage.town_views, stage.side, random)
                views = torch.cat([simulated, views])
            views = self.preprocessor.normalise(views.to(self.device) * 255)
        descriptors, cells, whole = self.student(views)
        first_real = len(views) - len(targets)
        dense, global_ = feature_losses(cells[first_real:], whole[first_real:], targets.to(self.device))
        losses = {
            "dense": stage.dense * dense,
            "global": stage.global_ * global_,
            "places": stage.places * self.place_loss(descriptors, self.names.to(self.device)),
        }
        total = torch.stack(list(losses.values())).sum()
        self.log("loss", total, prog_bar=True, logger=False)
        return {"loss": total, **{name: loss.detach() for name, loss in losses.items()}}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in self.student.named_parameters():
            plain = parameter.ndim < 2 or "pos_embed" in name or "token" in name
            decay = 0.0 if plain else self.stage.schedule.weight_decay
            share = self.stage.stem if "patch_embed" in name else 1.0
            if share:
                groups.setdefault((decay, share), []).append(parameter)
        settings = [
            {"params": parameters, "weight_decay": decay, "share": share}
            for (decay, share), parameters in groups.items()
        ]
        return torch.optim.AdamW(settings, lr=self.stage.schedule.rate, betas=(0.9, 0.98))


def run_stage(
    student: Student,
    pool: Pool,
    town: npt.NDArray[np.uint8],
    stage: Stage,
    folder: Path,
    seed: int,
    machine: Machine,
) -> None:
    """Trains `student` in place, see `run_timed`.

    Args:
        town: (towns, places, views, 3, 224, 224) uint8.
    """
    module = StageModule(student, pool, town, stage, seed)
    run_timed(module, student, stage.schedule, folder / "student.pt", seed, machine, LONGEST_GRADIENT)
