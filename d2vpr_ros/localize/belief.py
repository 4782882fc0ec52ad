"""Where the robot may be: a discrete Bayes filter over the map's places and one state off the map.

A place's state means that the robot's base stands near that place and faces about as the place did. Each image
multiplies the mass of every place by how likely such an image is there (`likelihood`), each motion moves the mass
along (as in topometric localization, arXiv 2107.07707). Three things keep it small and exact enough:

- Only the few hundred places that matter have a mass of their own; all others share the rest evenly.
- A state carries its offset: how far from the place the robot is, by the odometry. Steps shorter than the places are
  apart would be lost otherwise.
- A state carries the history of its best way: over how many images, and how well they fitted. That is what tells a
  look-alike street from the right one when both have some mass.

Everything is in log space and normalised after each image, so nothing underflows however long it runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree
from scipy.special import logsumexp
from scipy.stats import chi2

from d2vpr_ros.geometry import Pose

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

_ACTIVE = 400  # places with a mass of their own
_REACHED = 12  # places that one moves to
_HEADING_RAD = 0.35  # deviation between the robot's heading and the place's
_STEADIEST = 0.4  # of a spacing: deviation of a short step; places are not on a grid
_FORGOTTEN = 1 / 40  # of a way's history, a spacing moved
_LEAVES, _RETURNS = 0.02, 0.1  # chance to leave the map and to come back onto it, a spacing moved
_NEGLIGIBLE = -6.0  # of a step's log weights


@dataclass(frozen=True, eq=False)
class Places:
    """Where the map's places are.

    Attributes:
        positions: (N, 3) metres, rotations: (N, 3, 3): T_map_base at each place.
        spacing_m: metres between neighbours.
        tree: over the positions.
    """

    positions: Array
    rotations: Array
    spacing_m: float
    tree: cKDTree

    @staticmethod
    def of(positions: Array, rotations: Array, spacing_m: float) -> Places:
        return Places(positions, rotations, spacing_m, cKDTree(positions))

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True, eq=False)
class Belief:
    """Masses after an image; all of them and `rest` and `off_map` add up to one.

    Attributes:
        rows: (A,) the places with a mass of their own.
        log_mass: (A,) natural logarithms of their masses.
        offsets: (A, 3) metres in the map, from the place to where the robot would be.
        fit: (A,) summed standardised similarity along each state's best way, older images counting less.
        images: (A,) the number of images it is the sum of.
        rest: log mass of all other places together.
        off_map: log mass of being somewhere else.
    """

    rows: Rows
    log_mass: Array
    offsets: Array
    fit: Array
    images: Array
    rest: float
    off_map: float

    @staticmethod
    def nothing_known() -> Belief:
        """Half on the map, anywhere; half off it."""
        nothing = np.empty(0)
        return Belief(np.empty(0, np.int64), nothing, np.empty((0, 3)), nothing, nothing, np.log(0.5), np.log(0.5))

    @property
    def mean_fit(self) -> Array:
        """(A,) mean standardised similarity of the images along each state's way."""
        return self.fit / np.maximum(self.images, 1.0)


def move(belief: Belief, places: Places, step: Pose, moved: float, deviation_m: float = 0.0) -> Belief:
    """Carry the masses along a motion the odometry knows.

    Args:
        step: T_baseThen_baseNow.
        moved: how far that is in spacings (a turn counts, too), 0 to 1.
        deviation_m: standard deviation of the odometry over the step.
    """
    if not len(belief.rows):
        return belief
    turned = places.rotations[belief.rows]
    expected = places.positions[belief.rows] + belief.offsets + turned @ step.position
    gaps, reached = _nearest(places, expected)
    # The angle of the relative rotation from its trace.
    facing = turned @ step.rotation.as_matrix()
    trace = np.einsum("aij,akij->ak", facing, places.rotations[reached])
    angles = np.arccos(np.clip((trace - 1) / 2, -1, 1))
    deviation = np.hypot(places.spacing_m * max(_STEADIEST, np.sqrt(moved)), deviation_m)
    distances = (gaps / deviation) ** 2 + (angles / _HEADING_RAD) ** 2
    return _carried(belief, places, reached, distances, moved, expected)


def spread_out(belief: Belief, places: Places, reach_m: float, moved: float) -> Belief:
    """Carry the masses along a motion of which only the reach is known, in any direction.

    Args:
        reach_m: how far the robot may have come.
        moved: how much of a spacing it probably was, 0 to 1.
    """
    if not len(belief.rows):
        return belief
    gaps, reached = _nearest(places, places.positions[belief.rows])
    return _carried(belief, places, reached, (gaps / (reach_m + places.spacing_m)) ** 2, moved, None)


def _nearest(places: Places, positions: Array) -> tuple[Array, Rows]:
    """Distances (A, K) and rows (A, K) of the places nearest to positions (A, 3)."""
    count = min(_REACHED, len(places))
    gaps, reached = places.tree.query(positions, k=count)
    return gaps.reshape(-1, count), reached.reshape(-1, count)


