"""Train small, D²-VPR at the paper's size, from data to weights in one go.

    python -m models.train_small --footage FOOTAGE --dinov2 dinov2_small.safetensors --cache FOLDER

The backbone begins as DINOv2-small (`python -m models.backbones`, or the official dinov2_vits14_pretrain.pth). FOLDER
holds everything that is made on the way (town views, frozen blocks' outputs, checkpoints); what is already there is
used again, and a killed run continues from its last checkpoint.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pytorch_lightning import seed_everything
from torch import Tensor

from d2vpr_ros.errors import UserError
from d2vpr_ros.model import D2VPR, SMALL
from d2vpr_ros.model.vit import Block
from models.augment import Viewpoint
from models.backbones import hash_of
from models.block_cache import BlockCache, cache_blocks
from models.commands import bundled_parser, train_bundled
from models.data import HELD_OUT_FLOORS, Picture, cache_crops, training_pictures
from models.dinov2 import start_from_dinov2
from models.discriminants import Discriminants, read_discriminants
from models.export_weights import export_weights
from models.fit_pca import write_projection
from models.kept import keep_memory, kept
from models.place_pairs import Shown, shown_by
from models.place_projection import PlaceProjection, find_projection
from models.places import fingerprint_of
from models.recipes import filled, read_yaml
from models.run_folder import describe_run
from models.runs import Machine
from models.small_stage import SmallStage, SmallStageModule, compared_by, describe_cached, run_small_stage
from models.small_start import begin_centring, begin_small
from models.small_views import Looks, Views, views_of
from models.timed_stage import Schedule
from models.town_views import TownViews, cache_town_views

log = logging.getLogger(__name__)

FEW = 8
"""In a fast-dev-run one picture of so many is looked at."""
STARTERS = 16
"""Pictures of each kind that the start looks at."""


@dataclass(frozen=True)
class Frozen:
    """The part of the backbone that does not learn.

    Attributes:
        blocks: how many of the first blocks.
        side: of the views in pixels.
        bits16: compute it in bfloat16.
    """

    blocks: int = 8
    side: int = 224
    bits16: bool = True


@dataclass(frozen=True)
class SmallRecipe:
    """What models/configs/small.yaml says, in the order of its use; see the classes for their fields.

    Attributes:
        towns, looks: of which views are drawn.
        frozen: part of the backbone.
        depth: blocks that the network has; what lies behind them in DINOv2 is left away. Taps lie at the frozen blocks
            of the paper's, and at the last one.
        centring: the block behind the frozen ones begins by taking the picture's mean token off each, not as DINOv2's.
        discriminants: what the recovery module reads before anything is learned.
        stages: in their order.
        projection: what places are compared by in the stages, and the weights' default projection at the end.
    """

    towns: TownViews
    looks: Looks
    frozen: Frozen
    depth: int
    centring: bool
    discriminants: Discriminants
    stages: list[SmallStage]
    projection: PlaceProjection
    seed: int
    threads: int


def read_small_recipe(path: Path) -> SmallRecipe:
    """
    Raises:
        UserError: the file is no such recipe, or a part of it has a field that is none.
    """
    content = read_yaml(path)
    wanted = ("data", "frozen", "depth", "centring", "discriminants", "stages", "projection", "seed", "threads")
    if missing := [key for key in wanted if key not in content]:
        raise UserError(f"{path}: the recipe lacks {', '.join(missing)}; compare models/configs/small.yaml")
    data, stages = content["data"], list[SmallStage]()
    looks = dict(data.get("looks", {}))
    if "viewpoint" in looks:
        looks["viewpoint"] = filled(Viewpoint, looks["viewpoint"], f"{path}: data: looks: viewpoint")
    for number, given in enumerate(content["stages"], 1):
        where = f"{path}: stage {number}"
        schedule = filled(Schedule, given.get("schedule"), f"{where}: schedule")
        stages.append(filled(SmallStage, given | {"schedule": schedule}, where))
    return SmallRecipe(
        filled(TownViews, data.get("town", {}), f"{path}: data: town"),
        filled(Looks, looks, f"{path}: data: looks"),
        filled(Frozen, content["frozen"], f"{path}: frozen"),
        content["depth"],
        content["centring"],
        filled(Discriminants, content["discriminants"], f"{path}: discriminants"),
        stages,
        filled(PlaceProjection, content["projection"], f"{path}: projection"),
        content["seed"],
        content["threads"],
    )


def cached(
    model: D2VPR, views: Views, fingerprint: str, frozen: Frozen, seed: int, folder: Path, machine: Machine
) -> BlockCache:
    """The frozen blocks' outputs of all views."""
    parts = ("patch_embed", "pos_embed", "cls_token", *(f"blocks.{number}." for number in range(frozen.blocks)))
    own = {
        name: tensor
        for name, tensor in model.backbone.state_dict().items()
        if name.startswith(parts) and ".adapter." not in name
    }
    facts = {"backbone": hash_of(own), "views": fingerprint, "side": frozen.side, "seed": seed}

    def draw(numbers: npt.NDArray[np.int64], chunk: int) -> Tensor:
        return views.draw(numbers, frozen.side, seed * 1_000_003 + chunk)

    device = "cuda" if machine.accelerator != "cpu" and torch.cuda.is_available() else "cpu"
    return cache_blocks(model.backbone, frozen.blocks, draw, len(views), facts, folder, frozen.bits16, device)


