"""The Gaussian-sum filter: motion moves hypotheses, images and fixes weigh them and correct their poses.

Each observation adds its log-likelihood ratio of *at this pose* against *elsewhere, where nothing but chance makes an
image resemble the map*, so that of being off the map the ratio is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from d2vpr_ros.geometry import Pose
from d2vpr_ros.localize.belief import Array, Belief, Hypotheses, Places, Rows, unseen
from d2vpr_ros.localize.params import LocalizerParams

_EXPLAINED = 3.0  # deviations about a hypothesis within which a place begins no other
_TINY = 1e-300  # a chance whose logarithm is finite

Likeness = Callable[[Array], Array]


def moved(of: Hypotheses, motion: Pose, params: LocalizerParams) -> Hypotheses:
    """Moved by odometry: T_before_after of the base."""
    length, turned = float(np.linalg.norm(motion.position)), float(motion.rotation.magnitude())
    steps = of.rotations @ motion.position
    change = np.tile(np.eye(6), (len(of), 1, 1))
    change[:, :3, 3:] = -_crosses(steps)
    position = params.drift * length
    heading = params.drift_turn * turned + np.radians(params.drift_deg) * np.sqrt(length)
    noise = np.diag([position**2] * 3 + [heading**2] * 3)
    return replace(
        of,
        positions=of.positions + steps,
        rotations=of.rotations @ motion.rotation.as_matrix(),
        covariances=change @ of.covariances @ change.transpose(0, 2, 1) + noise,
    )


def drifted(
    of: Hypotheses, velocity: Array, seconds: float, top_speed_mps: float, params: LocalizerParams
) -> Hypotheses:
    """Moved on as before, and spread as far as the motion may have been another: nothing tells it.

    Args:
        velocity: (3,) of the base, in its own frame, metres a second.
        seconds: after many a robot may be anywhere: no more than `longest_s` count.
    """
    seconds = min(seconds, params.longest_s)
    position = params.speed_sigma * top_speed_mps * seconds
    heading = np.radians(min(params.turn_rate_deg * seconds, params.view_turn_deg))
    noise = np.diag([position**2] * 3 + [heading**2] * 3)
    return replace(of, positions=of.positions + of.rotations @ (velocity * seconds), covariances=of.covariances + noise)


@dataclass(frozen=True, eq=False)
class Nearby:
    """The K places about each of A hypotheses.

    Attributes:
        rows: (A, K).
        chances: (A, K) that the robot is at each of them, given that the map shows what it sees.
        mapped: (A,) chance that it does.
    """

    rows: Rows
    chances: Array
    mapped: Array


def nearby(of: Hypotheses, places: Places, params: LocalizerParams) -> Nearby:
    """Which places the robot may be at, by a hypothesis' pose and its covariance."""
    rows = places.nearest(of.positions, of.rotations, params.neighbours)
    gaps = places.positions[rows] - of.positions[:, None]
    spread = of.covariances[:, :3, :3] + places.sigma_m**2 * np.eye(3)
    squared = np.einsum("aki,aij,akj->ak", gaps, np.linalg.inv(spread), gaps)
    turns = _angles(np.einsum("aij,akij->ak", of.rotations, places.rotations[rows]))
    turn_variance = places.turn_rad**2 + np.trace(of.covariances[:, 3:, 3:], axis1=1, axis2=2) / 3
    shown = turns <= np.radians(params.view_turn_deg)
    log_chances = np.where(shown, -(squared + turns**2 / turn_variance[:, None]) / 2, np.log(_TINY))
    log_chances -= np.logaddexp.reduce(log_chances, axis=1, keepdims=True)
    nearest = np.where(shown, np.linalg.norm(gaps, axis=2), np.inf).min(axis=1)
    beyond = 2 * (nearest / places.reach_m - 1).clip(0.0)
    return Nearby(rows, np.exp(log_chances), np.exp(-(beyond**2) / 2))


@dataclass(frozen=True, eq=False)
class Resembles:
    """How much an image resembles the places about each hypothesis: (A, K) z-scores and log-likelihood ratios."""

    near: Nearby
    scores: Array
    log_ratio: Array

    @property
    def weights(self) -> Array:
        """(A, K) logarithms: by the pose and by the image."""
        return np.asarray(np.log(np.maximum(self.near.chances, _TINY)) + self.log_ratio)


