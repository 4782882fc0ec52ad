"""What the landmarks of the map prove about an image: which places it is compared with, and what that says of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from d2vpr_ros.bags.covariance import moved as at_arm
from d2vpr_ros.geometry import Pose
from d2vpr_ros.localize.belief import Belief, Hypotheses, Places, at_start, normalised, tidied, unseen
from d2vpr_ros.localize.evidence import Evidence
from d2vpr_ros.localize.filter import Proof, Resembles, agreeing, begin_at, corrected, surprise, weigh_pose, weigh_proof
from d2vpr_ros.mapping import PlaceMap
from d2vpr_ros.multiview.place_geometry import PlaceGeometry, Sighting
from d2vpr_ros.multiview.view import View

_WITH = 2  # neighbours whose landmarks are used together with a place's
_LEAST_MAPPED = 0.01  # a hypothesis past the end of the map is compared with nothing
_PROVEN = 0.99  # of the mass: then no other place is looked at


@dataclass(frozen=True, eq=False)
class Query:
    """An image to compare.

    Attributes:
        view: of the image; camera: of the robot that took it; mount: T_base_cameraOptical of that, None for the map's.
        new: how much of an image it is, 0 to 1.
        resembles: how much it resembles the places about hypotheses.
    """

    view: View
    camera: int
    mount: Pose | None
    new: float
    resembles: Callable[[Hypotheses], Resembles]


def prove(
    belief: Belief, query: Query, geometry: PlaceGeometry, evidence: Evidence, places: Places, next_id: int
) -> tuple[Belief, dict[int, Sighting]]:
    """Compare an image with the places of the heaviest hypotheses, until one of them is proven.

    An image counts once for each hypothesis. A pose that no hypothesis expects begins one, under the number `next_id`
    and those after it.

    Returns:
        The belief, and what was seen by the row of each place.
    """
    params, start, found = evidence.params, at_start(belief), dict[int, Sighting]()
    tried, counted = set[int](), set[int]()
    for begun in range(params.geometry_groups):
        number = _heaviest(belief.of, tried)
        if number is None:
            break
        tried.add(int(belief.of.ids[number]))
        seen = query.resembles(belief.of.of(np.array([number])))
        if seen.near.mapped[0] < _LEAST_MAPPED:
            continue
        best = int(np.argmax(seen.weights[0]))
        row, score = int(seen.near.rows[0, best]), float(seen.scores[0, best])
        group = [row, *geometry.neighbours(row)[:_WITH].tolist()]
        (sighting,) = geometry.sightings(query.view, group, query.mount, query.camera)[:1]
        found[row] = sighting
        proof = proof_of(sighting, geometry.map, query.mount, evidence)
        of, tested = belief.of, belief.of.ids == belief.of.ids[number]
        surprises, fresh = surprise(of, proof), ~np.isin(of.ids, list(counted))
        agree = agreeing(surprises)
        if (told := agree & fresh).any():
            of = corrected(weigh_pose(of, told, proof, surprises, query.new, start, params), told, proof, query.new)
        if not agree[number]:
            against = proof.log_ratio if proof.pose is None else proof.absent
            of = weigh_proof(of, tested & fresh, against, query.new, start, params, posed=False)
        belief = replace(belief, of=of)
        counted.update(of.ids[agree | tested].tolist())
        if proof.pose is not None and not agree.any():
            ratio = query.new * (float(seen.log_ratio[0, best]) + proof.log_ratio)
            real = unseen(belief) + query.new * (
                float(evidence.likeness(seen.scores[0, best])) + params.inlier_weight * proof.log_ratio
            )
            belief = begin_at(belief, proof, ratio, real, score, len(places), next_id + begun)
            tried.add(next_id + begun)
            counted.add(next_id + begun)
        belief = normalised(belief)
        there = agreeing(surprise(belief.of, proof))
        if np.exp(belief.of.log_mass[there].max(initial=-np.inf)) > _PROVEN:
            break
    return tidied(belief, places, params), found


def proof_of(sighting: Sighting, place_map: PlaceMap, mount: Pose | None, evidence: Evidence) -> Proof:
    """What a sighting says, of the robot's base."""
    absent = evidence.params.absent_ratio
    if not place_map.header.metric:
        return Proof(evidence.of_pictures(sighting.inliers), absent)
    if sighting.pose is None or sighting.covariance is None or sighting.map_noise is None:
        return Proof(absent if sighting.rows else evidence.of_pictures(sighting.inliers), absent)
    base = sighting.pose @ (mount or place_map.mount(sighting.row)).inverse()
    within = at_arm(sighting.covariance - sighting.map_noise, base.position - sighting.pose.position)
    return Proof(evidence.of_pose(sighting.inliers), absent, sighting.inliers, base, within)


def _heaviest(of: Hypotheses, tried: set[int]) -> int | None:
    """The number of the heaviest hypothesis that was not tried yet."""
    open_ones = ~np.isin(of.ids, list(tried))
    return int(np.argmax(np.where(open_ones, of.log_mass, -np.inf))) if open_ones.any() else None
