"""What an image does to the belief: raises the places it resembles; and what a fix does: lowers those far from it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from d2vpr_ros.localize.belief import Belief, Places, normalised
from d2vpr_ros.localize.change_test import follow, unknown
from d2vpr_ros.localize.gps import log_likelihood
from d2vpr_ros.localize.likelihood import Likelihood
from d2vpr_ros.mapping.restriction import Region

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

_ACTIVE = 256  # places with a mass of their own; 400 find nothing sooner, and cost more
_LIGHT = 1e-15  # of the heaviest state's mass: no digit of an answer hangs on a lighter one
_HEARD = 1.5  # spacings that a candidate speaks for
_OFF_CENTRE = 0.25  # standard deviations of similarity lost a spacing off


@dataclass(frozen=True, eq=False)
class Evidence:
    """What one image, and the fix at its time, say about the states of a belief.

    Attributes:
        belief: with a state for every place that the image resembles.
        log_ratio: (A,) log likelihood ratio of each state against being off the map; others: of any other place.
        similar: (A,) standardised similarity that each state got.
        scale: of the map's likelihood; by_odometry, unmoved: as `change_test.follow` has them.
    """

    belief: Belief
    log_ratio: Array
    others: float
    similar: Array
    scale: float
    by_odometry: bool
    unmoved: float = 0.0


def look(
    belief: Belief,
    places: Places,
    candidates: Rows,
    scores: Array,
    likelihood: Likelihood,
    shared: bool,
    fix: Region | None = None,
    *,
    by_odometry: bool = False,
    unmoved: float = 0.0,
) -> Evidence:
    """What an image says.

    Args:
        candidates: (C,) rows of the places most like the image, and their standardised similarities `scores` (C,).
        shared: whether a state also takes candidates near where its robot is, not only its own place.
        by_odometry, unmoved: as `change_test.follow` has them.
        fix: where a receiver says the robot is. It says nothing of the places that share the rest: they lie about it
            as well as elsewhere.
    """
    wide = _widened(belief, len(places), candidates)
    similar = _similar(places, wide.rows, wide.offsets, candidates, scores, shared)
    others = float(likelihood.log_ratio(np.zeros(())))
    log_ratio: Array = np.full(len(similar), others)
    heard = similar != 0  # most states are near no candidate
    log_ratio[heard] = likelihood.log_ratio(similar[heard])
    if fix is not None:
        log_ratio = log_ratio + log_likelihood(fix, places.positions[wide.rows] + wide.offsets)
    return Evidence(wide, log_ratio, others, similar, likelihood.scale, by_odometry, unmoved)


def without_image(belief: Belief, places: Places, fix: Region) -> Evidence:
    """What a fix says about which there are no places: all are as far off as they are, none resembles anything."""
    of_states = log_likelihood(fix, places.positions[belief.rows] + belief.offsets)
    nearest = float(log_likelihood(fix, places.positions).max())
    return Evidence(belief, of_states, nearest, np.zeros(len(belief.rows)), 0.0, True)


def weigh(evidence: Evidence, weight: float, new: float) -> Belief:
    """The belief after the image.

    Args:
        weight: of the image as evidence, since consecutive images are not independent.
        new: how much of an image this is for the history, 0 to 1.
    """
    before = evidence.belief
    after = replace(
        before,
        log_mass=before.log_mass + weight * evidence.log_ratio,
        fit=before.fit + new * evidence.similar,
        images=before.images + new,
        chances=follow(
            before.chances,
            evidence.similar,
            evidence.scale,
            new,
            by_odometry=evidence.by_odometry,
            unmoved=evidence.unmoved,
        ),
        rest=float(before.rest + weight * evidence.others),
    )
    return normalised(_pruned(after))


def _widened(belief: Belief, count: int, candidates: Rows) -> Belief:
    """With a state for each of the candidates, out of the rest."""
    own, rest = belief.log_mass, belief.rest
    each = rest - np.log(max(1, count - len(belief.rows)))
    if len(own) == count:  # nobody else is left to have the rest
        own, each = np.logaddexp(own, rest - np.log(count)), -np.inf
    known = np.zeros(count, bool)
    known[belief.rows] = True
    added = np.unique(candidates[~known[candidates]])
    others = count - len(belief.rows) - len(added)
    fit, images = (np.concatenate([history, np.zeros(len(added))]) for history in (belief.fit, belief.images))
    return Belief(
        np.concatenate([belief.rows, added]),
        np.concatenate([own, np.full(len(added), each)]),
        np.concatenate([belief.offsets, np.zeros((len(added), 3))]),
        fit,
        images,
        np.concatenate([belief.chances, unknown(len(added))]),
        np.concatenate([belief.speeds, np.full((len(added), 3), np.nan)]),
        float(each + np.log(others)) if others > 0 else -np.inf,
        belief.off_map,
    )


def _similar(places: Places, rows: Rows, offsets: Array, candidates: Rows, scores: Array, shared: bool) -> Array:
    """(A,) standardised similarity of the image to each state; 0, as at an ordinary place, where no candidate is near.

    A candidate speaks for robots around it, the less the further off: that keeps a state's offset where images say.
    """
    if not shared:
        own = rows[:, None] == candidates[None]
        return np.where(own, scores[None], 0.0).max(axis=1)
    robots, speaking = places.positions[rows] + offsets, places.positions[candidates]
    reach_m = _HEARD * places.spacing_m * (1 + 1e-9)
    listening = cKDTree(robots, balanced_tree=False, compact_nodes=False)  # for one search no other pays
    near = cKDTree(speaking).sparse_distance_matrix(listening, reach_m, output_type="ndarray")
    heard = np.zeros(len(rows))
    np.maximum.at(heard, near["j"], scores[near["i"]] - _OFF_CENTRE * (near["v"] / places.spacing_m) ** 2)
    return heard


def without_light(belief: Belief) -> Belief:
    """Without the states that are nothing beside the heaviest: most of them, once the robot is almost surely known.

    Carrying a state along takes its time, whatever it weighs. The place of one without stays in the rest, out of which
    every image that resembles the place takes it again.
    """
    heaviest = belief.log_mass.max(initial=-np.inf)
    return _keeping(belief, belief.log_mass > heaviest + np.log(_LIGHT))


def _pruned(belief: Belief) -> Belief:
    """The heaviest states keep a mass of their own, the others join the rest."""
    if len(belief.rows) <= _ACTIVE:
        return belief
    kept = np.ones(len(belief.rows), bool)
    kept[np.argpartition(-belief.log_mass, _ACTIVE)[_ACTIVE:]] = False
    return _keeping(belief, kept)


def _keeping(belief: Belief, kept: npt.NDArray[np.bool_]) -> Belief:
    """The states that are (A,) `kept`; the others join the rest."""
    if kept.all():
        return belief
    which = np.flatnonzero(kept)  # taking by numbers is several times as fast
    return Belief(
        belief.rows.take(which),
        belief.log_mass.take(which),
        belief.offsets.take(which, axis=0),
        belief.fit.take(which),
        belief.images.take(which),
        belief.chances.take(which, axis=0),
        belief.speeds.take(which, axis=0),
        float(np.logaddexp(belief.rest, np.logaddexp.reduce(belief.log_mass[~kept]))),
        belief.off_map,
    )
