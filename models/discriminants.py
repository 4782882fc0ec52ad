"""What tells places apart in frozen blocks' outputs, found in closed form: a start that needs no gradient.

A region's mean token is linear in the tokens, so the directions in which the means of one region differ between places
more than between looks at one place (Fisher's discriminants) are a reading of tokens, too. The recovery module takes
them with both signs: the aggregator's pooling keeps what is positive.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from d2vpr_ros.model import D2VPR
from d2vpr_ros.model.regions import POINTS
from models.block_cache import CHUNK, BlockCache, tapped
from models.grid_aggregation import sampling_matrix
from models.place_pairs import Shown
from models.small_start import centre_features


@dataclass(frozen=True)
class Discriminants:
    """How they are found.

    Attributes:
        taps: blocks whose outputs are read, some of the network's taps.
        ridge: how much of the mean variance within places is added to all directions.
        town: weight of the town's views; the real ones have the rest.
    """

    taps: tuple[int, ...] = (4, 8)
    ridge: float = 0.1
    town: float = 0.5


@torch.no_grad()
def region_means(model: D2VPR, cache: BlockCache, frozen: int, bits16: bool) -> Tensor:
    """(views, 13, taps * C) float16: the mean of each region's tokens, each token normalised tap by tap."""
    averaging, found = averaging_matrix(model, cache.side), list[Tensor]()
    for first in tqdm(range(0, cache.count, CHUNK), desc="regions", mininterval=10, disable=None):
        cached = cache.read(np.arange(first, min(first + CHUNK, cache.count)))
        with torch.autocast("cpu", torch.bfloat16, enabled=bits16):
            tokens = tapped(model, cached, frozen)
        patches = normalised(tokens.float())[:, :, 1:]
        found.append((averaging @ patches.permute(0, 2, 1, 3).flatten(2)).half())
    return torch.cat(found)


def averaging_matrix(model: D2VPR, side: int) -> Tensor:
    """(13, side²): takes the mean of each undeformed region's sample points from a map."""
    sampled = sampling_matrix(model, side)
    return torch.stack([part.mean(dim=0) for part in torch.split(sampled, POINTS)])


def normalised(tokens: Tensor) -> Tensor:
    return functional.layer_norm(tokens, tokens.shape[-1:])


def scatters(means: Tensor, places: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Of (views, 13, D) means: covariance within places and over all, (D, D), in parts of their mean variance."""
    _, rows = np.unique(places, return_inverse=True)
    at, count = torch.from_numpy(rows), int(rows.max()) + 1
    centred = means - means.mean(dim=0)
    sums = torch.zeros(count, *centred.shape[1:]).index_add(0, at, centred)
    within = (centred - (sums / torch.bincount(at)[:, None, None])[at]).flatten(0, 1)
    whole = centred.flatten(0, 1)
    return tuple(rows.T @ rows / torch.trace(rows.T @ rows) for rows in (within, whole))  # type: ignore[return-value]


def directions(within: Tensor, whole: Tensor, count: int, ridge: float) -> Tensor:
    """(count, D): the most telling directions, in each of which looks at one place differ alike."""
    width = len(within)
    regular = within + ridge * torch.trace(within) / width * torch.eye(width)
    sizes, axes = torch.linalg.eigh(regular)
    whitening = axes @ torch.diag(sizes.rsqrt()) @ axes.T
    _, telling = torch.linalg.eigh(whitening @ whole @ whitening)
    return telling[:, -count:].flip(1).T @ whitening


@torch.no_grad()
def read_discriminants(
    model: D2VPR,
    cache: BlockCache,
    shown: Shown,
    pictures: Tensor,
    recipe: Discriminants,
    frozen: int,
    bits16: bool,
) -> None:
    """The recovery module starts by reading the discriminants of all views, with both signs, in place.

    Each token's own deviation, by which it would have to be divided, is taken as the mean one; that is made up for by
    the recovery module's normalisation.

    Args:
        pictures: (N, 3, S, S) uint8, some dozen, to centre the descriptor by.
        frozen: how many of the first blocks the cache has the outputs of.
        bits16: compute those behind in bfloat16.
    """
    config, lin = model.config, model.backbone.lin
    width, read = config.width, [config.taps.index(tap) for tap in recipe.taps]
    columns = torch.cat([torch.arange(width) + width * tap for tap in read])
    means, cut = region_means(model, cache, frozen, bits16)[:, :, columns].float(), shown.town_views
    places = shown.place
    of_town, of_real = scatters(means[:cut], places[:cut]), scatters(means[cut:], places[cut:])
    within, whole = (recipe.town * a + (1 - recipe.town) * b for a, b in zip(of_town, of_real, strict=True))
    reading = directions(within, whole, config.output_width // 2, recipe.ridge)
    some = tapped(model, cache.read(np.arange(0, cache.count, max(1, cache.count // 64))), frozen)[:, :, 1:]
    constant = -reading @ means.mean(dim=(0, 1))
    lin.weight.zero_()
    for number, tap in enumerate(read):
        part = reading[:, number * width : (number + 1) * width]
        part = (part - part.mean(dim=1, keepdim=True)) / some[:, tap].std(dim=-1).mean()
        lin.weight[:, tap * width : (tap + 1) * width] = torch.cat([part, -part])
    lin.bias.copy_(torch.cat([constant, -constant]))
    centre_features(model, pictures)
