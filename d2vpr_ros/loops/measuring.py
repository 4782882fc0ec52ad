"""From a candidate to a closure: how the robot stands to the old place, as well as the two pictures tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from d2vpr_ros.bags.covariance import moved
from d2vpr_ros.describe.features import FeatureExtractor
from d2vpr_ros.geometry import Array, Pose
from d2vpr_ros.loops.closure import Closure
from d2vpr_ros.loops.consent import same_place
from d2vpr_ros.loops.params import DEFAULT_PARAMS, LoopParams
from d2vpr_ros.loops.past import Candidates, Past
from d2vpr_ros.multiview import PlaceGeometry, Sighting
from d2vpr_ros.multiview.params import DEFAULT_PARAMS as GEOMETRY_PARAMS

NO_PICTURE = "no picture that can be read"
TOO_FAR = "another place of the same street"


def geometry_of(past: Past, features: FeatureExtractor) -> PlaceGeometry:
    """What compares places with past ones; let it `grow` with the past."""
    params = replace(GEOMETRY_PARAMS, neighbours=past.params.neighbours)
    return PlaceGeometry(past.map(), features, params, past.way)


def measure(
    past: Past, geometry: PlaceGeometry, row: int, candidates: Candidates, params: LoopParams = DEFAULT_PARAMS
) -> Closure | str:
    """What the geometry says of a place and the past place that it resembles most.

    Args:
        row: of the new place.
        geometry: of the past's map.

    Returns:
        A closure with its own probability, in no run yet (0); or why there is none, in words.
    """
    view = geometry.place_view(row)
    best = int(candidates.rows[0])
    if view is None or geometry.place_view(best) is None:
        return NO_PICTURE
    new, old = past.places[row], past.places[best]
    spacing_m = past.header.keyframe_spacing_m
    near = np.abs(past.way[candidates.rows] - past.way[best]) <= params.run_way_spacings / 2 * spacing_m
    sighting = geometry.sightings(view, candidates.rows[near].tolist(), new.camera.mount, new.camera_id)[0]
    if sighting.pose is None:
        pose = old.camera.mount @ new.camera.mount.inverse()  # both cameras stand alike
        probability = same_place("place", sighting.inliers)
        covariance = _diagonal(params.place_sigma_spacings * spacing_m, params.place_sigma_deg)
        return Closure(old.id, new.id, pose, covariance, "place", probability, sighting.inliers, 0)
    pose = old.base.inverse() @ sighting.pose @ new.camera.mount.inverse()
    if np.linalg.norm(pose.position) > params.most_apart_spacings * spacing_m:
        return TOO_FAR
    covariance = _metric_covariance(sighting, old.base, pose, params)
    probability = same_place("metric", sighting.inliers)
    return Closure(old.id, new.id, pose, covariance, "metric", probability, sighting.inliers, 0)


def _metric_covariance(sighting: Sighting, old: Pose, relative: Pose, params: LoopParams) -> Array:
    """(6, 6) of T_old_new in the old base's axes.

    Args:
        old: T_odom_base of the old place.
        relative: T_old_new.
    """
    assert sighting.pose is not None and sighting.covariance is not None
    base = (old @ relative).position
    of_base = moved(sighting.covariance, base - sighting.pose.position)
    turned = np.kron(np.eye(2), old.rotation.as_matrix().T)
    covariance = params.closure_factor * turned @ of_base @ turned.T
    covariance += _diagonal(params.least_sigma_m, params.least_sigma_deg)
    covariance[:3, :3] += (params.closure_scale**2) * np.outer(relative.position, relative.position)
    return np.asarray((covariance + covariance.T) / 2)


def _diagonal(sigma_m: float, sigma_deg: float) -> Array:
    return np.diag(np.repeat([sigma_m, np.radians(sigma_deg)], 3) ** 2)