def train_small(config: Path, footage: Path, dinov2: Path, cache: Path, out: Path, machine: Machine) -> Path:
    """Everything: data, frozen blocks, start, stages, weights, projection. Returns the weights file.

    A fast-dev-run takes a few of the pictures and towns, and leaves nothing.

    Raises:
        UserError: the recipe, the footage or the backbone is not as it should be, or the disk has no room.
    """
    recipe, pictures = read_small_recipe(config), training_pictures(footage)
    keep_memory()
    torch.set_num_threads(recipe.threads)
    seed_everything(recipe.seed, verbose=False)
    model = begun_from(dinov2, recipe.depth, recipe.frozen.blocks)
    weights = out / "small.safetensors"
    if machine.fast_dev_run:
        with tempfile.TemporaryDirectory(prefix="small") as folder:
            learn(model, shortened(recipe), pictures[::FEW], footage, Path(folder), machine)
        return weights
    described, shown = learn(model, recipe, pictures, footage, cache, machine, read_yaml(config))

    in_words = (
        f"simulated towns {recipe.towns.first} to {recipe.towns.last}; ie_tower without {', '.join(HELD_OUT_FLOORS)}; "
        "opensfm_lund; begun as DINOv2-small"
    )
    export_weights(model.eval(), weights, (recipe.towns.first, recipe.towns.last), config.read_text(), in_words)
    mean, components = find_projection(described, shown, recipe.projection, recipe.seed)
    file = weights.with_suffix(f".pca{recipe.projection.width}.safetensors")
    write_projection(
        mean.numpy(), components.half().contiguous().numpy(), weights, f"{len(described)} views of {in_words}", file
    )
    return weights


def begun_from(dinov2: Path, depth: int, frozen: int) -> D2VPR:
    """The paper's network with its first `depth` blocks, these as DINOv2 has them.

    Raises:
        UserError: the file is no DINOv2-small.
    """
    whole = D2VPR(SMALL)
    start_from_dinov2(whole, dinov2)
    taps = tuple(tap for tap in SMALL.taps if tap <= frozen)
    model = D2VPR(dataclasses.replace(SMALL, depth=depth, taps=taps if depth in taps else (*taps, depth)))
    kept = model.backbone.state_dict()
    own = {name: tensor for name, tensor in whole.backbone.state_dict().items() if name in kept and name[:4] != "lin."}
    model.backbone.load_state_dict(own, strict=False)
    return model.eval()


