"""Recall on a validation set while training goes on; the weights with the best are kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.evaluation.recall import recall_at
from d2vpr_ros.model import D2VPR
from models.batches import Transform
from models.benchmarks import Benchmark
from models.places import Image
from models.run_folder import is_first, write_metrics, write_weights

KS = (1, 5, 10)
BATCH = 32


class Squashed(Dataset[Tensor]):
    """Some rows of the images, ready for the network."""

    def __init__(self, images: Sequence[Image], rows: Sequence[int], transform: Transform) -> None:
        self.images, self.rows, self.transform = images, rows, transform

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Tensor:
        return self.transform(self.images[self.rows[number]], np.random.default_rng(0))


class Validate(Callback):
    """Every `every` steps, and at the end: recall over all queries, without a projection.

    Args:
        benchmark: images and which show the same place.
        student: the network in training.
        transform: without changes at random.
        every: steps.
        chosen_by: k of the recall@k whose best weights are kept.
        workers: processes that read images.
        folder: of the run; gets best.safetensors.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        student: D2VPR,
        transform: Transform,
        every: int,
        chosen_by: int,
        workers: int,
        folder: Path,
    ) -> None:
        self.benchmark, self.student, self.transform, self.every = benchmark, student, transform, every
        self.chosen_by, self.workers, self.folder, self.best = chosen_by, workers, folder, -1.0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *rest: Any) -> None:
        if trainer.global_step % self.every and trainer.global_step != trainer.max_steps:
            return
        pl_module.eval()
        with torch.no_grad():
            queries, database = (
                self._described(pl_module, of) for of in (self.benchmark.queries, self.benchmark.database)
            )
        pl_module.train()
        recall = recall_at((queries @ database.T).numpy(), self.benchmark.positives, (*KS, self.chosen_by))
        write_metrics(trainer, self.folder / "metrics.jsonl", {f"recall@{k}": recall[k] for k in KS})
        if recall[self.chosen_by] > self.best:
            self.best = recall[self.chosen_by]
            if is_first() and not trainer.fast_dev_run:  # type: ignore[attr-defined]
                write_weights(self.student, self.folder / "best.safetensors")

    def _described(self, module: LightningModule, images: Sequence[Image]) -> Tensor:
        """(N, D) float32 on the CPU; every process describes its share, all get all."""
        rank, world = module.trainer.global_rank, module.trainer.world_size
        rows = [(rank + world * number) % len(images) for number in range(-(-len(images) // world))]
        loader = DataLoader(Squashed(images, rows, self.transform), BATCH, num_workers=self.workers)
        preprocessor = Preprocessor()
        own = [self.student(preprocessor.normalise(batch.to(module.device))).float() for batch in loader]
        shares = module.all_gather(torch.cat(own))
        assert isinstance(shares, Tensor)
        return shares.reshape(world, len(rows), -1).transpose(0, 1).flatten(0, 1)[: len(images)].cpu()

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]
