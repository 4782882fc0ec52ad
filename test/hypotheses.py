"""A street, hypotheses of where a robot is in it, and images whose z-scores are given: for tests of the filter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from places import straight_street

from d2vpr_ros.geometry import Pose
from d2vpr_ros.localize.belief import Belief, Hypotheses, Places, anywhere, nothing_known, tidied
from d2vpr_ros.localize.evidence import Likelihood
from d2vpr_ros.localize.filter import Candidates, Resembles, begin, moved, nearby, weigh_places
from d2vpr_ros.localize.params import DEFAULT_PARAMS
from d2vpr_ros.localize.proving import Proof

Array = npt.NDArray[np.float64]

LIKELIHOOD = Likelihood(3.0)
SIGMA_M, TURN_RAD = 0.5, 0.2
EVEN = 0.5


def places_at(poses: Sequence[Pose], reach_m: float = 1.5) -> Places:
    positions = np.array([pose.position for pose in poses])
    rotations = np.array([pose.rotation.as_matrix() for pose in poses])
    return Places.of(positions, rotations, SIGMA_M, TURN_RAD, reach_m)


STREET = places_at(straight_street(60))


def likeness(scores: Array) -> Array:
    return np.clip(scores - 3.0, -2.0, 2.0)


def hypotheses_at(*poses: Pose, position: float = SIGMA_M, heading: float = TURN_RAD, mass: float = 1.0) -> Hypotheses:
    """Of equal masses that add up to `mass`, with these deviations."""
    number = len(poses)
    return Hypotheses(
        np.arange(number),
        np.array([pose.position for pose in poses]),
        np.array([pose.rotation.as_matrix() for pose in poses]),
        np.tile(np.diag([position**2] * 3 + [heading**2] * 3), (number, 1, 1)),
        np.full(number, np.log(mass / number)),
        np.ones(number),
        np.zeros(number),
        np.ones(number),
        np.full(number, 4.0),
        np.full(number, 4.0),
        np.full(number, np.nan),
    )


def resembling(of: Hypotheses, score_of: Callable[[npt.NDArray[np.int64]], Array], places: Places) -> Resembles:
    near = nearby(of, places, DEFAULT_PARAMS)
    scores = score_of(near.rows)
    return Resembles(near, scores, LIKELIHOOD.log_ratio(scores))


def seen(
    belief: Belief, scores: dict[int, float], places: Places = STREET, new: float = 1.0, first_id: int = 0
) -> Belief:
    """After an image with these z-scores at places, and 0 at all others."""
    params = DEFAULT_PARAMS
    of = belief.of
    if len(of):
        near = resembling(of, np.vectorize(lambda row: scores.get(int(row), 0.0), otypes=[float]), places)
        of = weigh_places(of, places, near, new, likeness, params, fresh=True, witnessed=True)
    rows = np.array(sorted(scores, key=lambda row: -scores[row]), np.int64)
    given_scores = np.array([scores[row] for row in rows.tolist()])
    others = float(LIKELIHOOD.log_ratio(np.zeros(())))
    candidates = Candidates(rows, given_scores, LIKELIHOOD.log_ratio(given_scores), others)
    belief = begin(replace(belief, of=of), places, candidates, new, first_id, likeness, params)
    return tidied(belief, places, params)


def drive(rows: Sequence[int], places: Places = STREET, score: float = 4.0) -> Belief:
    """A place a metre: the odometry says so, and each image resembles its place and, less, those beside it."""
    belief = nothing_known(EVEN)
    for number, row in enumerate(rows):
        if number:
            belief = replace(belief, of=moved(belief.of, Pose.planar(1.0, 0.0, 0.0), DEFAULT_PARAMS))
            belief = anywhere(belief, DEFAULT_PARAMS.hazard)
        scores = {row: score} | {side: score / 2 for side in (row - 1, row + 1) if 0 <= side < len(places)}
        belief = seen(belief, scores, places, first_id=100 * number)
    return belief


def total(belief: Belief) -> float:
    return float(np.exp(belief.of.log_mass).sum() + np.exp(belief.rest) + np.exp(belief.off_map))


def best(belief: Belief) -> Array:
    return belief.of.positions[int(np.argmax(belief.of.log_mass))]


def mass_about(belief: Belief, x: float, within_m: float = 2.0) -> float:
    near = np.abs(belief.of.positions[:, 0] - x) <= within_m
    return float(np.exp(belief.of.log_mass[near]).sum())


def proof_at(pose: Pose, sigma_m: float = 0.1, log_ratio: float = 6.0) -> Proof:
    return Proof(log_ratio, DEFAULT_PARAMS.absent_ratio, pose, np.diag([sigma_m**2] * 3 + [0.01**2] * 3))
