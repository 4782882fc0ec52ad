"""Fine-tune a distilled D²-VPR for places, as published: multi-similarity loss and miner over whole batches.

    python -m models.finetune --data GSV_CITIES --weights distilled.safetensors --out RUN
    python -m models.finetune --config models/configs/finetune_paper.yaml --data GSV_CITIES --weights W --out RUN

Two recipes: finetune_released.yaml trains at the rate that the released run really had, finetune_paper.yaml at the one
its settings name. RUN is as that of models.distill; the same command continues a run that was killed. On many GPUs and
machines: docs/training.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from pytorch_lightning import LightningModule, seed_everything
from torch import Tensor, nn

from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.errors import UserError
from d2vpr_ros.model import D2VPR, load_checkpoint
from models.benchmarks import Benchmark
from models.commands import add_run_arguments, machine_of, recipe_of, report, validation_of
from models.losses import PlaceLoss, gathered
from models.published import run_recipe
from models.recipes import Recipe
from models.runs import Machine


class Finetuning(LightningModule):
    """The last blocks and all behind them learn; what is before them stays as it is, BatchNorm statistics included.

    Args:
        student: distilled.
        trained_blocks: how many of the backbone's blocks learn, counted from the last.
        rate, weight_decay: of AdamW; the rate until the trainer sets it.
    """

    def __init__(self, student: D2VPR, trained_blocks: int = 4, rate: float = 2e-4, weight_decay: float = 1e-3) -> None:
        super().__init__()
        self.student, self.rate, self.weight_decay = student, rate, weight_decay
        blocks = list(student.backbone.blocks)
        self.frozen = [student.backbone.patch_embed, *blocks[: len(blocks) - trained_blocks]]
        student.requires_grad_(False)
        for part in (
            *blocks[len(blocks) - trained_blocks :],
            student.backbone.lin,
            student.backbone.up_norm,
            student.aggregation,
            student.offset_generator,
            student.topdown_fusion,
            student.pos_encoder,
        ):
            part.requires_grad_(True)
        self.place_loss, self.preprocessor = PlaceLoss(), Preprocessor()

    def train(self, mode: bool = True) -> Finetuning:
        super().train(mode)
        for part in self.frozen:  # the released run let their BatchNorm statistics drift: a defect
            part.eval()
        return self

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        descriptors = self.student(self.preprocessor.normalise(batch[0])).float()
        loss = self.place_loss(*gathered(self, descriptors, batch[1]))
        self.log("loss", loss, prog_bar=True, logger=False)
        return {"loss": loss}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        trained: list[nn.Parameter] = [p for p in self.student.parameters() if p.requires_grad]
        return torch.optim.AdamW(trained, lr=self.rate, weight_decay=self.weight_decay)


def finetune(
    recipe: Recipe, data: Path, weights: Path, out: Path, machine: Machine, validation: Benchmark | None = None
) -> Path:
    """The whole stage; returns the file of the last weights. `validation` is what chooses best.safetensors.

    Raises:
        UserError: the weights or the data are not as they should be.
    """
    seed_everything(recipe.seed, workers=True, verbose=False)
    student = load_checkpoint(weights)
    if not isinstance(student, D2VPR) or student.encoder is not None:
        raise UserError(
            f"weights file {weights} is not a D²-VPR without cross-image encoder; expected distilled weights"
        )
    if recipe.data.images_per_place < 2:
        raise UserError(
            "images_per_place is below 2, but fine-tuning compares images of one place; only distillation works with 1"
        )
    if not 0 <= recipe.trained_blocks <= student.config.depth:
        raise UserError(f"trained_blocks is {recipe.trained_blocks}; {weights} has {student.config.depth} blocks")
    module = Finetuning(student, recipe.trained_blocks, recipe.rate.highest, recipe.weight_decay)
    return run_recipe(module, student, recipe, data, out, machine, {"weights": weights}, validation)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_run_arguments(parser, "finetune_released.yaml")
    parser.add_argument(
        "--weights", type=Path, required=True, help="distilled weights, from models.distill or released"
    )
    asked = parser.parse_args(words)

    def run() -> Path:
        recipe, validation = recipe_of(asked, "finetune"), validation_of(asked)
        return finetune(recipe, asked.data, asked.weights, asked.out, machine_of(asked), validation)

    return report(run, asked.fast_dev_run)


if __name__ == "__main__":
    sys.exit(main())
