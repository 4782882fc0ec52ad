"""How the belief moves with the robot: by its odometry, or at the speed it seems to have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import chdtr

from d2vpr_ros.geometry import Pose
from d2vpr_ros.localize.belief import Belief, Places
from d2vpr_ros.localize.change_test import run_out

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

_REACHED = 12  # places that one moves to
_HEADING_RAD = 0.35  # deviation between the robot's heading and the place's
_STEADIEST = 0.4  # of a spacing: deviation of a short step; places are not on a grid
FORGOTTEN = 1 / 40  # of a way's history, a spacing moved
_LEAVES, _RETURNS = 0.02, 0.1  # chance to leave the map and to come back onto it, a spacing moved
# Of the way to the place, ahead and aside, a spacing moved: odometry has a scale error, and drifts. How far ahead the
# robot is images tell at once; how far aside only bends do, and along a straight street what they told turns to drift.
_PULLED, _PULLED_ASIDE = 0.6, 0.05
_NEGLIGIBLE = -6.0  # of a step's log weights

# Without odometry:
_SPREAD = 24  # places that one of unknown speed moves to
_ALTERS = 0.3  # chance that a robot alters its speed between two images that count
_UNSTEADY = 0.3  # of a step: deviation of one at a steady speed
_HEEDED = 0.7  # of the way from where the speed leads to the place; the rest is kept as offset
SHORTEST_S = 1e-3  # between two images


@dataclass(frozen=True, eq=False)
class Flows:
    """Where the mass of A states goes: F flows, each from one of them to a place.

    Attributes:
        sources: (F,) the states; targets: (F,) rows of the places.
        log_shares: (F,) logarithms of the shares; each state's add up to about one, negligible ones are left out.
        left: (A,) share that leaves the map first: at least _LEAVES, more where the places run out.
        offsets: (F, 3) metres from each place to where the robot would be.
        speeds: (F, 3) metres a second it would have; NaN where not known.
    """

    sources: Rows
    targets: Rows
    log_shares: Array
    left: Array
    offsets: Array
    speeds: Array


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
    ways = turned @ step.position
    expected = places.positions[belief.rows] + belief.offsets + ways
    gaps, reached = _nearest(places, expected, _REACHED)
    # The angle of the relative rotation from its trace.
    facing = turned @ step.rotation.as_matrix()
    there = places.rotations.reshape(-1, 9).take(reached, axis=0)  # several times as fast as indexing
    trace = (there @ facing.reshape(-1, 9, 1))[:, :, 0]
    angles = np.arccos(np.clip((trace - 1) / 2, -1, 1))
    deviation = np.hypot(places.spacing_m * max(_STEADIEST, np.sqrt(moved)), deviation_m)
    distances = (gaps / deviation) ** 2 + (angles / _HEADING_RAD) ** 2

    shares = _shares(distances)
    source, nth = _worthwhile(shares)
    target = reached[source, nth]
    away = expected.take(source, axis=0) - places.positions.take(target, axis=0)
    along = (ways / np.maximum(np.linalg.norm(ways, axis=1, keepdims=True), 1e-9)).take(source, axis=0)
    ahead = np.einsum("fi,fi->f", away, along)[:, None] * along
    kept = (1 - _PULLED * moved) * ahead + (1 - _PULLED_ASIDE * moved) * (away - ahead)
    offsets = _held(kept, away, _ahead(places, expected, ways, reached).take(source), places.spacing_m)
    unknown = np.full_like(offsets, np.nan)
    flows = Flows(source, target, shares[source, nth], _left(distances, moved), offsets, unknown)
    return _carried(belief, flows, moved)


def coast(belief: Belief, places: Places, seconds: float, top_speed_mps: float) -> Belief:
    """Carry the masses on at the speeds they had; where that is not known, as far as the robot can have come.

    Args:
        seconds: since the last image that counted.
        top_speed_mps: bounds the speed.
    """
    if not len(belief.rows):
        return belief
    seconds = max(seconds, SHORTEST_S)
    here = places.positions[belief.rows] + belief.offsets
    known = np.isfinite(belief.speeds[:, :1])
    ways = np.where(known, belief.speeds, 0.0) * seconds
    gaps, steady = _nearest(places, here + ways, _REACHED)
    steadily = (gaps / np.hypot(_STEADIEST * places.spacing_m, _UNSTEADY * np.linalg.norm(ways, axis=1)[:, None])) ** 2
    apart, anyhow = _nearest(places, here, _SPREAD)
    freely = (apart / (top_speed_mps * seconds + places.spacing_m)) ** 2

    with np.errstate(divide="ignore"):  # who has no speed cannot keep it: log 0
        kept = np.log(np.where(known, 1 - _ALTERS, 0.0)) + _shares(steadily)
        altered = np.log(np.where(known, _ALTERS, 1.0)) + _shares(freely)
    shares = np.concatenate([kept, altered], axis=1)
    source, nth = _worthwhile(shares)
    target = np.concatenate([steady, anyhow], axis=1)[source, nth]
    goes_on = (nth < steady.shape[1])[:, None]
    start, way, there = here[source], ways[source], places.positions[target]
    away = start + way - there
    held = _held((1 - _HEEDED) * away, away, _ahead(places, here + ways, ways, steady)[source], places.spacing_m)
    speeds = np.where(goes_on, way - away + held, there - start) / seconds
    speeds *= np.minimum(1.0, top_speed_mps / np.maximum(np.linalg.norm(speeds, axis=1, keepdims=True), 1e-9))
    offsets = np.where(goes_on, held, 0.0)
    altering = np.where(known[:, 0], _ALTERS, 1.0)
    left = (1 - altering) * _left(steadily, 1.0) + altering * _left(freely, 1.0)
    flows = Flows(source, target, shares[source, nth], left, offsets, speeds)
    return _carried(belief, flows, 1.0)


def _nearest(places: Places, positions: Array, count: int) -> tuple[Array, Rows]:
    """Distances (A, K) and rows (A, K) of the places nearest to positions (A, 3)."""
    count = min(count, len(places))
    gaps, reached = places.tree.query(positions, k=count)
    return gaps.reshape(-1, count), reached.reshape(-1, count)


def _held(kept: Array, away: Array, ahead_m: Array, spacing_m: float) -> Array:
    """(F, 3) metres from the place to the robot after the images had their say: at most a spacing.

    Where the places run out nothing holds the robot back at the last of them, and it goes on as it moved: all of the
    way where the last place is a spacing behind it, none where it is half of that.

    Args:
        kept: (F, 3) what is left of `away`, the way from the place to where the motion leads.
        ahead_m: (F,) of `_ahead`.
    """
    at_place = np.clip(2 + 2 * ahead_m[:, None] / spacing_m, 0.0, 1.0)
    held: Array = at_place * np.clip(kept, -spacing_m, spacing_m) + (1 - at_place) * away
    return held


def _ahead(places: Places, positions: Array, ways: Array, near: Rows) -> Array:
    """(A,) metres that the foremost of the places near (A, 3) positions lies ahead; negative where it lies behind.

    Args:
        ways: (A, 3) how the robot moved there; without a motion nothing is behind it.
        near: (A, K) rows of the places.
    """
    lengths = np.linalg.norm(ways, axis=1)
    directions = ways / np.maximum(lengths, 1e-9)[:, None]
    along = np.einsum("aki,ai->ak", places.positions[near] - positions[:, None], directions)
    return np.where(lengths > 1e-9, along.max(axis=1), 0.0)


def _shares(distances: Array) -> Array:
    """(A, K) squared Mahalanobis distances -> logarithms of the shares that go there."""
    beyond = (distances.min(axis=1, keepdims=True) - distances) / 2
    shares: Array = beyond - np.log(np.exp(beyond).sum(axis=1, keepdims=True))
    return shares


def _worthwhile(shares: Array) -> tuple[Rows, Rows]:
    """(A, K) logarithms of shares -> state and column of those not negligible beside the state's largest."""
    state, column = np.nonzero(shares - shares.max(axis=1, keepdims=True) > _NEGLIGIBLE)
    return state, column


