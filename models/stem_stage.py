"""The stages that distil nano's convolutional stem from the teacher's first layers.

First block by block, each on the teacher's own input, which needs little data; then all in a row, each block's output
still held to the teacher's. Light, season, weather and night are changed before both look.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.model.stem import ConvStem, StemUnit
from models import augment
from models.runs import Machine
from models.teacher_layers import TeacherLayers
from models.timed_stage import Schedule, run_timed

TOWN_SHARE = 1 / 3
"""How many of the pictures are simulated: the teacher's view of those is of use where they are trained on later."""


@dataclass(frozen=True)
class StemStage:
    """Recipe of a stage of the stem.

    Attributes:
        name: of the stage and its folder.
        schedule: length and rate; no weight decay.
        side: of the parts cut from the pictures, in pixels at the pictures' own scale.
        pictures: a batch.
        in_a_row: each block gets the output of the one before it; else the teacher's.
    """

    name: str
    schedule: Schedule
    side: int = 128
    pictures: int = 24
    in_a_row: bool = False


class StemModule(LightningModule):
    def __init__(
        self,
        stem: ConvStem,
        teacher: TeacherLayers,
        real: npt.NDArray[np.uint8],
        town: npt.NDArray[np.uint8],
        stage: StemStage,
        seed: int,
    ) -> None:
        super().__init__()
        self.stem, self.teacher, self.stage, self.seed = stem, teacher, stage, seed
        self.sources = (real, town.reshape(-1, *town.shape[-3:]))
        self.preprocessor = Preprocessor()

    def draw(self, random: np.random.Generator, count: int) -> Tensor:
        """(count, 3, side, side) in 0..1: parts of pictures, every other one under other conditions."""
        side, parts = self.stage.side, []
        for _ in range(count):
            source = self.sources[int(random.random() < TOWN_SHARE)]
            picture = source[random.integers(len(source))]
            top, left = random.integers(0, picture.shape[-1] - side + 1, 2)
            part = picture[:, top : top + side, left : left + side]
            parts.append(part[:, :, ::-1] if random.random() < 0.5 else part)
        images = torch.from_numpy(np.stack(parts)).float() / 255
        changed = augment.night(augment.air(augment.season(augment.light(images[::2]))))
        return torch.cat([changed, images[1::2]])

    def pairs(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """What the stem gives and what it should give, for the first convolution and every block."""
        wanted = self.teacher(images)
        given = [self.stem.first(self.preprocessor.normalise(images * 255))]
        for number, block in enumerate(self.stem.blocks):
            given.append(block(given[-1] if self.stage.in_a_row else wanted[number]))
        return list(zip(given, wanted, strict=True))

    def training_step(self, step: Tensor, batch_idx: int) -> dict[str, Tensor]:
        images = self.draw(np.random.default_rng((self.seed, int(step))), self.stage.pictures).to(self.device)
        unexplained = [unexplained_variance(given, wanted) for given, wanted in self.pairs(images)]
        total = torch.stack(unexplained).sum()
        self.log("loss", total, prog_bar=True, logger=False)
        return {"loss": total, "last block": unexplained[-1].detach()}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        filters = [parameter for parameter in self.stem.parameters() if parameter.ndim > 1]
        offsets = [parameter for parameter in self.stem.parameters() if parameter.ndim == 1]
        share = 1.0 if self.stage.in_a_row else 4.0  # a block's mean and deviation have far to go at first
        groups = [{"params": filters, "share": 1.0}, {"params": offsets, "share": share}]
        return torch.optim.Adam(groups, lr=self.stage.schedule.rate, betas=(0.9, 0.99))


def unexplained_variance(given: Tensor, wanted: Tensor) -> Tensor:
    """Squared error in parts of the variance of `wanted` within its channels, maps (N, C, H, W)."""
    return (given - wanted).square().mean() / wanted.var((0, 2, 3)).mean().clamp(min=1e-6)


@torch.no_grad()
def begin_stem(stem: ConvStem, teacher: TeacherLayers, images: Tensor) -> None:
    """Random filters whose outputs have about the teacher's means and deviations; `images` are (N, 3, S, S), 0..1."""
    for module in stem.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    maps = teacher(images)
    wanted = [maps[0]]
    for seen, block in zip(maps[:-1], teacher.blocks, strict=True):
        wanted += [block.deep(seen), block(seen)]
    units = [module for module in stem.modules() if isinstance(module, StemUnit)]
    for unit, seen in zip(units, wanted, strict=True):
        deviation, mean = torch.std_mean(seen, dim=(0, 2, 3))
        unit.bn.weight.copy_(1.2 * deviation + 0.05)  # wider: the cut at 0 and 6 takes of it
        unit.bn.bias.copy_(mean)


def distil_stem(module: StemModule, folder: Path, machine: Machine) -> None:
    """Trains `module.stem` in place, see `run_timed`."""
    run_timed(module, module.stem, module.stage.schedule, folder / "stem.pt", module.seed, machine)
