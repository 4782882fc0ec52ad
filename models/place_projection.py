"""The projection that keeps what differs between places: Fisher's discriminants of whole descriptors.

The descriptors' principal directions come first, so that the scatters have full rank. What changes between looks at a
place is then made small and alike in all directions, and the directions with the largest variance of that are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.discriminants import directions
from models.place_pairs import Shown


@dataclass(frozen=True)
class PlaceProjection:
    """How it is found.

    Attributes:
        width: numbers that are left of a descriptor.
        principal: directions that are looked at.
        ridge: how much of the mean variance within places is added to all directions.
        town, next_frame: weight of looks at the towns' places, and of a video's next frame, in what changes within a
            place; looks at real pictures have the rest.
    """

    width: int = 512
    principal: int = 1000
    ridge: float = 0.1
    town: float = 0.3
    next_frame: float = 0.25


@torch.no_grad()
def find_projection(descriptors: Tensor, shown: Shown, recipe: PlaceProjection, seed: int) -> tuple[Tensor, Tensor]:
    """Mean (D,) and components (width, D) of all views' descriptors (N, D) of any dtype, in float32.

    Projected descriptors have a mean length of about 1.
    """
    torch.manual_seed(seed)
    mean = descriptors.float().mean(dim=0)
    centred = descriptors.float() - mean
    principal = min(recipe.principal, *centred.shape)
    axes = torch.svd_lowrank(centred, principal, niter=2)[2]
    reduced = centred @ axes
    cut = shown.town_views
    town, _ = _within(reduced[:cut], shown.place[:cut])
    real, middles = _within(reduced[cut:], shown.place[cut:])
    first, following = _next_frames(shown)
    steps = middles[first] - middles[following]
    parts = ((recipe.town, town), (1 - recipe.town - recipe.next_frame, real), (recipe.next_frame, steps))
    within = sum(weight * _scatter(rows) for weight, rows in parts)
    assert isinstance(within, Tensor)
    components = directions(within, _scatter(reduced), recipe.width, recipe.ridge) @ axes.T
    return mean, components / (centred @ components.T).norm(dim=1).mean()


def projected(descriptors: Tensor, mean: Tensor, components: Tensor) -> Tensor:
    """(N, D) -> (N, width), unit length."""
    return torch.nn.functional.normalize((descriptors.float() - mean) @ components.T, dim=1)


def _scatter(rows: Tensor) -> Tensor:
    """(D, D), in parts of its trace; nothing where there are no rows."""
    scatter = rows.T @ rows
    return scatter / torch.trace(scatter).clamp(min=1e-12)


def _within(rows: Tensor, places: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """(N, D) of views -> their differences from their place's mean (N, D), and these means (places, D), in order."""
    _, numbers = np.unique(places, return_inverse=True)
    at = torch.from_numpy(numbers)
    count = torch.bincount(at)
    means = torch.zeros(len(count), rows.shape[1]).index_add(0, at, rows) / count[:, None]
    return rows - means[at], means


def _next_frames(shown: Shown) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows of the real places (in order) of which the second is the video's next frame after the first."""
    _, one = np.unique(shown.place[shown.town_views :], return_index=True)
    video, second = shown.video[shown.town_views :][one], shown.second[shown.town_views :][one]
    at = {(int(v), int(s)): row for row, (v, s) in enumerate(zip(video, second, strict=True))}
    found = [(row, at[v, s + 1]) for (v, s), row in at.items() if (v, s + 1) in at]
    pairs = np.array(found, np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]