def shortened(recipe: SmallRecipe) -> SmallRecipe:
    """The same with so few views that all of it runs in a minute or two."""
    towns = dataclasses.replace(recipe.towns, last=recipe.towns.first + 1)
    projection = dataclasses.replace(recipe.projection, width=64, principal=128)
    looks = dataclasses.replace(recipe.looks, tower=2, street=2)
    return dataclasses.replace(recipe, towns=towns, looks=looks, projection=projection)


def learn(
    model: D2VPR,
    recipe: SmallRecipe,
    pictures: list[Picture],
    footage: Path,
    cache: Path,
    machine: Machine,
    described: dict[str, Any] | None = None,
) -> tuple[Tensor, Shown]:
    """From DINOv2's weights to the last stage's, in place; what is in the folder `cache` is not done again.

    Args:
        described: the recipe as written, for the run folder that `cache` is; None: it is none.

    Returns:
        the descriptors (views, D) of all views, and what these show.
    """
    town, real = cache_town_views(recipe.towns, cache / "town.npy"), cache_crops(pictures, 1, 1, cache / "real.npy")
    views = views_of(pictures, real, town, recipe.looks)
    made_of = [repr(recipe.towns), repr(recipe.looks), *(str(each.path.relative_to(footage)) for each in pictures)]
    fingerprint = fingerprint_of(made_of)
    facts = {
        "data": str(footage),
        "data_described": f"{len(views)} views: {views.town_views} of towns, others of {len(pictures)} pictures",
        "data_fingerprint": fingerprint,
    }
    if described is not None:
        describe_run(cache, described, facts)
    blocks = cached(model, views, fingerprint, recipe.frozen, recipe.seed, cache, machine)
    shown, bits16 = shown_by(views, pictures), recipe.frozen.bits16
    behind = recipe.frozen.blocks

    def begun() -> dict[str, Tensor]:
        begin_small(model, recipe.seed)
        if recipe.centring:
            block, some = list(model.backbone.blocks)[behind], np.arange(0, blocks.count, max(1, blocks.count // 64))
            assert isinstance(block, Block)
            begin_centring(block, float(blocks.read(some)[:, -1, 1:].std(dim=-1).mean()))
        starters = torch.from_numpy(some_pictures(views))
        read_discriminants(model, blocks, shown, starters, recipe.discriminants, behind, bits16)
        return model.state_dict()

    model.load_state_dict(kept(cache / "start.pt", begun))
    for number, stage in enumerate(recipe.stages):
        log.info("stage %s", stage.name)
        seed, folder = recipe.seed + number, cache / stage.name
        compared = kept(
            folder / "compared.pt",
            lambda seed=seed: compared_by(model, blocks, shown, recipe.projection, behind, seed, bits16),  # type: ignore[misc]
        )
        module = SmallStageModule(model, blocks, shown, stage, compared, behind, seed)
        run_small_stage(module, folder, machine, bits16)
    return describe_cached(model, blocks, behind, bits16), shown


def some_pictures(views: Views) -> npt.NDArray[np.uint8]:
    """(N, 3, S, S): pictures of both kinds, for the start."""
    town = views.town.reshape(-1, *views.town.shape[3:])
    return np.concatenate([town[:: -(-len(town) // STARTERS)], views.real[:: -(-len(views.real) // STARTERS)]])


def main() -> int:
    parser = bundled_parser(__doc__, "small.yaml", cache_gb=5)
    parser.add_argument("--dinov2", type=Path, required=True, help="of models.backbones, or the official .pth")
    asked = parser.parse_args()
    return train_bundled(
        lambda machine: train_small(asked.config, asked.footage, asked.dinov2, asked.cache, asked.out, machine), asked
    )


if __name__ == "__main__":
    sys.exit(main())
