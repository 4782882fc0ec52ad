"""What other rules would close on the same pictures: a threshold and 20 inliers (Swarm-SLAM), and the first candidate
alone (as with bags of words).

Each is given the thresholds with which it finds most at the fewest wrong closures, over all tours together: better than
anyone could set them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from d2vpr_ros.describe.features import FeatureExtractor
from d2vpr_ros.evaluation.loop_scoring import RIGHT_M, RIGHT_SPACINGS, Revisits
from d2vpr_ros.evaluation.trajectory_error import relative_errors
from d2vpr_ros.geometry import Array
from d2vpr_ros.loops.closing import place_of
from d2vpr_ros.loops.closure import Closure
from d2vpr_ros.loops.graph import Poses
from d2vpr_ros.loops.measuring import geometry_of, measure
from d2vpr_ros.loops.params import DEFAULT_PARAMS
from d2vpr_ros.loops.past import Past
from d2vpr_ros.mapping import PlaceMap
from d2vpr_ros.mapping.loop_table import StoredOdometry
from d2vpr_ros.multiview import PlaceGeometry

LEAST_INLIERS = 20
"""Swarm-SLAM's pnp_min_inliers; RTAB-Map's Vis/MinInliers and Kimera's are the same."""
_PROMISED = 0.99  # precision that the thresholds are chosen for


@dataclass(frozen=True, eq=False)
class Tried:
    """Every place of a tour with its first candidate.

    Attributes:
        similarity: (N,) cosine to the first candidate; -1 without one.
        normalised: (N,) that over the cosine to the place before, as DBoW2 does it.
        inliers: (N,) of the metric pose; 0 without one.
        near, exact: (N,) whether the candidate is the same place, and whether the closure's pose is right.
        revisited: (N,) whether the place was seen before.
    """

    similarity: Array
    normalised: Array
    inliers: Array
    near: Array
    exact: Array
    revisited: Array


def try_all(
    place_map: PlaceMap, truth: Poses, sights: Array, features: FeatureExtractor, right_m: float = RIGHT_M
) -> Tried:
    """Describe what every rule would see.

    Args:
        place_map: by odometry; truth, sights: base and camera rotations of its places.
        right_m: by which a closure's pose may be off.
    """
    past = Past(place_map.path, place_map.header)
    count, spacing_m = len(place_map), place_map.spacing_m
    found = Tried(*(np.zeros(count) for _ in range(6)))
    found.similarity[:] = found.normalised[:] = -1.0
    geometry: PlaceGeometry | None = None
    for row in range(count):
        place = place_of(place_map, row, StoredOdometry(place_map.camera_pose(row), None))
        candidates = past.candidates(place.descriptor)
        past.add(place)
        if geometry is None:
            geometry = geometry_of(past, features)
        geometry.grow(past.map(), past.way, min(len(past), past.findable + 10))
        if candidates is None:
            continue
        best = int(candidates.rows[0])
        before = float(place.descriptor @ place_map.descriptors[row - 1])
        found.similarity[row] = float(candidates.similarities[0])
        found.normalised[row] = found.similarity[row] / max(before, 1e-3)
        apart_m = np.linalg.norm(truth.positions[best] - truth.positions[row])
        found.near[row] = apart_m <= max(RIGHT_SPACINGS * spacing_m, right_m)
        closure = measure(past, geometry, row, candidates)
        if isinstance(closure, Closure) and closure.kind == "metric":
            found.inliers[row] = closure.inliers
            said = Poses(closure.pose.position[None], closure.pose.rotation.as_matrix()[None])
            off_m, _ = relative_errors(said, truth.between(np.array([best]), np.array([row])))
            found.exact[row] = off_m[0] <= right_m
    revisits = Revisits.of(truth, sights, spacing_m, DEFAULT_PARAMS.least_way_spacings * spacing_m)
    found.revisited[:] = revisits.earlier >= 0
    return found


@dataclass(frozen=True)
class Outcome:
    """Of one rule at one threshold, by keyframe."""

    threshold: float
    precision: float
    recall: float
    wrong: int


def swarm_slam(tours: Sequence[Tried]) -> Outcome:
    """The similarity above a threshold, then at least 20 inliers."""
    return _best(tours, [_similar_and_verified(one) for one in tours], [one.exact for one in tours])


def first_candidate(tours: Sequence[Tried]) -> Outcome:
    """The normalised similarity of the first candidate above a threshold."""
    return _best(tours, [one.normalised for one in tours], [one.near for one in tours])


def wrong_elsewhere(tours: Sequence[Tried], scene: Tried) -> tuple[int, int]:
    """Wrong closures of a scene by both rules, with the thresholds that do best on the tours."""
    swarm = (_similar_and_verified(scene) >= swarm_slam(tours).threshold) & (scene.exact == 0)
    first = (scene.normalised >= first_candidate(tours).threshold) & (scene.near == 0)
    return int(swarm.sum()), int(first.sum())


def _similar_and_verified(tried: Tried) -> Array:
    return np.where(tried.inliers >= LEAST_INLIERS, tried.similarity, -2.0)


def _best(tours: Sequence[Tried], scores: Sequence[Array], right: Sequence[Array]) -> Outcome:
    score, is_right = np.concatenate(scores), np.concatenate(right) > 0
    revisited = np.concatenate([one.revisited for one in tours]) > 0
    outcomes = []
    for threshold in np.unique(np.quantile(score[score > -1.0], np.linspace(0, 1, 200))):
        closed = score >= threshold
        precision = float(is_right[closed].mean())
        recall = float((is_right & closed & revisited).sum() / max(1, revisited.sum()))
        outcomes.append(Outcome(float(threshold), precision, recall, int((closed & ~is_right).sum())))
    good = [one for one in outcomes if one.precision >= _PROMISED]
    return max(good, key=lambda one: one.recall) if good else max(outcomes, key=lambda one: one.precision)
