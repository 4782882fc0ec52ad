"""Train the bundled nano from data to weights in one go.

    python -m models.train_nano --footage FOOTAGE --teacher-folder TEACHERS --cache FOLDER

FOLDER holds everything that is made on the way (crops, town views, teacher features, checkpoints); what is already
there is used again, and a killed run continues from its last checkpoint. About an hour on two CPU cores.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import yaml

from d2vpr_ros.errors import UserError
from d2vpr_ros.model import D2VPR, NANO
from models import data, teacher
from models.augment import Viewpoint
from models.distill import Distillation, Pool, Student, distill
from models.export_weights import export_weights
from models.finetune import Finetuning, finetune
from models.fit_pca import fit_pca
from models.initialise import initialised
from models.loop import Schedule
from models.town_views import TownViews, cache_town_views

HERE = Path(__file__).parent
log = logging.getLogger(__name__)


def read_recipe(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path}: no such recipe; expected a YAML file such as models/configs/nano.yaml")
    recipe = yaml.safe_load(path.read_text())
    missing = [key for key in ("data", "stages", "projection", "seed", "threads") if key not in (recipe or {})]
    if missing:
        raise UserError(f"{path}: the recipe lacks {', '.join(missing)}; compare models/configs/nano.yaml")
    return recipe


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


def run_stage(
    stage: dict[str, Any], student: Student, pool: Pool, town: npt.NDArray[np.uint8], cache: Path, seed: int
) -> None:
    """One stage of the recipe, trained in place."""
    fields = {key: value for key, value in stage.items() if key not in ("name", "kind", "schedule")}
    if "viewpoint" in fields:
        fields["viewpoint"] = Viewpoint(**fields["viewpoint"])
    schedule, checkpoint = Schedule(**stage["schedule"]), cache / f"{stage['name']}.pt"
    if stage["kind"] == "distill":
        distill(student, pool, Distillation(schedule, **fields), checkpoint, seed)
    elif stage["kind"] == "finetune":
        finetune(student, town, pool, Finetuning(schedule, **fields), checkpoint, seed)
    else:
        raise UserError(f"stage {stage['name']}: kind is {stage['kind']!r}; expected distill or finetune")


def train_nano(config: Path, footage: Path, teacher_folder: Path, cache: Path, out: Path) -> Path:
    """Everything: data, stages, weights, projection. Returns the weights file."""
    recipe = read_recipe(config)
    torch.set_num_threads(recipe["threads"])
    pool = real_pool(footage, teacher_folder, cache, recipe["data"])
    views = TownViews(**recipe["data"]["town"])
    town = cache_town_views(views, cache / "town.npy")

    model = initialised(D2VPR(NANO), torch.from_numpy(np.array(pool.images[::20][:500])), recipe["seed"])
    student = Student(model, recipe["data"]["teacher_channels"])
    for number, stage in enumerate(recipe["stages"]):
        log.info("stage %s", stage["name"])
        run_stage(stage, student, pool, town, cache, recipe["seed"] + number)

    in_words = (
        f"simulated towns {views.first} to {views.last}; ie_tower without {', '.join(data.HELD_OUT_FLOORS)}; "
        "opensfm_lund; teacher MobileNet v1 (ImageNet)"
    )
    weights = out / "nano.safetensors"
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=HERE / "configs" / "nano.yaml")
    parser.add_argument("--footage", type=Path, required=True, help="folder with ie_tower and opensfm_lund")
    parser.add_argument("--teacher-folder", type=Path, required=True, help=f"folder with {teacher.FILE}")
    parser.add_argument("--cache", type=Path, required=True, help="folder for what is made on the way, 3 GB")
    parser.add_argument("--out", type=Path, default=HERE / "weights")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        print(train_nano(arguments.config, arguments.footage, arguments.teacher_folder, arguments.cache, arguments.out))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
