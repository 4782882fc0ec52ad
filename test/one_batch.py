"""One training step on one batch, by one process or shared by two, which the latter's launcher starts as a script."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from d2vpr_ros.model import D2VPR, load_checkpoint
from models.batches import BatchStream, PlaceImages, loader
from models.finetune import Finetuning
from models.recipes import read_recipe
from models.runs import Machine, train


class KeepGradients(Callback):
    def __init__(self, path: Path) -> None:
        self.path = path

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        if trainer.is_global_zero:
            torch.save({name: p.grad for name, p in pl_module.named_parameters() if p.grad is not None}, self.path)


def train_one_batch(workplace: Path, out: Path, devices: str) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of a batch of four places with two images; nothing in the network is drawn at random."""
    out.mkdir(exist_ok=True)
    recipe = read_recipe(workplace / "finetune.yaml", "finetune")
    places = recipe.data.read(workplace / "gsv")
    images = PlaceImages(places, 2, recipe.transform)
    student = load_checkpoint(workplace / "student.safetensors")
    assert isinstance(student, D2VPR)
    for module in student.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    train(
        Finetuning(student, trained_blocks=0),  # whose BatchNorm would see half a batch
        lambda step, rank, world: loader(images, BatchStream(places.groups, 4, 0, step, rank, world), 0),
        out,
        steps=1,
        rate_at=lambda step: 1e-3,
        seed=0,
        machine=Machine("cpu", devices),
        callbacks=(KeepGradients(out / "gradients.pt"),),
    )
    return read_batch(out)


def read_batch(out: Path) -> tuple[float, dict[str, Tensor]]:
    loss = json.loads((out / "metrics.jsonl").read_text())["loss"]
    return loss, torch.load(out / "gradients.pt", weights_only=True)


def main() -> None:
    train_one_batch(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
