"""Find how two maps lie to each other, from places that look alike: for drives whose poses share no frame.

Two places that look alike and best to each other are a guess at the whole transform: if the cameras stood on one spot,
then T_map_other = T_map_camera @ T_other_camera^-1. Most guesses may be wrong, but wrong ones disagree with each other:
the guess that most other matches confirm is refined on those. Because a false answer ruins a map, it has to be
confirmed along a way, by most of what the maps share, and without a rival; else there is no answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import Pose, distance, turn
from d2vpr_ros.mapping.index import Index
from d2vpr_ros.mapping.matches import WITHIN_DEG, WITHIN_SPACINGS, Matches, mutual_matches
from d2vpr_ros.mapping.place_map import PlaceMap

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

LEAST_MATCHES = 15
"""Between different places (simulated towns, real streets and a room, nano) at most 5 of up to 128 matches agreed,
between drives through one of them 19 or more."""
LEAST_WAY_SPACINGS = 30.0
"""Way along which confirming matches lie; a look-alike corner is shorter."""
LEAST_AGREEING = 0.4
"""Share of the matches of places that both maps have, as the transform says, which confirm it."""
MOST_RIVAL = 0.5
"""Share of the confirming places that may look like where another transform puts them, too."""

_LEVER = np.tan(np.radians(5.0))  # a single pair may be turned by this: its error grows with the distance from it
_SEEDS = 300
_REFINED = 12
_RIVAL_PLACES = 300
_RIVAL_NEIGHBOURS = 10
_RIVAL_ALIKE = 0.7  # as much as the best one stands out from the map's places in general, a rival's has to
_TURN_WEIGHT_DEG = 10.0  # counts like one spacing


@dataclass(frozen=True, eq=False)
class Alignment:
    """How another map lies in a map.

    Attributes:
        transform: T_map_other.
        matches: pairs of places that look most alike, each to the other.
        pairs: (K, 2) rows of the map and of the other one: the matches that confirm it.
        off_m, off_deg: (K,) what is left between each pair.
        agreeing: share of the matches in what both maps show that confirm it.
        way_m: how much way the confirming places cover.
        rival: share of the places in `pairs` that look like where another transform puts them, too; near 1 where the
        map shows the same twice.
    """

    transform: Pose
    matches: int
    pairs: Rows
    off_m: Array
    off_deg: Array
    agreeing: float
    way_m: float
    rival: float

    def __str__(self) -> str:
        off = (np.percentile(values, share) for values in (self.off_m, self.off_deg) for share in (50, 95))
        metres, metres_95, degrees, degrees_95 = off
        return (
            f"{len(self.pairs)} of {self.matches} place matches agree, along {self.way_m:.0f} m, "
            f"{self.agreeing:.0%} of those in the common part; off by {metres:.2f} m and {degrees:.1f} deg (median), "
            f"{metres_95:.2f} m and {degrees_95:.1f} deg (95 %)"
        )


def align(place_map: PlaceMap, other: PlaceMap) -> Alignment:
    """How `other` lies in `place_map`.

    Raises:
        UserError: they do not look enough like the same place to be sure.
    """
    alignment = estimate(place_map, other)
    reason = doubt(alignment, max(place_map.spacing_m, other.spacing_m))
    if reason:
        found = f" ({alignment})" if alignment else ""
        raise UserError(
            f"{other.path} cannot be aligned with {place_map.path}: {reason}{found}; drive more of the mapped route in "
            "similar light, or give --transform"
        )
    assert alignment is not None
    return alignment


def doubt(alignment: Alignment | None, spacing_m: float) -> str:
    """Why an alignment is not to be relied on; empty if it is."""
    if alignment is None or len(alignment.pairs) < LEAST_MATCHES:
        count = 0 if alignment is None else len(alignment.pairs)
        return f"only {count} place matches agree, at least {LEAST_MATCHES} are needed"
    if alignment.way_m < LEAST_WAY_SPACINGS * spacing_m:
        return f"the matches that agree cover {alignment.way_m:.0f} m, at least {LEAST_WAY_SPACINGS * spacing_m:.0f} m"
    if alignment.agreeing < LEAST_AGREEING:
        return f"{alignment.agreeing:.0%} of the matches in the common part agree, {LEAST_AGREEING:.0%} are needed"
    if alignment.rival > MOST_RIVAL:
        return f"a second transform fits nearly as well (to {alignment.rival:.0%}), so parts of the map look alike"
    return ""


def estimate(place_map: PlaceMap, other: PlaceMap) -> Alignment | None:
    """The likeliest alignment, however doubtful; None if no three matches agree."""
    matches = Matches.of(place_map, other, mutual_matches(place_map, other))
    found = _transforms(matches)
    if not found:
        return None
    best = found[int(np.argmax([matches.confirming(transform).sum() for transform in found]))]
    confirming = matches.confirming(best)
    off_m, off_deg = matches.off(best)
    common = _common(place_map, other, best, matches.spacing_m)[matches.rows[:, 1]] | confirming
    return Alignment(
        best,
        len(matches.rows),
        matches.rows[confirming],
        off_m[confirming],
        off_deg[confirming],
        float(confirming.sum() / common.sum()) if confirming.any() else 0.0,
        _way(matches.at[confirming], matches.spacing_m),
        _rival(place_map, other, best, matches.rows[confirming, 1]),
    )


def _rival(place_map: PlaceMap, other: PlaceMap, best: Pose, confirmed: Rows) -> float:
    """Of places of the other map, `confirmed`, the share that looks like where one other transform puts them, too."""
    chosen = confirmed[np.unique(np.linspace(0, len(confirmed) - 1, min(len(confirmed), _RIVAL_PLACES)).astype(int))]
    similarities, found = Index.of(place_map.descriptors).search(other.descriptors[chosen], _RIVAL_NEIGHBOURS)
    ordinary = (other.descriptors[chosen] @ place_map.descriptors.mean(axis=0))[:, None]
    nearly = similarities - ordinary >= _RIVAL_ALIKE * (similarities[:, :1] - ordinary)
    alike = Matches.of(
        place_map, other, np.stack([found, np.broadcast_to(chosen[:, None], found.shape)], axis=-1)[nearly]
    )
    others = (transform for transform in _transforms(alike) if _apart(alike, transform, best))
    places = (len(np.unique(alike.rows[alike.confirming(transform), 1])) for transform in others)
    return max(places, default=0) / max(1, len(chosen))


def _transforms(matches: Matches) -> list[Pose]:
    """What some matches agree on, refined."""
    return [transform for seed in _seeds(matches) if (transform := _refine(matches, seed)) is not None]


def _seeds(matches: Matches) -> list[Pose]:
    """Transforms of single pairs, those first that most others confirm, and no two alike."""
    count = len(matches.rows)
    scored = []
    for number in np.unique(np.linspace(0, count - 1, min(count, _SEEDS)).astype(int)) if count else []:
        rotation = matches.turned[number] * matches.other_turned[number].inv()
        transform = Pose(matches.at[number] - rotation.apply(matches.other_at[number]), rotation.as_quat())
        off_m, off_deg = matches.off(transform)
        away = np.linalg.norm(matches.at - matches.at[number], axis=1)
        near = off_m <= WITHIN_SPACINGS * matches.spacing_m + _LEVER * away
        scored.append((int((near & (off_deg <= WITHIN_DEG)).sum()), transform))
    chosen: list[Pose] = []
    for _, transform in sorted(scored, key=lambda entry: -entry[0]):
        if all(_apart(matches, transform, other) for other in chosen):
            chosen.append(transform)
        if len(chosen) == _REFINED:
            break
    return chosen


def _refine(matches: Matches, seed: Pose) -> Pose | None:
    """Fit to what confirms the seed, again and again until that stays the same; None if it is too little."""
    off_m, off_deg = matches.off(seed)
    reach = WITHIN_SPACINGS * matches.spacing_m
    anchor = matches.at[int(np.argmin(off_m))]
    near = off_m <= reach + _LEVER * np.linalg.norm(matches.at - anchor, axis=1)
    chosen = near & (off_deg <= WITHIN_DEG)
    transform = seed
    for _ in range(20):
        if chosen.sum() < 3:
            return None
        transform = _fit(matches, chosen, transform)
        now = matches.confirming(transform)
        if (now == chosen).all():
            break
        chosen = now
    return transform


def _fit(matches: Matches, chosen: npt.NDArray[np.bool_], start: Pose) -> Pose:
    """The transform with the least robust sum of what is left between the chosen cameras, in metres and degrees."""
    at, other_at = matches.at[chosen], matches.other_at[chosen]
    turned, other_turned = matches.turned[chosen], matches.other_turned[chosen]
    middle = other_at.mean(axis=0)  # turning about it leaves the positions' mean alone: better conditioned

    def left(numbers: Array) -> Array:
        rotation = Rotation.from_rotvec(numbers[3:]) * start.rotation
        off = rotation.apply(other_at - middle) + numbers[:3] - at
        off_turn = (turned.inv() * rotation * other_turned).as_rotvec(degrees=True)
        return np.concatenate([off / matches.spacing_m, off_turn / _TURN_WEIGHT_DEG], axis=1).ravel()

    first = np.concatenate([start.rotation.apply(middle) + start.position, np.zeros(3)])
    best = least_squares(left, first, loss="soft_l1").x
    rotation = Rotation.from_rotvec(best[3:]) * start.rotation
    return Pose(best[:3] - rotation.apply(middle), rotation.as_quat())


def _apart(matches: Matches, one: Pose, two: Pose) -> bool:
    """Whether two transforms lay the other map differently."""
    middle = Pose(matches.other_at.mean(axis=0), np.array([0.0, 0.0, 0.0, 1.0]))
    return (
        distance(one @ middle, two @ middle) > 2 * WITHIN_SPACINGS * matches.spacing_m
        or np.degrees(turn(one, two)) > WITHIN_DEG
    )


def _common(place_map: PlaceMap, other: PlaceMap, transform: Pose, spacing_m: float) -> npt.NDArray[np.bool_]:
    """(N,) whether a place of the other map has one in the map, laid like this, that looks the same way."""
    rotation = transform.rotation
    at = rotation.apply(other.positions) + transform.position
    turned = rotation * Rotation.from_quat(other.quaternions)
    near = cKDTree(place_map.positions).query_ball_point(at, WITHIN_SPACINGS * spacing_m)
    common = np.zeros(len(other), np.bool_)
    for number, rows in enumerate(near):
        if rows:
            angles = (Rotation.from_quat(place_map.quaternions[rows]).inv() * turned[number]).magnitude()
            common[number] = bool((np.degrees(angles) <= WITHIN_DEG).any())
    return common


def _way(at: Array, spacing_m: float) -> float:
    """Metres that places cover: of what they occupy, cell by cell of five spacings."""
    size = 5 * spacing_m
    return len(np.unique(np.floor(at / size), axis=0)) * size
