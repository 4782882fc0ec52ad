"""Distil D²-VPR from its teacher, as published: the mean squared error between the two descriptors of an image.

    python -m models.distill --data GSV_CITIES --teacher CricaVPR.pth --dinov2 dinov2_vits14_pretrain.pth --out RUN

RUN gets config.yaml, run.json, metrics.jsonl, tensorboard/, checkpoints/last.ckpt and, at the end, last.safetensors
(best.safetensors where there is a validation set). The same command continues a run that was killed. On many GPUs and
machines: docs/training.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule, seed_everything
from torch import Tensor, nn
from torch.nn import functional

from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.errors import UserError
from d2vpr_ros.model import D2VPR, CricaVPR, load_checkpoint
from models.benchmarks import Benchmark
from models.commands import add_run_arguments, machine_of, recipe_of, report, validation_of
from models.dinov2 import start_from_dinov2
from models.published import run_recipe
from models.recipes import Recipe
from models.runs import Machine


class Distillation(LightningModule):
    """Everything of the student learns; the teacher stays in eval mode, as it is, and outside of the checkpoints.

    Args:
        student: D²-VPR without encoder.
        teacher: gives descriptors of the same width; its encoder sees the images that this process has.
        rate: of Adam, until the trainer sets it.
    """

    def __init__(self, student: D2VPR, teacher: nn.Module, rate: float = 2.5e-5) -> None:
        super().__init__()
        self.student, self.teacher, self.rate = student, teacher.requires_grad_(False).eval(), rate
        self.student.backbone.mask_token.requires_grad_(False)  # read by no forward pass
        self.preprocessor = Preprocessor()

    def train(self, mode: bool = True) -> Distillation:
        super().train(mode)
        self.teacher.eval()
        return self

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        images = self.preprocessor.normalise(batch[0])
        with torch.no_grad():
            wanted = self.teacher(images)
        loss = functional.mse_loss(self.student(images).float(), wanted.float())
        self.log("loss", loss, prog_bar=True, logger=False)
        return {"loss": loss}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam([p for p in self.student.parameters() if p.requires_grad], lr=self.rate)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for name in self.teacher.state_dict():
            del checkpoint["state_dict"][f"teacher.{name}"]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"].update(self.teacher.state_dict(prefix="teacher."))


def open_teacher(path: Path, student: D2VPR) -> D2VPR | CricaVPR:
    """CricaVPR, or a D²-VPR whose descriptors are as wide as the student's.

    Raises:
        UserError: the file is no such network.
    """
    teacher = load_checkpoint(path)
    width = teacher.config.descriptor_width if isinstance(teacher, D2VPR) else CRICAVPR_WIDTH
    if width != student.config.descriptor_width:
        raise UserError(
            f"teacher {path} gives descriptors of {width} numbers, and the student {student.config.name} of "
            f"{student.config.descriptor_width}: choose another model in the recipe, or another teacher"
        )
    return teacher


CRICAVPR_WIDTH = 14 * 768


def distill(
    recipe: Recipe,
    config: Path,
    data: Path,
    teacher: Path,
    dinov2: Path,
    out: Path,
    machine: Machine,
    validation: Benchmark | None = None,
) -> Path:
    """The whole stage; returns the file of the student's last weights.

    Args:
        config: where the recipe was read; for messages.
        validation: what chooses best.safetensors.

    Raises:
        UserError: a file or the data is not as it should be.
    """
    seed_everything(recipe.seed, workers=True, verbose=False)
    student = D2VPR(recipe.architecture(config))
    start_from_dinov2(student, dinov2)
    module = Distillation(student, open_teacher(teacher, student), recipe.rate.highest)
    files = {"teacher": teacher, "dinov2": dinov2}
    return run_recipe(module, student, recipe, data, out, machine, files, validation)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_run_arguments(parser, "distill.yaml")
    parser.add_argument("--teacher", type=Path, required=True, help="weights of CricaVPR")
    parser.add_argument("--dinov2", type=Path, required=True, help="dinov2_vits14_pretrain.pth")
    asked = parser.parse_args(words)

    def run() -> Path:
        recipe = recipe_of(asked, "distill")
        machine, validation = machine_of(asked), validation_of(asked)
        return distill(recipe, asked.config, asked.data, asked.teacher, asked.dinov2, asked.out, machine, validation)

    return report(run, asked.fast_dev_run)


if __name__ == "__main__":
    sys.exit(main())
