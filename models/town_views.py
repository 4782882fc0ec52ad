"""Places of the simulated town as training pictures: each seen under several conditions from a little elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import Pose, distance, turn
from d2vpr_ros.sim.conditions import random_condition
from d2vpr_ros.sim.render import CAMERA_MOUNT, Renderer
from d2vpr_ros.sim.routes import jitter, sample_places
from d2vpr_ros.sim.town import build_town, seed_purpose
from models.places import Places, fingerprint_of


@dataclass(frozen=True)
class TownViews:
    """What is rendered.

    Attributes:
        first, last: seeds of the towns, both included; training seeds only.
        places: of a town.
        views: of a place, each under another random condition (with other moved objects).
        forward_m, lateral_m, yaw_deg: how far a view is from its place.
        apart_m: no two places of a town that look alike in direction are nearer.
    """

    first: int = 1000
    last: int = 1047
    places: int = 20
    views: int = 4
    forward_m: float = 1.5
    lateral_m: float = 1.5
    yaw_deg: float = 12.0
    apart_m: float = 12.0

    @property
    def towns(self) -> int:
        return self.last - self.first + 1


def places_apart(town_seed: int, count: int, apart_m: float, random: np.random.Generator) -> list[Pose]:
    """Places of a town of which no two facing alike are nearer than `apart_m`."""
    chosen: list[Pose] = []
    for place in sample_places(build_town(town_seed), random, 20 * count):
        if all(distance(place, other) > apart_m or turn(place, other) > 1.0 for other in chosen):
            chosen.append(place)
            if len(chosen) == count:
                return chosen
    raise UserError(f"town {town_seed} has no {count} places {apart_m:g} m apart; lower the number in the recipe")


def cache_town_views(recipe: TownViews, out: Path) -> npt.NDArray[np.uint8]:
    """(towns, places, views, 3, S, S) uint8 in `out`; kept where it is already there."""
    for seed in (recipe.first, recipe.last):
        if seed_purpose(seed) != "training":
            raise UserError(f"town seed {seed} is for {seed_purpose(seed)}, not for training; use seeds from 1000 on")
    if not out.exists():
        preprocessor = Preprocessor()
        renderer = Renderer(288, 216)
        shape = (recipe.towns, recipe.places, recipe.views, 3, preprocessor.size, preprocessor.size)
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = out.with_suffix(".partial")
        cache = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)  # type: ignore[no-untyped-call]
        for number in tqdm(range(recipe.towns), desc="towns", mininterval=10):
            seed = recipe.first + number
            random = np.random.default_rng(seed)
            town = build_town(seed)
            places = places_apart(seed, recipe.places, recipe.apart_m, random)
            for view in range(recipe.views):
                renderer.load(town, random_condition(random))
                for row, place in enumerate(places):
                    yaw = np.radians(recipe.yaw_deg)
                    base = jitter(place, random, recipe.forward_m, recipe.lateral_m, float(yaw))
                    cache[number, row, view] = preprocessor.resize(renderer.render(base @ CAMERA_MOUNT)).numpy()
        cache.flush()
        partial.rename(out)
    return np.load(out, mmap_mode="r")


def town_places(recipe: TownViews, cache: Path) -> Places:
    """The towns' places, each town a group; rendered into `cache`, an npy file, where that is not there."""
    views = cache_town_views(recipe, cache)
    if views.shape[:3] != (recipe.towns, recipe.places, recipe.views):
        raise UserError(f"{cache}: has {views.shape[:3]} towns, places, views; the recipe needs others; remove it")
    pictures = views.reshape(-1, *views.shape[3:])
    rows = np.arange(len(pictures), dtype=np.int64).reshape(-1, recipe.views)
    groups = [f"town {recipe.first + number}" for number in range(recipe.towns) for _ in range(recipe.places)]
    described = f"{len(rows)} places of towns {recipe.first} to {recipe.last}, {recipe.views} views each"
    return Places(
        list(rows),
        groups,
        lambda row: np.ascontiguousarray(pictures[row].transpose(1, 2, 0)),
        fingerprint_of([repr(recipe), str(cache.stat().st_size)]),
        described,
    )
