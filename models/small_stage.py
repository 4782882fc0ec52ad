"""The stages that small is trained by: places, learned by what lies behind the frozen blocks.

A batch reads the frozen blocks' outputs of its views from the cache and is compared with the last descriptors of all
views, through a projection that stays as it is during the stage. No batch has to hold two views of a place.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from pytorch_lightning import LightningModule
from torch import Tensor
from tqdm import tqdm

from d2vpr_ros.model import D2VPR
from models.block_cache import CHUNK, BlockCache, tapped
from models.grid_aggregation import GridAggregation
from models.place_pairs import Shown, place_loss
from models.place_projection import PlaceProjection, find_projection, projected
from models.restyle import restyled
from models.runs import Machine
from models.timed_stage import Schedule, run_timed

CHECKPOINT_EVERY = 50  # steps of half a second to some seconds
SMALLEST_SIZE = 1e-3
"""Of a tensor, for its learning rate: one that starts as nothing learns, too."""


@dataclass(frozen=True)
class SmallStage:
    """Recipe of a stage.

    Attributes:
        name: of the stage and its folder.
        schedule: length and rate. The rate is a share of each tensor's own size (root mean square): the closed-form
            start's lie four orders of magnitude apart, and one rate for all would move only the smallest.
        pretrained: learning rate of DINOv2's own weights in parts of the others'; 0: the blocks behind the cached ones
            stay as they begin.
        views: of a batch.
        town: share of these that are of towns.
        temperature: of the loss.
        restyled: share of the views that take on another's style, see `restyled`.
    """

    name: str
    schedule: Schedule
    pretrained: float = 0.3
    views: int = 64
    town: float = 0.5
    temperature: float = 0.07
    restyled: float = 0.0


class SmallStageModule(LightningModule):
    """Draws each step's batch from its number, so that a stage that was killed continues as if it had not been.

    Args:
        frozen: how many of the first blocks the cache has the outputs of.
        compared: mean and components of the projection through which places are compared, and all views' descriptors
            projected (`known`), see `compared_by`.
    """

    mean: Tensor
    components: Tensor
    known: Tensor

    def __init__(
        self,
        model: D2VPR,
        cache: BlockCache,
        shown: Shown,
        stage: SmallStage,
        compared: dict[str, Tensor],
        frozen: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.model, self.cache, self.shown, self.stage, self.seed, self.frozen = (
            model,
            cache,
            shown,
            stage,
            seed,
            frozen,
        )
        self.aggregation = GridAggregation(model, cache.side)
        model.requires_grad_(False)
        for part in (
            *(list(model.backbone.blocks)[frozen:] if stage.pretrained else []),
            model.backbone.lin,
            model.backbone.up_norm,
            model.topdown_fusion,
            model.pos_encoder,
        ):
            part.requires_grad_(True)
        for name in ("mean", "components", "known"):
            self.register_buffer(name, compared[name])

    def train(self, mode: bool = True) -> SmallStageModule:
        super().train(mode)
        for block in list(self.model.backbone.blocks)[: self.frozen]:
            block.eval()
        return self

    def batch(self, step: int) -> npt.NDArray[np.int64]:
        """Numbers of its views."""
        random, cut = np.random.default_rng((self.seed, step)), self.shown.town_views
        of_town = round(self.stage.views * self.stage.town)
        town = random.choice(cut, of_town, replace=False)
        real = random.choice(len(self.shown.place) - cut, self.stage.views - of_town, replace=False)
        return np.concatenate([town, cut + real])

    def training_step(self, step: Tensor, batch_idx: int) -> dict[str, Tensor]:
        rows, random = self.batch(int(step)), torch.Generator().manual_seed(self.seed * 1_000_003 + int(step))
        taps = restyled(self.cache.read(rows), self.stage.restyled, random).to(self.device)
        tokens = recovered(self.model, taps, self.frozen)
        with torch.autocast(self.device.type, enabled=False):  # similarities in 16 bits would tie
            described = projected(self.aggregation(tokens.float()), self.mean, self.components)
            same, uncounted = (pairs.to(self.device) for pairs in self.shown.pairs(rows))
            loss, recall = place_loss(described, self.known, same, uncounted, self.stage.temperature)
        at = torch.from_numpy(rows).to(self.device)
        self.known = self.known.index_copy(0, at, described.detach())  # not in place: the loss needs the former ones
        self.log("loss", loss, prog_bar=True, logger=False)
        return {"loss": loss, "recall": recall}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        groups = []
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                own = name.startswith("backbone.blocks.") and ".adapter." not in name
                size = max(float(parameter.detach().square().mean().sqrt()), SMALLEST_SIZE)
                groups.append({"params": [parameter], "share": size * (self.stage.pretrained if own else 1.0)})
        schedule = self.stage.schedule
        return torch.optim.AdamW(groups, schedule.rate, betas=(0.9, 0.98), weight_decay=schedule.weight_decay)


def recovered(model: D2VPR, taps: Tensor, frozen: int) -> Tensor:
    """The recovered tokens (N, T, output_width) of frozen blocks' outputs (N, frozen taps, T, C)."""
    tokens = tapped(model, taps, frozen)
    return model.backbone.up_norm(model.backbone.lin(tokens.permute(0, 2, 1, 3).flatten(2)))


@torch.no_grad()
def describe_cached(model: D2VPR, cache: BlockCache, frozen: int, bits16: bool) -> Tensor:
    """(views, D) float16: the descriptors of all views."""
    model.eval()
    aggregation, described = GridAggregation(model, cache.side), list[Tensor]()
    for first in tqdm(range(0, cache.count, CHUNK), desc="describe", mininterval=10, disable=None):
        taps = cache.read(np.arange(first, min(first + CHUNK, cache.count)))
        with torch.autocast("cpu", torch.bfloat16, enabled=bits16):
            tokens = recovered(model, taps, frozen)
        described.append(aggregation(tokens.float()).half())
    return torch.cat(described)


def compared_by(
    model: D2VPR, cache: BlockCache, shown: Shown, projection: PlaceProjection, frozen: int, seed: int, bits16: bool
) -> dict[str, Tensor]:
    """What a stage compares places by, from the views as the model describes them now.

    Args:
        bits16: describe them in bfloat16.
    """
    described = describe_cached(model, cache, frozen, bits16)
    mean, components = find_projection(described, shown, projection, seed)
    return {"mean": mean, "components": components, "known": projected(described, mean, components)}


def run_small_stage(module: SmallStageModule, folder: Path, machine: Machine, bits16: bool) -> None:
    """Trains `module.model` in place, see `run_timed`."""
    precision = "bf16-mixed" if bits16 else "32-true"
    schedule = module.stage.schedule
    run_timed(
        module,
        module.model,
        schedule,
        folder / "small.pt",
        module.seed,
        machine,
        precision=precision,
        checkpoint_every=CHECKPOINT_EVERY,
    )
