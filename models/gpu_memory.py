"""What to say when a GPU runs out of memory: which batch fits, found by trying."""

from __future__ import annotations

import gc
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader


def batch_that_fits(module: LightningModule, batch: Any, accelerator: str, precision: str, alone: bool) -> str:
    """In words, for a run that has just failed with this batch; the module is of no use afterwards.

    Halves of the batch take one whole step each (forward, backward, optimizer), the largest first. Batches that are
    not tensors of images, and those of a run of several processes, of which the others wait, are not tried.

    Args:
        accelerator, precision: in Lightning's words.
        alone: the run has one process.
    """
    if not (isinstance(batch, list | tuple) and all(isinstance(part, Tensor) for part in batch)):
        return "lower the number of views of a batch in the recipe"
    images = fits = len(batch[0])
    while fits > 1 and alone:
        fits //= 2
        if _takes_a_step(module, [part[:fits] for part in batch], accelerator, precision):
            return f"{images} images a batch do not fit, {fits} do: lower places_per_batch in the recipe"
    found = (
        ", not even one image does: take another GPU or --precision"
        if alone
        else ": lower places_per_batch in the recipe"
    )
    return f"{images} images a batch do not fit{found}"


def _takes_a_step(module: LightningModule, batch: list[Tensor], accelerator: str, precision: str) -> bool:
    gc.collect()
    torch.cuda.empty_cache()
    trainer = Trainer(
        accelerator=accelerator,
        devices=1,
        precision=precision,  # type: ignore[arg-type]
        fast_dev_run=True,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    try:
        trainer.fit(module, DataLoader([batch], batch_size=None))  # type: ignore[arg-type]
    except torch.OutOfMemoryError:
        return False
    return True