def _carried(
    belief: Belief, places: Places, reached: Rows, distances: Array, moved: float, expected: Array | None
) -> Belief:
    """Masses flow from each state to the places it reached.

    Args:
        reached, distances: (A, K) places and squared Mahalanobis distances to them.
        expected: (A, 3) where each state's robot is by the odometry; None if that is not known.
    """
    weights = -distances / 2
    # Where nothing of the map is near, the robot has left it.
    left = np.clip(chi2.cdf(np.maximum(distances.min(axis=1) - 1, 0), 2) * moved, _LEAVES * moved, 0.99)
    with np.errstate(divide="ignore"):  # standing still nobody leaves: log 0
        leaving = belief.log_mass + np.log(left)
        leaves, returns = np.log(_LEAVES * moved), np.log(_RETURNS * moved)
    flows = belief.log_mass[:, None] + np.log1p(-left)[:, None] + weights - logsumexp(weights, axis=1, keepdims=True)
    kept = weights - weights.max(axis=1, keepdims=True) > _NEGLIGIBLE
    source = np.broadcast_to(np.arange(len(belief.rows))[:, None], reached.shape)[kept]
    target, flow = reached[kept], flows[kept]

    rows, which = np.unique(target, return_inverse=True)
    largest = np.full(len(rows), -np.inf)
    np.maximum.at(largest, which, flow)
    total = np.zeros(len(rows))
    np.add.at(total, which, np.exp(flow - largest[which]))
    log_mass = largest + np.log(total)
    offsets: Array = np.zeros((len(rows), 3))
    if expected is not None:
        share = np.exp(flow - log_mass[which])
        np.add.at(offsets, which, share[:, None] * (expected[source] - places.positions[target]))
        offsets = np.clip(offsets, -places.spacing_m, places.spacing_m)
    order = np.lexsort((-flow, which))
    best = source[order[np.unique(which[order], return_index=True)[1]]]
    remembered = (1 - _FORGOTTEN) ** moved

    off_map = logsumexp([belief.off_map + np.log1p(-_RETURNS * moved), *leaving, belief.rest + leaves])
    rest = np.logaddexp(belief.rest + np.log1p(-_LEAVES * moved), belief.off_map + returns)
    fit, images = belief.fit[best] * remembered, belief.images[best] * remembered
    return Belief(rows, log_mass, offsets, fit, images, float(rest), float(off_map))


def measure(
    belief: Belief,
    places: Places,
    candidates: Rows,
    scores: Array,
    log_ratio: tuple[Array, float],
    weight: float,
    new: float,
    shared: bool,
) -> Belief:
    """Multiply by the likelihood of an image.

    Args:
        candidates: (C,) rows of the places most like the image, and their standardised similarities `scores` (C,).
        log_ratio: log likelihood ratios against being off the map: of the candidates (C,), and of any other place.
        weight: of the image as evidence, since consecutive images are not independent.
        new: how much of an image this is for the history, 0 to 1.
        shared: whether a state takes the best candidate within a spacing of where its robot is, not only its own.
    """
    count, own, rest = len(places), belief.log_mass, belief.rest
    each = rest - np.log(max(1, count - len(belief.rows)))
    if len(own) == count:  # nobody else is left to have the rest
        own, each = np.logaddexp(own, rest - np.log(count)), -np.inf
    added = np.setdiff1d(candidates, belief.rows)
    rows = np.concatenate([belief.rows, added])
    log_mass = np.concatenate([own, np.full(len(added), each)])
    offsets = np.concatenate([belief.offsets, np.zeros((len(added), 3))])
    fit, images = (np.concatenate([known, np.zeros(len(added))]) for known in (belief.fit, belief.images))
    others = count - len(rows)
    rest = each + np.log(others) if others > 0 else -np.inf

    seen = _seen_by(places, rows, offsets, candidates, scores, shared)
    gained = np.where(seen >= 0, log_ratio[0][seen], log_ratio[1])
    similar = np.where(seen >= 0, scores[seen], 0.0)
    measured = Belief(
        rows,
        log_mass + weight * gained,
        offsets,
        fit + new * similar,
        images + new,
        float(rest + weight * log_ratio[1]),
        belief.off_map,
    )
    return normalised(_pruned(measured))


def _seen_by(
    places: Places, rows: Rows, offsets: Array, candidates: Rows, scores: Array, shared: bool
) -> npt.NDArray[np.int64]:
    """(A,) number of the candidate that speaks for each state, -1 where none does."""
    if shared:
        robot = places.positions[rows] + offsets
        squared = ((robot[:, None] - places.positions[candidates][None]) ** 2).sum(axis=2)
        speaks = (squared <= places.spacing_m**2) | (rows[:, None] == candidates[None])
    else:
        speaks = rows[:, None] == candidates[None]
    best = np.where(speaks, scores[None], -np.inf).argmax(axis=1)
    return np.where(speaks.any(axis=1), best, -1)


def _pruned(belief: Belief) -> Belief:
    """The heaviest states keep a mass of their own, the others join the rest."""
    if len(belief.rows) <= _ACTIVE:
        return belief
    order = np.argpartition(-belief.log_mass, _ACTIVE)
    kept, dropped = order[:_ACTIVE], order[_ACTIVE:]
    return Belief(
        belief.rows[kept],
        belief.log_mass[kept],
        belief.offsets[kept],
        belief.fit[kept],
        belief.images[kept],
        float(np.logaddexp(belief.rest, logsumexp(belief.log_mass[dropped]))),
        belief.off_map,
    )


def normalised(belief: Belief) -> Belief:
    total = logsumexp([*belief.log_mass, belief.rest, belief.off_map])
    return replace(
        belief,
        log_mass=belief.log_mass - total,
        rest=float(belief.rest - total),
        off_map=float(belief.off_map - total),
    )
