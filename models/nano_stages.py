"""The stages that nano is trained by: it starts from nothing, on few real images and many simulated ones.

The student sees a changed view and gives the teacher's features of the clean one. Two views of every image, so that
the descriptor learns places at the same time; a stage may add places of simulated towns under other conditions. The
loss has three parts: dense (cosine between a linear reading of the recovered tokens and the teacher's 7 x 7 map, seen
through the same warp), global (the same of the class token and the teacher's mean), and places between descriptors.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from d2vpr_ros.describe.preprocess import Preprocessor
from models import augment
from models.losses import PlaceLoss
from models.nano_data import Pool, Student, changed_views, draw_town, feature_losses
from models.runs import Machine, train

LONGEST_GRADIENT = 1.0
CHECKPOINT_EVERY = 100


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a stage learns.

    Attributes:
        steps: of one batch each.
        rate: highest learning rate; rises over `warm_up` steps, then falls along a cosine to a hundredth.
        weight_decay: of matrices; biases, norms and embeddings have none.
        minutes: a stage ends here at the latest (the cosine follows whatever is nearer its end); 0: no limit.
    """

    steps: int
    rate: float
    warm_up: int = 50
    weight_decay: float = 0.05
    minutes: float = 0.0

    def progress(self, step: int, seconds: float) -> float:
        """Share of the stage that is done: 1 and more when it has ended."""
        return max(step / self.steps, seconds / (60 * self.minutes) if self.minutes else 0.0)

    def rate_at(self, step: int, progress: float) -> float:
        """Learning rate at a step, `progress` being the share of the stage that is done."""
        rise = min(1.0, (step + 1) / max(1, self.warm_up))
        return self.rate * rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


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


class StageModule(LightningModule):
    """Draws each step's batch from its number, so that a stage that was killed continues as if it had not been."""

    def __init__(self, student: Student, pool: Pool, town: npt.NDArray[np.uint8], stage: Stage, seed: int) -> None:
        super().__init__()
        self.student, self.pool, self.town, self.stage, self.seed = student, pool, town, stage, seed
        self.preprocessor, self.place_loss = Preprocessor(), PlaceLoss(stage.place_loss)
        town_names = torch.arange(stage.town_places).repeat(stage.town_views)
        self.names = torch.cat([town_names, stage.town_places + torch.arange(stage.real).repeat(2)])

    def training_step(self, step: Tensor, batch_idx: int) -> dict[str, Tensor]:
        stage, random = self.stage, np.random.default_rng((self.seed, int(step)))
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
        matrices: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        for name, parameter in self.student.named_parameters():
            plain = parameter.ndim < 2 or "pos_embed" in name or "token" in name
            (rest if plain else matrices).append(parameter)
        groups = [
            {"params": matrices, "weight_decay": self.stage.schedule.weight_decay},
            {"params": rest, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.stage.schedule.rate, betas=(0.9, 0.98))


class StepNumbers(IterableDataset[int]):
    """first, first + 1, and so on without end."""

    def __init__(self, first: int) -> None:
        self.first = first

    def __iter__(self) -> Any:
        step = self.first
        while True:
            yield step
            step += 1


class Clock(Callback):
    """Ends the stage when its minutes are over; the time before a kill counts."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule, self.spent, self.begun = schedule, 0.0, time.monotonic()

    @property
    def seconds(self) -> float:
        return self.spent + time.monotonic() - self.begun

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.begun = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, *rest: Any) -> None:
        trainer.should_stop = self.schedule.progress(trainer.global_step, self.seconds) >= 1

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.spent = state_dict["seconds"]


def run_stage(
    student: Student,
    pool: Pool,
    town: npt.NDArray[np.uint8],
    stage: Stage,
    folder: Path,
    seed: int,
    machine: Machine,
) -> None:
    """Trains `student` in place; a stage that was done is read from its folder, one that was killed continues there.

    Args:
        town: (towns, places, views, 3, 224, 224) uint8.
    """
    done = folder / "student.pt"
    if done.exists() and not machine.fast_dev_run:
        student.load_state_dict(torch.load(done, weights_only=True))
        return
    folder.mkdir(parents=True, exist_ok=True)
    clock = Clock(stage.schedule)
    train(
        StageModule(student, pool, town, stage, seed),
        lambda step, rank, world: DataLoader(StepNumbers(step), batch_size=None),
        folder,
        steps=stage.schedule.steps,
        rate_at=lambda step: stage.schedule.rate_at(step, stage.schedule.progress(step, clock.seconds)),
        seed=seed,
        machine=machine,
        clip=LONGEST_GRADIENT,
        checkpoint_every=CHECKPOINT_EVERY,
        callbacks=(clock,),
    )
    student.cpu()
    if not machine.fast_dev_run:
        partial = done.with_suffix(".partial")
        torch.save(student.state_dict(), partial)
        partial.rename(done)
