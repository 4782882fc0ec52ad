"""The stages that small is trained by: places, learned by what lies behind the frozen blocks.

A batch reads the frozen blocks' outputs of its views from the cache. Half of it are places of simulated towns under
several conditions; the other half are real pictures, each beside another look at it or at the video's next frame. Of
one video a batch takes several pictures some seconds apart, so that near ones are told apart, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from d2vpr_ros.model import D2VPR
from models.block_cache import BlockCache
from models.data import Picture
from models.losses import PlaceLoss
from models.runs import Machine
from models.small_views import Views
from models.timed_stage import Schedule, run_timed

LONGEST_GRADIENT = 1.0
CHECKPOINT_EVERY = 20  # steps of some seconds on two cores


@dataclass(frozen=True)
class SmallStage:
    """Recipe of a stage.

    Attributes:
        name: of the stage and its folder.
        schedule: length and rate.
        blocks: whether the blocks behind the frozen ones learn, adapters included; else their outputs are left out
            (the recovery module does not read them at the start).
        blocks_share: learning rate of DINOv2's own weights in parts of the others'.
        town_places, towns, town_views: places a batch, of how many towns, and views of each.
        real, videos: real places a batch, two looks each, and of how many videos.
        street: how many of the real places are street photographs.
        apart_s: seconds between places of one video, at least.
        alike: share of the batches whose videos are of one kind (all stairs, all lift halls) on different floors.
        next_frame: share of the second looks that are looks at the video's next frame.
        place_loss: see `PlaceLoss`.
    """

    name: str
    schedule: Schedule
    blocks: bool = True
    blocks_share: float = 0.3
    town_places: int = 16
    towns: int = 2
    town_views: int = 2
    real: int = 16
    videos: int = 4
    street: int = 3
    apart_s: int = 3
    alike: float = 0.5
    next_frame: float = 0.5
    place_loss: str = "multi_similarity"


class Batches:
    """Which views a batch has, drawn from its number.

    Args:
        pictures: those of `views.real`, in order.
    """

    def __init__(self, views: Views, pictures: list[Picture], stage: SmallStage) -> None:
        self.views, self.pictures, self.stage = views, pictures, stage
        self.looks = [np.flatnonzero(views.picture == row) + views.town_views for row in range(len(pictures))]
        self.videos: dict[str, list[int]] = {}
        for row, picture in enumerate(pictures):
            self.videos.setdefault(picture.video, []).append(row)
        self.streets = self.videos.pop("lund", [])
        self.kinds: dict[str, list[str]] = {}
        for video in self.videos:
            self.kinds.setdefault(video.split("_")[1], []).append(video)

    def draw(self, random: np.random.Generator) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Numbers of views and names of their places, (N,) each."""
        stage, views = self.stage, self.views
        numbers, names, name = list[int](), list[int](), 0
        towns, places, seen = views.town.shape[:3]
        for town in random.choice(towns, stage.towns, replace=False):
            for place in random.choice(places, stage.town_places // stage.towns, replace=False):
                first = (town * places + place) * seen
                numbers += [int(first + view) for view in random.choice(seen, stage.town_views, replace=False)]
                names += [name] * stage.town_views
                name += 1
        for row in self._tower(random, stage.real - stage.street) + self._street(random, stage.street):
            numbers += self._two_looks(row, random)
            names += [name, name]
            name += 1
        return np.array(numbers), np.array(names)

    def _tower(self, random: np.random.Generator, count: int) -> list[int]:
        """Frames of videos of different floors, those of one video `apart_s` seconds apart."""
        first = list[str]()
        if random.random() < self.stage.alike:
            kinds = [videos for videos in self.kinds.values() if len(videos) >= self.stage.videos]
            first = list(random.permutation(kinds[random.integers(len(kinds))])) if kinds else []
        chosen, floors = list[int](), set[str]()
        for video in [*first, *random.permutation(list(self.videos))]:
            rows = self.videos[video]
            floor = self.pictures[rows[0]].floor
            if floor in floors:  # two videos of a floor may show one place
                continue
            floors.add(floor)
            share = -(-(count - len(chosen)) // max(1, self.stage.videos + 1 - len(floors)))
            chosen += self._apart(rows, share, random)
            if len(chosen) >= count:
                break
        return chosen[:count]

    def _apart(self, rows: list[int], count: int, random: np.random.Generator) -> list[int]:
        """Up to `count` frames of a video."""
        taken: list[int] = []
        for row in random.permutation(rows):
            far = [abs(self.pictures[row].second - self.pictures[other].second) for other in taken]
            if len(taken) < count and all(seconds >= self.stage.apart_s for seconds in far):
                taken.append(int(row))
        return taken

    def _street(self, random: np.random.Generator, count: int) -> list[int]:
        """Street photographs of which no two follow each other."""
        groups: dict[int, list[int]] = {}
        for row in self.streets:
            groups.setdefault(self.pictures[row].second // 3, []).append(row)
        kinds = random.permutation(list(groups))[:count]
        return [int(random.choice(groups[kind])) for kind in kinds]

    def _two_looks(self, row: int, random: np.random.Generator) -> list[int]:
        """Two looks at a frame, or one at it and one at the next."""
        follows = row + 1 < len(self.pictures) and (
            self.pictures[row + 1].video == self.pictures[row].video != "lund"
            and self.pictures[row + 1].second == self.pictures[row].second + 1
        )
        if follows and random.random() < self.stage.next_frame:
            return [int(random.choice(self.looks[row])), int(random.choice(self.looks[row + 1]))]
        return [int(number) for number in random.choice(self.looks[row], 2, replace=False)]


class SmallStageModule(LightningModule):
    """Draws each step's batch from its number, so that a stage that was killed continues as if it had not been.

    Args:
        frozen: how many of the first blocks the cache has the outputs of.
    """

    def __init__(
        self, model: D2VPR, cache: BlockCache, batches: Batches, stage: SmallStage, frozen: int, seed: int
    ) -> None:
        super().__init__()
        self.model, self.cache, self.batches, self.stage, self.seed = model, cache, batches, stage, seed
        self.frozen, self.place_loss = frozen, PlaceLoss(stage.place_loss)
        model.requires_grad_(False)
        for part in (
            *(list(model.backbone.blocks)[frozen:] if stage.blocks else []),
            model.backbone.lin,
            model.backbone.up_norm,
            model.aggregation,
            model.offset_generator,
            model.topdown_fusion,
            model.pos_encoder,
        ):
            part.requires_grad_(True)

    def train(self, mode: bool = True) -> SmallStageModule:
        super().train(mode)
        for block in list(self.model.backbone.blocks)[: self.frozen]:
            block.eval()
        return self

    def training_step(self, step: Tensor, batch_idx: int) -> dict[str, Tensor]:
        numbers, names = self.batches.draw(np.random.default_rng((self.seed, int(step))))
        taps = self.cache.read(numbers).to(self.device)
        tokens = recovered(self.model, taps, self.frozen, self.stage.blocks)
        descriptors = self.model.aggregate(tokens.float()).float()
        places = torch.from_numpy(names).to(self.device)
        with torch.autocast(self.device.type, enabled=False):  # similarities in 16 bits would tie
            loss, apart = self.place_loss(descriptors, places), told_apart(descriptors.detach(), places)
        self.log("loss", loss, prog_bar=True, logger=False)
        return {"loss": loss, **apart}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                decay = 0.0 if parameter.ndim < 2 else self.stage.schedule.weight_decay
                own = name.startswith("backbone.blocks.") and ".adapter." not in name
                groups.setdefault((decay, self.stage.blocks_share if own else 1.0), []).append(parameter)
        settings = [
            {"params": parameters, "weight_decay": decay, "share": share}
            for (decay, share), parameters in groups.items()
        ]
        return torch.optim.AdamW(settings, lr=self.stage.schedule.rate, betas=(0.9, 0.98))


def recovered(model: D2VPR, taps: Tensor, frozen: int, blocks: bool) -> Tensor:
    """The recovered tokens (N, T, output_width) of frozen blocks' outputs (N, frozen taps, T, C).

    Args:
        blocks: run those behind; else zeros stand for what they put out.
    """
    backbone = model.backbone
    tapped, tokens = list(taps.unbind(dim=1)), taps[:, -1]
    for number, block in enumerate(list(backbone.blocks)[frozen:], start=frozen + 1):
        tokens = block(tokens) if blocks else torch.zeros_like(tokens)
        if number in backbone.taps:
            tapped.append(tokens)
    return backbone.up_norm(backbone.lin(torch.cat(tapped, dim=-1)))


def told_apart(descriptors: Tensor, names: Tensor) -> dict[str, Tensor]:
    """Mean similarity of equal places and of each view's most alike other one, and recall@1 within the batch."""
    similarity = descriptors @ descriptors.T
    same = names[:, None] == names[None]
    itself = torch.eye(len(names), dtype=torch.bool, device=names.device)
    alike = similarity.masked_fill(~same | itself, -1).amax(dim=1)
    other = similarity.masked_fill(same, -1).amax(dim=1)
    return {"same": alike.mean(), "other": other.mean(), "recall": (alike > other).float().mean()}


def run_small_stage(module: SmallStageModule, folder: Path, machine: Machine, bits16: bool) -> None:
    """Trains `module.model` in place, see `run_timed`."""
    precision = "bf16-mixed" if bits16 else "32-true"
    done = folder / "small.pt"
    schedule = module.stage.schedule
    run_timed(module, module.model, schedule, done, module.seed, machine, LONGEST_GRADIENT, precision, CHECKPOINT_EVERY)
