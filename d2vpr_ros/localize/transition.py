"""How the belief moves with the robot: by its odometry, or as far as it can have come."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp
from scipy.stats import chi2

from d2vpr_ros.geometry import Pose
from d2vpr_ros.localize.belief import Belief, Places

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

_REACHED = 12  # places that one moves to
_HEADING_RAD = 0.35  # deviation between the robot's heading and the place's
_STEADIEST = 0.4  # of a spacing: deviation of a short step; places are not on a grid
_FORGOTTEN = 1 / 40  # of a way's history, a spacing moved
_LEAVES, _RETURNS = 0.02, 0.1  # chance to leave the map and to come back onto it, a spacing moved
_PULLED = 0.6  # of the way to the place, along the motion, a spacing moved: odometry has a scale error, and drifts
_NEGLIGIBLE = -6.0  # of a step's log weights


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
    ways = turned @ step.position
    along = ways / np.maximum(np.linalg.norm(ways, axis=1, keepdims=True), 1e-9)
    return _carried(belief, places, reached, distances, moved, expected, along * np.sqrt(_PULLED * moved))


def spread_out(belief: Belief, places: Places, reach_m: float, moved: float) -> Belief:
    """Carry the masses along a motion of which only the reach is known, in any direction.

    Args:
        reach_m: how far the robot may have come.
        moved: how much of a spacing it probably was, 0 to 1.
    """
    if not len(belief.rows):
        return belief
    gaps, reached = _nearest(places, places.positions[belief.rows])
    return _carried(belief, places, reached, (gaps / (reach_m + places.spacing_m)) ** 2, moved)


def _nearest(places: Places, positions: Array) -> tuple[Array, Rows]:
    """Distances (A, K) and rows (A, K) of the places nearest to positions (A, 3)."""
    count = min(_REACHED, len(places))
    gaps, reached = places.tree.query(positions, k=count)
    return gaps.reshape(-1, count), reached.reshape(-1, count)


def _carried(
    belief: Belief,
    places: Places,
    reached: Rows,
    distances: Array,
    moved: float,
    expected: Array | None = None,
    pulled: Array | None = None,
) -> Belief:
    """Masses flow from each state to the places it reached.

    Args:
        reached, distances: (A, K) places and squared Mahalanobis distances to them.
        expected: (A, 3) where each state's robot is by the odometry; None if that is not known.
        pulled: (A, 3) direction in which a robot is pulled to the place it flows to; its squared length is the share.
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
    if expected is not None and pulled is not None:
        share, away = np.exp(flow - log_mass[which]), expected[source] - places.positions[target]
        away -= (away * pulled[source]).sum(axis=1, keepdims=True) * pulled[source]
        np.add.at(offsets, which, share[:, None] * away)
        offsets = np.clip(offsets, -places.spacing_m, places.spacing_m)
    order = np.lexsort((-flow, which))
    best = source[order[np.unique(which[order], return_index=True)[1]]]
    remembered = (1 - _FORGOTTEN) ** moved

    off_map = logsumexp([belief.off_map + np.log1p(-_RETURNS * moved), *leaving, belief.rest + leaves])
    rest = np.logaddexp(belief.rest + np.log1p(-_LEAVES * moved), belief.off_map + returns)
    fit, images = belief.fit[best] * remembered, belief.images[best] * remembered
    return Belief(rows, log_mass, offsets, fit, images, float(rest), float(off_map))