def weigh_places(
    of: Hypotheses,
    places: Places,
    seen: Resembles,
    new: float,
    likeness: Likeness,
    params: LocalizerParams,
    *,
    fresh: bool,
    witnessed: bool,
) -> Hypotheses:
    """What an image's descriptor says.

    Where the robot is among places is known no better than places look different, of however many images: their errors
    have one cause, such as a robot that drives a lane aside. So the descriptor corrects a pose only along directions
    in which it is less exact than that.

    Args:
        new: how much of an image it is, 0 to 1; one from the same spot as the last is no independent evidence.
        likeness: z-scores to log-likelihood ratios of the place itself against one that looks like it.
        fresh: it is most like another place than the last image: pictures of nothing differ, and resemble one place.
        witnessed: images are compared with landmarks, too, which tell places that look alike apart.
    """
    weights, every = seen.weights, np.arange(len(of))
    shown = np.logaddexp.reduce(weights, axis=1)
    log_mapped = np.log(np.maximum(seen.near.mapped, _TINY))
    beyond = np.logaddexp(np.log1p(-params.goes_on), np.log(params.goes_on) + shown)
    together = np.logaddexp(log_mapped + shown, np.log(np.maximum(1 - seen.near.mapped, _TINY)) + beyond)
    best = np.argmax(weights, axis=1)
    score = seen.scores[every, best]
    kept = (1 - params.forgets) ** new * of.images
    told = likeness(score) * seen.near.mapped
    if not (fresh or witnessed):
        told = np.minimum(told, 0.0)
    weighed = replace(
        of,
        log_mass=of.log_mass + new * together,
        mapped=np.exp(log_mapped + shown - together),
        real=of.real + tempered(told, of.real, new, params.repeats_witnessed if witnessed else params.repeats),
        images=kept + new,
        fit=(kept * of.fit + new * score) / np.maximum(kept + new, _TINY),
        score=score,
    )
    shares = np.exp(weights - shown[:, None])
    towards = np.einsum("ak,aki->ai", shares, places.positions[seen.near.rows]) - of.positions
    turns = places.rotations[seen.near.rows[every, best]] @ of.rotations.transpose(0, 2, 1)
    placed = _drawn(weighed, towards, slice(0, 3), places.sigma_m)
    return _drawn(placed, Rotation.from_matrix(turns).as_rotvec(), slice(3, 6), places.turn_rad)


def tempered(ratio: Array, so_far: Array, new: float, repeats: float) -> Array:
    """What another image adds to log-odds: places that look alike do so over stretches, so powers add up, not ratios.

    With 2, many alike images count as the root of their number. One that speaks against the place counts in full: the
    robot may just have left it.

    Args:
        so_far: what earlier images added.
        repeats: the power.
    """
    before, more = np.maximum(so_far, 0.0), np.maximum(ratio, 0.0)
    together = (before**repeats + new * more**repeats) ** (1 / repeats)
    return np.asarray(np.where(ratio > 0, together - before, new * ratio))


@dataclass(frozen=True, eq=False)
class Candidates:
    """The C places most like an image, best first.

    Attributes:
        rows, scores: of the map, and their z-scores.
        log_ratio: log-likelihood ratios of descriptor and GPS.
        others: that of every other place.
    """

    rows: Rows
    scores: Array
    log_ratio: Array
    others: float


