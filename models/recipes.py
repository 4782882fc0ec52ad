"""Recipes: YAML files under models/configs/ that say all a published training needs but where the data lies."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from d2vpr_ros.errors import UserError
from d2vpr_ros.model import CONFIGS, D2VPRConfig
from d2vpr_ros.model.checkpoint import parse_architecture
from models.batches import Transform
from models.gsv_cities import read_gsv_cities
from models.map_places import read_map_places
from models.places import Places, with_enough_images
from models.plain_images import read_plain_images
from models.rand_augment import RandAugment
from models.town_views import TownViews, town_places

T = TypeVar("T")


@dataclass(frozen=True)
class Data:
    """What is trained on.

    Attributes:
        kind: gsv_cities, maps (a folder of .d2map), town (rendered into a cache once), images (no places).
        places_per_batch, images_per_place: P and K, over all processes; places with fewer than K images are dropped.
        cities: of GSV-Cities; `all`, or a list.
        radius_m, least_sessions: of maps, see `read_map_places`.
        town: fields of `TownViews`.
    """

    kind: str = "gsv_cities"
    places_per_batch: int = 128
    images_per_place: int = 4
    cities: str | list[str] = "all"
    radius_m: float = 5.0
    least_sessions: int = 1
    town: dict[str, Any] = field(default_factory=dict)

    def read(self, path: Path) -> Places:
        """The places at `path`; of the town it is the cache file, made where it is not there.

        Raises:
            UserError: the data is not there, or not as it should be.
        """
        if self.kind == "gsv_cities":
            places = read_gsv_cities(path, self.cities)
        elif self.kind == "maps":
            places = read_map_places(path, self.radius_m, self.least_sessions)
        elif self.kind == "town":
            places = town_places(filled(TownViews, self.town, "data: town"), path)
        elif self.kind == "images":
            places = read_plain_images(path)
        else:
            raise UserError(f"data: kind is {self.kind!r}; expected gsv_cities, maps, town or images")
        return with_enough_images(places, self.images_per_place, path)


@dataclass(frozen=True)
class Rate:
    """The learning rate of every step.

    Attributes:
        highest: reached after `warm_up` and held until a milestone.
        warm_up: steps, or epochs where `warm_up_in` says so, over which the rate rises in a line from nothing.
        warm_up_in: `steps` or `epochs`.
        milestones: epochs at whose start the rate is multiplied by `factor`.
    """

    highest: float
    warm_up: int = 0
    warm_up_in: str = "steps"
    milestones: tuple[int, ...] = ()
    factor: float = 0.1

    def at(self, step: int, steps_per_epoch: int) -> float:
        """The rate of a step, counted from 0."""
        if self.warm_up_in not in ("steps", "epochs"):
            raise UserError(f"rate: warm_up_in is {self.warm_up_in!r}; expected steps or epochs")
        rise = self.warm_up * (steps_per_epoch if self.warm_up_in == "epochs" else 1)
        fallen = sum(step >= epoch * steps_per_epoch for epoch in self.milestones)
        return self.highest * min(1.0, (step + 1) / max(1, rise)) * self.factor**fallen


@dataclass(frozen=True)
class Recipe:
    """One published training.

    Attributes:
        stage: `distill` or `finetune`; a script refuses the other's.
        epochs: passes over the data.
        rate, weight_decay: of Adam (distill, no decay) and AdamW (finetune).
        model: a bundled size's name, or all fields of a `D2VPRConfig`.
        trained_blocks: of the backbone, the last ones (finetune only; distillation trains everything).
        clip: longest gradient; 0: as long as it is.
        precision: as Lightning names it: 32-true, 16-mixed, bf16-mixed.
        checkpoint_every: steps.
        chosen_by: recall@k that picks the best weights where a validation set is given.
    """

    stage: str
    epochs: int
    rate: Rate
    data: Data = field(default_factory=Data)
    transform: Transform = field(default_factory=Transform)
    weight_decay: float = 0.0
    model: str | dict[str, Any] = "small"
    trained_blocks: int = 4
    clip: float = 0.0
    precision: str = "32-true"
    seed: int = 0
    workers: int = 8
    checkpoint_every: int = 200
    chosen_by: int = 1

    def architecture(self, path: Path) -> D2VPRConfig:
        """The size of network that is trained; `path` is the recipe's file, for the error."""
        if isinstance(self.model, dict):
            return parse_architecture(json.dumps(self.model), path)
        if self.model not in CONFIGS:
            raise UserError(f"{path}: model is {self.model!r}; expected {', '.join(CONFIGS)}, or all sizes by name")
        return CONFIGS[self.model]


def filled(kind: type[T], values: object, where: str) -> T:
    """A dataclass from what a YAML file says about it; what is not said keeps its default.

    Raises:
        UserError: a field is unknown, missing or of another type.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if not isinstance(values, Mapping):
        raise UserError(f"{where}: expected {', '.join(fields)}, found {values!r}")
    unknown = [str(name) for name in values if name not in fields]
    if unknown:
        raise UserError(f"{where}: {unknown[0]} is not known; expected {', '.join(fields)}")
    try:
        return kind(
            **{
                name: tuple(v) if isinstance(v, list) and name in ("milestones", "taps") else v
                for name, v in values.items()
            }
        )
    except TypeError as error:
        raise UserError(f"{where}: {error}") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        UserError: there is no such file, it is not YAML, or no mapping.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such recipe; expected a YAML file such as those in models/configs")
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: contains no recipe; compare the files in models/configs")
    return content


def read_recipe(path: Path, stage: str) -> Recipe:
    """The recipe in a file, for the stage named.

    Raises:
        UserError: the file is none, or for another stage.
    """
    content = read_yaml(path)
    if content.get("stage") != stage:
        raise UserError(f"{path}: stage is {content.get('stage')!r}; this script takes recipes with stage: {stage}")
    transform = dict(content.get("transform", {}))
    if "augment" in transform:
        transform["augment"] = filled(RandAugment, transform["augment"], f"{path}: transform: augment")
    parts = {
        "rate": filled(Rate, content.get("rate", {}), f"{path}: rate"),
        "data": filled(Data, content.get("data", {}), f"{path}: data"),
        "transform": filled(Transform, transform, f"{path}: transform"),
    }
    return filled(Recipe, content | parts, str(path))