def _left(distances: Array, moved: float) -> Array:
    """(A,) the share that leaves the map: most of it where nothing of the map is near."""
    left: Array = np.clip(chdtr(2, np.maximum(distances.min(axis=1) - 1, 0)) * moved, _LEAVES * moved, 0.99)
    return left


def _carried(belief: Belief, flows: Flows, moved: float) -> Belief:
    """The masses after they flowed.

    Args:
        moved: how far the robot probably came, in spacings, 0 to 1.
    """
    with np.errstate(divide="ignore"):  # standing still nobody leaves: log 0
        leaving = belief.log_mass + np.log(flows.left)
        leaves, returns = np.log(_LEAVES * moved), np.log(_RETURNS * moved)
    source, speed = flows.sources, flows.speeds
    flow = (belief.log_mass + np.log1p(-flows.left))[source] + flows.log_shares

    # Flows to one place side by side.
    order = np.argsort(flows.targets, kind="stable")
    flow, target = flow.take(order), flows.targets.take(order)
    begins = np.diff(target, prepend=-1) > 0
    first, which = np.flatnonzero(begins), np.cumsum(begins) - 1
    strongest = np.maximum.reduceat(flow, first)
    amount = np.exp(flow - strongest.take(which))
    mass = np.add.reduceat(amount, first)
    log_mass = strongest + np.log(mass)
    offsets = np.add.reduceat(amount[:, None] * flows.offsets.take(order, axis=0), first) / mass[:, None]
    greatest = np.flatnonzero(amount == 1)
    best = order[greatest[np.diff(which[greatest], prepend=-1) > 0]]  # one for each place
    remembered = (1 - FORGOTTEN) ** moved

    stays = belief.off_map + np.log1p(-_RETURNS * moved)
    off_map = np.logaddexp.reduce(np.append(leaving, [stays, belief.rest + leaves]))
    rest = np.logaddexp(belief.rest + np.log1p(-_LEAVES * moved), belief.off_map + returns)
    way = source[best]
    chances = run_out(belief.chances[way], (flows.left - _LEAVES * moved).clip(0.0)[way])
    fit, images = belief.fit[way] * remembered, belief.images[way] * remembered
    return Belief(target[first], log_mass, offsets, fit, images, chances, speed[best], float(rest), float(off_map))
