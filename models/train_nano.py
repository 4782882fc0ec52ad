"""Train the bundled nano from data to weights in one go.

    python -m models.train_nano --footage FOOTAGE --teacher-folder TEACHERS --cache FOLDER

FOLDER holds everything that is made on the way (crops, town views, teacher features, checkpoints); what is already
there is used again, and a killed run continues from its last checkpoint. About an hour on two CPU cores.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from pytorch_lightning import seed_everything

from d2vpr_ros.errors import UserError
from d2vpr_ros.model import D2VPR, NANO
from d2vpr_ros.model.stem import ConvStem
from models import data, teacher
from models.augment import Viewpoint
from models.commands import bundled_parser, train_bundled
from models.export_weights import export_weights
from models.fit_pca import fit_pca
from models.initialise import initialised
from models.nano_data import Pool, Student
from models.nano_stages import Stage, run_stage
from models.places import fingerprint_of
from models.recipes import filled, read_yaml
from models.run_folder import describe_run
from models.runs import Machine
from models.stem_stage import StemModule, StemStage, begin_stem, distil_stem
from models.teacher_layers import read_layers
from models.timed_stage import Schedule
from models.town_views import TownViews, cache_town_views

log = logging.getLogger(__name__)

AnyStage = TypeVar("AnyStage", StemStage, Stage)


def pool_fingerprint(pool: Pool, views: TownViews, settings: dict[str, Any]) -> str:
    """Changes with the teacher's features of the crops, and with what else the data is made by."""
    return fingerprint_of([hashlib.sha256(pool.maps.tobytes()).hexdigest(), repr(views), json.dumps(settings)])


def read_stages(recipe: dict[str, Any], config: Path) -> tuple[list[StemStage], list[Stage]]:
    """The recipe's stages of the stem and of the whole network, in their order.

    Raises:
        UserError: the recipe lacks a part, or a stage has a field that is none.
    """
    missing = [key for key in ("data", "stem", "stages", "projection", "seed", "threads") if key not in recipe]
    if missing:
        raise UserError(f"{config}: the recipe lacks {', '.join(missing)}; compare models/configs/nano.yaml")
    return (
        [_stage(StemStage, given, f"{config}: stem: stage {number}") for number, given in enumerate(recipe["stem"], 1)],
        [_stage(Stage, given, f"{config}: stage {number}") for number, given in enumerate(recipe["stages"], 1)],
    )


def _stage(kind: type[AnyStage], given: dict[str, Any], where: str) -> AnyStage:
    parts: dict[str, object] = {"schedule": filled(Schedule, given.get("schedule"), f"{where}: schedule")}
    if "viewpoint" in given:
        parts["viewpoint"] = filled(Viewpoint, given["viewpoint"], f"{where}: viewpoint")
    return filled(kind, given | parts, where)


def distilled(
    model: D2VPR,
    pool: Pool,
    town: npt.NDArray[np.uint8],
    stages: list[StemStage],
    teacher_folder: Path,
    cache: Path,
    seed: int,
    machine: Machine,
) -> None:
    """Distils the model's stem from the teacher's first layers, in place."""
    stem = model.backbone.patch_embed
    assert isinstance(stem, ConvStem)
    layers = read_layers(teacher_folder / teacher.FILE, len(stem.blocks))
    torch.manual_seed(seed)
    begin_stem(stem, layers, torch.from_numpy(np.array(pool.images[::200])).float() / 255)
    for number, stage in enumerate(stages):
        log.info("stage %s", stage.name)
        distil_stem(StemModule(stem, layers, pool.images, town, stage, seed + number), cache / stage.name, machine)


def real_pool(footage: Path, teacher_folder: Path, cache: Path, settings: dict[str, Any]) -> Pool:
    """Crops of the training footage with the teacher's features of them."""
    pictures, crops = data.training_pictures(footage), settings["crops"]
    images = data.cache_crops(pictures, crops["per_tower"], crops["per_street"], cache / "real.npy")
    features = cache / "real.teacher.npy"
    if not features.exists():
        maps, _ = teacher.describe_all(images, teacher_folder / teacher.FILE, settings["teacher_channels"])
        np.save(features, maps)
    counts = (crops["per_tower"], crops["per_street"])
    groups, neighbours = data.crop_groups(pictures, *counts), data.neighbour_rows(pictures, *counts)
    return Pool(images, np.load(features), groups, neighbours)


def train_nano(config: Path, footage: Path, teacher_folder: Path, cache: Path, out: Path, machine: Machine) -> Path:
    """Everything: data, stages, weights, projection. Returns the weights file.

    Raises:
        UserError: the recipe, the footage or the teacher is not as it should be.
    """
    recipe = read_yaml(config)
    stem_stages, stages = read_stages(recipe, config)
    torch.set_num_threads(recipe["threads"])
    seed_everything(recipe["seed"], verbose=False)
    pool = real_pool(footage, teacher_folder, cache, recipe["data"])
    views = filled(TownViews, recipe["data"]["town"], f"{config}: data: town")
    town = cache_town_views(views, cache / "town.npy")
    facts = {
        "data": str(footage),
        "data_described": f"{len(pool.images)} crops of footage; {views.towns} towns of {views.places} places",
        "data_fingerprint": pool_fingerprint(pool, views, recipe["data"]),
    }
    if not machine.fast_dev_run:
        describe_run(cache, recipe, facts)

    model = D2VPR(NANO)
    distilled(model, pool, town, stem_stages, teacher_folder, cache, recipe["seed"], machine)
    model = initialised(model, torch.from_numpy(np.array(pool.images[::20][:500])), recipe["seed"])
    student = Student(model, recipe["data"]["teacher_channels"])
    for number, stage in enumerate(stages):
        log.info("stage %s", stage.name)
        run_stage(student, pool, town, stage, cache / stage.name, recipe["seed"] + number, machine)
    weights = out / "nano.safetensors"
    if machine.fast_dev_run:
        return weights

    in_words = (
        f"simulated towns {views.first} to {views.last}; ie_tower without {', '.join(data.HELD_OUT_FLOORS)}; "
        "opensfm_lund; teacher MobileNet v1 (ImageNet)"
    )
    weights = out / "nano.safetensors"
    model.eval()
    export_weights(model, weights, (views.first, views.last), config.read_text(), in_words)
    projection = recipe["projection"]
    fit_pca(
        weights,
        [cache / "real.npy", cache / "town.npy"],
        projection["pictures"],
        projection["width"],
        weights.with_suffix(f".pca{projection['width']}.safetensors"),
        in_words,
        projection["whitening"],
    )
    return weights


def main() -> int:
    parser = bundled_parser(__doc__, "nano.yaml", cache_gb=3)
    parser.add_argument("--teacher-folder", type=Path, required=True, help=f"folder with {teacher.FILE}")
    asked = parser.parse_args()
    return train_bundled(
        lambda machine: train_nano(asked.config, asked.footage, asked.teacher_folder, asked.cache, asked.out, machine),
        asked,
    )


if __name__ == "__main__":
    sys.exit(main())
