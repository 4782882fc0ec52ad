"""Where the robot may be: poses of its base with a mass each, and one state off the map.

A hypothesis is a pose T_map_base with a covariance. All places without a hypothesis share the mass `rest` evenly;
`off_map` is the mass of being where the map shows nothing. Masses are natural logarithms and add up to one.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree
from scipy.special import expit, log_expit, logit

from d2vpr_ros.localize.params import LocalizerParams

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_NO_MASS = -1e9  # logarithm
_LIGHT = -35.0  # logarithm of a share of the heaviest mass: no digit of an answer hangs on a lighter one
_LEAST_CHANCE = 1e-12  # keeps log-odds finite


@dataclass(frozen=True, eq=False)
class Places:
    """Where a robot would be if one of its cameras saw a place as the map shows it.

    Attributes:
        positions: (N, 3) metres, rotations: (N, 3, 3): T_map_base at each place.
        sigma_m, turn_rad: deviations of where an image was taken from the place that it resembles most.
        reach_m: further from every place the map shows nothing.
        tree: over the poses, in units of these deviations.
    """

    positions: Array
    rotations: Array
    sigma_m: float
    turn_rad: float
    reach_m: float
    tree: cKDTree

    @staticmethod
    def of(positions: Array, rotations: Array, sigma_m: float, turn_rad: float, reach_m: float) -> Places:
        tree = cKDTree(_in_deviations(positions, rotations, sigma_m, turn_rad))
        return Places(positions, rotations, sigma_m, turn_rad, reach_m, tree)

    def nearest(self, positions: Array, rotations: Array, count: int) -> Rows:
        """(A, K) rows of the places nearest to A poses; several headings at one spot are as many places."""
        count = min(count, len(self))
        _, rows = self.tree.query(_in_deviations(positions, rotations, self.sigma_m, self.turn_rad), k=count)
        return np.asarray(rows, np.int64).reshape(-1, count)

    def __len__(self) -> int:
        return len(self.positions)


def _in_deviations(positions: Array, rotations: Array, sigma_m: float, turn_rad: float) -> Array:
    """(N, 12): the distance of two is that of position and turn together, in their deviations."""
    # Matrices of rotations a small angle apart differ by its square root of two.
    return np.hstack([positions / sigma_m, rotations.reshape(-1, 9) / (np.sqrt(2) * turn_rad)])


@dataclass(frozen=True, eq=False)
class Hypotheses:
    """Attributes:
    ids: (A,) int64, each the same for as long as its hypothesis lives.
    positions: (A, 3), rotations: (A, 3, 3), covariances: (A, 6, 6) of T_map_base; over x, y, z and rotations about
        the map's axes, the true rotation being exp(error) times the given one (geometry_msgs/PoseWithCovariance).
    log_mass: (A,).
    mapped: (A,) chance that the map shows what is seen from there: 0 past the end of a mapped street.
    real: (A,) log-likelihood ratio of all images so far: the place itself against one that looks like it.
    images, fit: (A,) how many images speak for it, and their mean z-score, older ones counting less.
    score: (A,) z-score of the newest.
    shared: (A,) mean logarithm of how many inliers images have there; NaN before the first pose by sight.
    """

    ids: Rows
    positions: Array
    rotations: Array
    covariances: Array
    log_mass: Array
    mapped: Array
    real: Array
    images: Array
    fit: Array
    score: Array
    shared: Array

    def __len__(self) -> int:
        return len(self.log_mass)

    def of(self, which: Rows | Mask) -> Hypotheses:
        """Some of them."""
        return Hypotheses(**{one.name: getattr(self, one.name)[which] for one in fields(self)})

    def and_more(self, more: Hypotheses) -> Hypotheses:
        """With others."""
        return Hypotheses(
            **{one.name: np.concatenate([getattr(self, one.name), getattr(more, one.name)]) for one in fields(self)}
        )


NONE = Hypotheses(
    np.empty(0, np.int64), np.empty((0, 3)), np.empty((0, 3, 3)), np.empty((0, 6, 6)), *(np.empty(0) for _ in range(7))
)


@dataclass(frozen=True, eq=False)
class Belief:
    """Attributes:
    of: the hypotheses.
    rest, off_map: log masses of all other places together, and of being off the map.
    prior: chance of being off the map, before anything is seen.
    """

    of: Hypotheses
    rest: float
    off_map: float
    prior: float = 0.5


def nothing_known(off_map_prior: float) -> Belief:
    """Somewhere on the map, or off it."""
    on, off = _log_prior(off_map_prior)
    return Belief(NONE, on, off, off_map_prior)


def normalised(belief: Belief) -> Belief:
    """The same with masses that add up to one."""
    total = float(np.logaddexp.reduce(np.append(belief.of.log_mass, [belief.rest, belief.off_map])))
    of = replace(belief.of, log_mass=belief.of.log_mass - total)
    return replace(belief, of=of, rest=belief.rest - total, off_map=belief.off_map - total)


def anywhere(belief: Belief, hazard: float) -> Belief:
    """So large a share of every mass goes anywhere: onto the map or off it, as the prior has it (change-point hazard).

    With the same chance a hypothesis that was the place itself is so no more, as past the end of a mapped street.
    """
    if hazard <= 0:
        return belief
    on, off = _log_prior(belief.prior)
    stays, goes = float(np.log1p(-hazard)), float(np.log(hazard))
    start = at_start(belief)
    real = (1 - hazard) * expit(belief.of.real + start) + hazard * (1 - belief.prior)
    of = replace(
        belief.of,
        log_mass=belief.of.log_mass + stays,
        real=logit(np.clip(real, _LEAST_CHANCE, 1 - _LEAST_CHANCE)) - start,
    )
    rest = float(np.logaddexp(belief.rest + stays, goes + on))
    return replace(belief, of=of, rest=rest, off_map=float(np.logaddexp(belief.off_map + stays, goes + off)))


def tidied(belief: Belief, places: Places, params: LocalizerParams) -> Belief:
    """One hypothesis for each pose, and no more than there is room for.

    The heavier of two takes the other's mass; that of the lightest goes to the rest.
    """
    of = belief.of.of(np.argsort(-belief.of.log_mass, kind="stable"))
    if not len(of):
        return normalised(belief)
    gaps = of.positions[:, None] - of.positions
    spread = np.trace(of.covariances[:, :3, :3], axis1=1, axis2=2) / 3
    same = np.einsum("abi,abi->ab", gaps, gaps) <= spread[:, None] + spread + (places.sigma_m / 2) ** 2
    cosines = (np.einsum("aij,bij->ab", of.rotations, of.rotations) - 1) / 2
    same &= cosines >= np.cos(2 * places.turn_rad)
    kept, log_mass = np.ones(len(of), bool), of.log_mass.copy()
    for number in np.flatnonzero(np.triu(same, 1).any(axis=1)):
        others = np.flatnonzero(same[number] & kept & (np.arange(len(of)) > number))
        if kept[number] and len(others):
            log_mass[number] = np.logaddexp.reduce(log_mass[[number, *others]])
            kept[others] = False
    heavy = kept & (log_mass >= log_mass.max() + _LIGHT)
    heavy &= np.cumsum(heavy) <= params.hypotheses
    rest = float(np.logaddexp.reduce(np.append(log_mass[kept & ~heavy], belief.rest)))
    return normalised(replace(belief, of=replace(of, log_mass=log_mass).of(heavy), rest=rest))


def unseen(belief: Belief) -> float:
    """What all images say of places without a hypothesis, as `Hypotheses.real`: against off the map and look-alikes.

    After images of elsewhere that is little, however much one of them resembles a place; never is it more than nothing.
    """
    start = at_start(belief)
    alike = belief.of.log_mass + log_expit(-belief.of.real - start)
    elsewhere = float(np.logaddexp.reduce(np.append(alike, belief.off_map)))
    return min(0.0, belief.rest - elsewhere - start)


def at_start(belief: Belief) -> float:
    """Log-odds of being on the map before anything was seen."""
    return float(logit(np.clip(1 - belief.prior, _LEAST_CHANCE, 1 - _LEAST_CHANCE)))


def _log_prior(off_map_prior: float) -> tuple[float, float]:
    """Log masses on the map and off it."""
    with np.errstate(divide="ignore"):
        on, off = np.maximum(np.log([1 - off_map_prior, off_map_prior]), _NO_MASS)
    return float(on), float(off)
