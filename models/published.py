"""From a recipe to a run: what distillation and fine-tuning on places have in common."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path

from pytorch_lightning import LightningModule

from d2vpr_ros.model import D2VPR
from models.batches import BatchStream, PlaceImages, loader
from models.benchmarks import Benchmark
from models.rand_augment import RandAugment
from models.recipes import Recipe
from models.run_folder import describe_run, is_first, write_weights
from models.runs import Machine, train
from models.validation import Validate


def run_recipe(
    module: LightningModule,
    student: D2VPR,
    recipe: Recipe,
    data: Path,
    out: Path,
    machine: Machine,
    weights: Mapping[str, Path],
    validation: Benchmark | None = None,
) -> Path:
    """Trains the module on the recipe's batches; returns the file of the student's last weights.

    Args:
        weights: the files it starts from; their SHA-256 goes into the run folder.
        validation: what chooses the best weights, once an epoch.

    Raises:
        UserError: the data is not as it should be, or the folder holds another run.
    """
    places = recipe.data.read(data)
    images = PlaceImages(places, recipe.data.images_per_place, recipe.transform)
    count = recipe.data.places_per_batch
    steps_per_epoch = BatchStream(places.groups, count, recipe.seed).batches_per_epoch
    if not machine.fast_dev_run and is_first():
        facts = {
            "data": str(data),
            "data_described": places.described,
            "data_fingerprint": places.fingerprint,
            "places": len(places),
            "images": places.images,
            "steps_per_epoch": steps_per_epoch,
            "starts_from": {
                name: {"file": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
                for name, path in weights.items()
            },
            "machine": dataclasses.asdict(machine),
        }
        describe_run(out, dataclasses.asdict(recipe), facts)
    still = dataclasses.replace(recipe.transform, augment=RandAugment(operations=0))
    train(
        module,
        lambda step, rank, world: loader(
            images, BatchStream(places.groups, count, recipe.seed, step, rank, world), recipe.workers
        ),
        out,
        steps=recipe.epochs * steps_per_epoch,
        rate_at=lambda step: recipe.rate.at(step, steps_per_epoch),
        seed=recipe.seed,
        machine=machine,
        precision=recipe.precision,
        clip=recipe.clip,
        checkpoint_every=recipe.checkpoint_every,
        callbacks=(
            (Validate(validation, student, still, steps_per_epoch, recipe.chosen_by, recipe.workers, out),)
            if validation
            else ()
        ),
    )
    last = out / "last.safetensors"
    if not machine.fast_dev_run and is_first():
        write_weights(student, last)
    return last
