"""A run: Lightning's trainer over an endless stream of batches, which continues from its folder's last checkpoint."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.utils.data import DataLoader

from d2vpr_ros.errors import UserError
from models.gpu_memory import batch_that_fits
from models.run_folder import write_metrics

LOG_EVERY = 20
"""Steps over which metrics are averaged before they are written."""


@dataclass(frozen=True)
class Machine:
    """What a run uses; words are Lightning's.

    Attributes:
        accelerator: auto, cpu, gpu.
        devices: processes a node, one for each GPU; `auto` takes all GPUs, or one CPU process.
        nodes: how many machines.
        fast_dev_run: one batch, nothing is written: does it all fit together?
    """

    accelerator: str = "auto"
    devices: str = "auto"
    nodes: int = 1
    fast_dev_run: bool = False


class Stream(LightningDataModule):
    """The batches, made when the trainer knows how many processes there are and at which step it continues.

    Args:
        loader_of: (first step, rank, world) -> loader of the batches from that step on.
    """

    def __init__(self, loader_of: Callable[[int, int, int], DataLoader[Any]]) -> None:
        super().__init__()
        self.loader_of = loader_of

    def train_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        return self.loader_of(self.trainer.global_step, self.trainer.global_rank, self.trainer.world_size)


class Bar(TQDMProgressBar):
    """Lightning's, over all steps of the run, those before a kill included."""

    def on_train_start(self, trainer: Trainer, *rest: Any) -> None:
        super().on_train_start(trainer, *rest)
        self.train_progress_bar.reset(trainer.max_steps)
        self.train_progress_bar.initial = trainer.global_step

    def on_train_epoch_start(self, trainer: Trainer, *rest: Any) -> None:
        """Nothing: to Lightning the endless stream is one epoch."""

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}


class EachStep(Callback):
    """Learning rate and random numbers are functions of the step alone, so a kill does not change them.

    A parameter group may ask for a `share` of the rate.
    """

    def __init__(self, rate_at: Callable[[int], float], seed: int) -> None:
        self.rate_at, self.seed = rate_at, seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = self.rate_at(trainer.global_step) * group.get("share", 1.0)
        drawn = np.random.SeedSequence((self.seed, trainer.global_step, trainer.global_rank)).generate_state(1)
        torch.manual_seed(int(drawn[0]))


class Metrics(Callback):
    """Means of what the steps return and of the gradient's length, to metrics.jsonl, TensorBoard and the bar."""

    def __init__(self, path: Path) -> None:
        self.path, self.sums, self.count = path, dict[str, Tensor](), 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero and self.path.exists():  # what comes after the last checkpoint is done again
            lines = self.path.read_text().splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= trainer.global_step]
            self.path.write_text("".join(kept))

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        self._add({"gradient": get_total_norm(gradients)})

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._add({name: value.detach() for name, value in outputs.items()})
        self.count += 1
        if trainer.global_step % LOG_EVERY == 0 or trainer.global_step == trainer.max_steps:
            self._write(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.count:
            self._write(trainer)

    def _add(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value

    def _write(self, trainer: Trainer) -> None:
        means = {name: float(total) / self.count for name, total in self.sums.items()}
        means["rate"] = trainer.optimizers[0].param_groups[0]["lr"]
        self.sums, self.count = {}, 0
        write_metrics(trainer, self.path, means)


def train(
    module: LightningModule,
    loader_of: Callable[[int, int, int], DataLoader[Any]],
    folder: Path,
    *,
    steps: int,
    rate_at: Callable[[int], float],
    seed: int,
    machine: Machine,
    precision: str = "32-true",
    clip: float = 0.0,
    checkpoint_every: int = 200,
    callbacks: tuple[Callback, ...] = (),
) -> Trainer:
    """Trains `module` in place, from the folder's last checkpoint where there is one.

    Args:
        loader_of: see `Stream`.
        steps: of one batch each.
        rate_at: learning rate of a step.
        clip: longest gradient; 0: as long as it is.
        callbacks: more of them.

    Raises:
        UserError: there is no such accelerator or precision, the GPU runs out of memory (says which batch fits), or
            whatever reading the data raises, in one line although a worker process raised it.
    """
    gpus = 0 if machine.accelerator == "cpu" else torch.cuda.device_count()
    several = machine.nodes > 1 or (gpus > 1 if machine.devices == "auto" else machine.devices != "1")
    checkpoints = folder / "checkpoints"
    saving = ModelCheckpoint(checkpoints, save_last=True, save_top_k=0, every_n_train_steps=checkpoint_every)
    quiet_lightning()
    try:
        trainer = Trainer(
            accelerator=machine.accelerator,
            devices=machine.devices if machine.devices == "auto" else int(machine.devices),
            num_nodes=machine.nodes,
            strategy="ddp" if several else "auto",
            sync_batchnorm=several and gpus > 0,  # there is none for CPUs
            precision=precision,  # type: ignore[arg-type]
            max_steps=steps,
            max_epochs=-1,
            gradient_clip_val=clip or None,
            fast_dev_run=machine.fast_dev_run,
            logger=TensorBoardLogger(folder, name="", version="tensorboard"),
            callbacks=[
                Bar(refresh_rate=LOG_EVERY),
                EachStep(rate_at, seed),
                Metrics(folder / "metrics.jsonl"),
                *callbacks,
                *([] if machine.fast_dev_run else [saving]),
            ],
            num_sanity_val_steps=0,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
    except (MisconfigurationException, ValueError) as error:  # no such GPU, or precision
        raise UserError(
            f"Lightning: {' '.join(str(error).split())} See --accelerator, --devices, --nodes and --precision."
        ) from None
    last = checkpoints / "last.ckpt"
    continued = str(last) if last.exists() and not machine.fast_dev_run else None
    module.train()  # weights come from files in eval mode, and Lightning leaves modes as it finds them
    try:
        trainer.fit(module, Stream(loader_of), ckpt_path=continued, weights_only=True)
    except UserError as error:
        raise UserError(str(error).strip().splitlines()[-1].split("UserError: ")[-1]) from None
    except torch.OutOfMemoryError:
        failed = next(iter(loader_of(trainer.global_step, 0, 1)))
        said = batch_that_fits(module, failed, machine.accelerator, precision, alone=not several)
        raise UserError(f"the GPU ran out of memory: {said}") from None
    if not machine.fast_dev_run:
        trainer.save_checkpoint(last)
    return trainer


def quiet_lightning() -> None:
    """Leaves out what Lightning says that no user of these scripts can act on."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*in eval mode at the start of training.*")  # the frozen parts, on purpose
    warnings.filterwarnings("ignore", ".*torch.distributed.nn.functional.all_gather is deprecated.*")
    warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", ".*Checkpoint directory.*exists and is not empty.*")