def begin(
    belief: Belief,
    places: Places,
    seen: Candidates,
    new: float,
    first_id: int,
    likeness: Likeness,
    params: LocalizerParams,
) -> Belief:
    """Begin hypotheses at the places that an image resembles and that none explains; the rest shares what is left.

    Args:
        first_id: of those that begin.
    """
    of, at, facing = belief.of, places.positions[seen.rows], places.rotations[seen.rows]
    least_cosine = np.cos(np.radians(params.view_turn_deg))
    free = np.ones(len(seen.rows), bool)
    if len(of):
        spread = np.linalg.inv(of.covariances[:, :3, :3] + places.sigma_m**2 * np.eye(3))
        gaps = at - of.positions[:, None]
        squared = ((gaps @ spread) * gaps).sum(axis=2)
        cosines = (of.rotations.reshape(-1, 9) @ facing.reshape(-1, 9).T - 1) / 2
        near = (squared <= _EXPLAINED**2) & (cosines >= least_cosine)
        # A hypothesis that is next to nothing explains nothing: a robot may have been carried there.
        heavier = of.log_mass[:, None] >= belief.rest - np.log(len(places)) + new * seen.log_ratio
        free = ~(near & heavier).any(axis=0)
    alike = cdist(at, at) <= _EXPLAINED * places.sigma_m
    alike &= (facing.reshape(-1, 9) @ facing.reshape(-1, 9).T - 1) / 2 >= least_cosine
    begun: list[int] = []
    of_birth = np.full(len(free), params.births)
    while free.any() and len(begun) < params.births:
        best = int(np.argmax(free))
        near = free & alike[best]
        of_birth[near] = len(begun)
        begun.append(best)
        free &= ~near
    a_place = belief.rest - float(np.log(len(places)))
    explained = int((~free).sum())
    left = float(np.log(max(len(places) - explained, 0.5) / len(places)))
    rest = belief.rest + left + new * seen.others
    if not begun:
        return replace(belief, rest=rest)
    order = np.argsort(of_birth, kind="stable")
    firsts = np.searchsorted(of_birth[order], np.arange(len(begun) + 1))
    ratios = np.append(new * seen.log_ratio[order], -np.inf)  # so that a last group may be empty
    log_mass = np.logaddexp.reduceat(ratios, firsts)[: len(begun)]
    fresh = Hypotheses(
        ids=first_id + np.arange(len(begun)),
        positions=at[begun],
        rotations=facing[begun],
        covariances=np.tile(np.diag([places.sigma_m**2] * 3 + [places.turn_rad**2] * 3), (len(begun), 1, 1)),
        log_mass=a_place + log_mass,
        mapped=np.ones(len(begun)),
        real=unseen(belief) + new * likeness(seen.scores[begun]),
        images=np.full(len(begun), new),
        fit=seen.scores[begun],
        score=seen.scores[begun],
        shared=np.full(len(begun), np.nan),
    )
    return replace(belief, of=of.and_more(fresh), rest=rest)


def _drawn(of: Hypotheses, towards: Array, part: slice, sigma: float) -> Hypotheses:
    """Positions or rotations (a part of the state) drawn towards what was observed of them with a deviation of sigma.

    Only along directions less exact than that, down to sigma: the error of the observation is the same each time.
    """
    seen = of.covariances[:, part, part]
    values, axes = np.linalg.eigh(seen)
    information = np.where(values > sigma**2, 1 / sigma**2 - 1 / np.maximum(values, sigma**2), 0.0)
    observed = (axes * information[:, None]) @ axes.transpose(0, 2, 1)
    gain = of.covariances[:, :, part] @ observed @ np.linalg.inv(np.eye(3) + seen @ observed)
    change = np.einsum("aij,aj->ai", gain, towards)
    return changed(of, change, of.covariances - gain @ of.covariances[:, part])


def changed(of: Hypotheses, change: Array, covariances: Array) -> Hypotheses:
    turned = Rotation.from_rotvec(change[:, 3:]).as_matrix() @ of.rotations
    symmetric = (covariances + covariances.transpose(0, 2, 1)) / 2
    return replace(of, positions=of.positions + change[:, :3], rotations=turned, covariances=symmetric)


def _angles(traces: Array) -> Array:
    """Angles of rotations from their traces."""
    return np.asarray(np.arccos(np.clip((traces - 1) / 2, -1, 1)))


def _crosses(vectors: Array) -> Array:
    """(A, 3, 3) matrices of the cross products with (A, 3) vectors."""
    x, y, z = vectors.T
    zero = np.zeros(len(vectors))
    return np.asarray(np.array([[zero, -z, y], [z, zero, -x], [-y, x, zero]]).transpose(2, 0, 1), np.float64)
