"""A stage of training that ends by steps or by the clock, and is not done twice."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from models.runs import Machine, train

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


def run_timed(
    module: LightningModule,
    learned: nn.Module,
    schedule: Schedule,
    done: Path,
    seed: int,
    machine: Machine,
    longest_gradient: float = 0.0,
    precision: str = "32-true",
    checkpoint_every: int = CHECKPOINT_EVERY,
) -> None:
    """Trains `learned`, a part of `module`, in place; its batches are the numbers of the steps.

    A stage that was done is read from the file `done`; one that was killed continues from the checkpoints beside it.

    Args:
        longest_gradient: 0: as long as it is.
        precision: as Lightning names it.
        checkpoint_every: steps.
    """
    if done.exists() and not machine.fast_dev_run:
        learned.load_state_dict(torch.load(done, weights_only=True))
        return
    done.parent.mkdir(parents=True, exist_ok=True)
    clock = Clock(schedule)
    train(
        module,
        lambda step, rank, world: DataLoader(StepNumbers(step), batch_size=None),
        done.parent,
        steps=schedule.steps,
        rate_at=lambda step: schedule.rate_at(step, schedule.progress(step, clock.seconds)),
        seed=seed,
        machine=machine,
        clip=longest_gradient,
        precision=precision,
        checkpoint_every=checkpoint_every,
        callbacks=(clock,),
    )
    learned.cpu()
    if not machine.fast_dev_run:
        partial = done.with_suffix(".partial")
        torch.save(learned.state_dict(), partial)
        partial.rename(done)
