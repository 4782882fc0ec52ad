"""What the landmarks of the map prove about an image: which places it is compared with, and what that says of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation
from scipy.stats import chi2, norm

from d2vpr_ros.bags.covariance import moved as at_arm
from d2vpr_ros.geometry import Pose
from d2vpr_ros.localize.belief import Array, Belief, Hypotheses, Mask, Places, normalised, tidied, unseen
from d2vpr_ros.localize.evidence import Evidence
from d2vpr_ros.localize.filter import Resembles, changed, tempered
from d2vpr_ros.localize.params import LocalizerParams
from d2vpr_ros.mapping import PlaceMap
from d2vpr_ros.multiview.params import DEFAULT_PARAMS as GEOMETRY
from d2vpr_ros.multiview.place_geometry import PlaceGeometry, Sighting
from d2vpr_ros.multiview.view import View

_WITH = 2  # neighbours whose landmarks are used together with a place's
_LEAST_MAPPED = 0.01  # a hypothesis past the end of the map is compared with nothing
_PROVEN = 0.99  # of the mass: then no other place is looked at
_DEGREES = 6  # of freedom: the mean squared Mahalanobis distance of two poses that are one
_AGREES = float(chi2.ppf(0.999, _DEGREES))  # squared Mahalanobis distance of two poses that may be one
_LEAST_NEW = 0.01  # an image from the same spot corrects next to nothing


@dataclass(frozen=True, eq=False)
class Query:
    """An image to compare.

    Attributes:
        view: of the image; camera: of the robot that took it; mount: T_base_cameraOptical of that, None for the map's.
        new: how much of an image it is, 0 to 1.
        by_sight: no odometry tells how the robot moved.
        resembles: how much it resembles the places about hypotheses.
    """

    view: View
    camera: int
    mount: Pose | None
    new: float
    by_sight: bool
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
    params, found = evidence.params, dict[int, Sighting]()
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
            of = corrected(weigh_pose(of, told, proof, surprises, query.new, params), told, proof, query.new)
            if query.by_sight:
                of = as_usual(of, told, sighting.inliers, query.new, params)
        if not agree[number]:
            against = proof.log_ratio if proof.pose is None else proof.absent
            of = weigh_proof(of, tested & fresh, against, query.new, params, posed=False)
        belief = replace(belief, of=of)
        counted.update(of.ids[agree | tested].tolist())
        if proof.pose is not None and not agree.any():
            ratio = query.new * (float(seen.log_ratio[0, best]) + proof.log_ratio)
            real = unseen(belief) + query.new * (
                float(evidence.likeness(seen.scores[0, best])) + params.pose_weight * proof.log_ratio
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
    return Proof(evidence.of_pose(sighting), absent, base, within)


@dataclass(frozen=True, eq=False)
class Proof:
    """What the landmarks of a place say of an image.

    Attributes:
        log_ratio: of its inliers, at that place against elsewhere.
        absent: the same of an image in which no such landmarks are found.
        pose: T_map_base, and its covariance (6, 6) without that of the map; None without a pose.
    """

    log_ratio: float
    absent: float
    pose: Pose | None = None
    covariance: Array | None = None


def surprise(of: Hypotheses, proof: Proof) -> Array:
    """(A,) squared Mahalanobis distances from where hypotheses expect the robot to the pose that landmarks prove."""
    if proof.pose is None or proof.covariance is None:
        return np.full(len(of), np.inf)
    error = _errors(of, proof.pose)
    total = np.linalg.inv(of.covariances + proof.covariance)
    return np.asarray(np.einsum("ai,aij,aj->a", error, total, error))


def agreeing(surprises: Array) -> Mask:
    """(A,) which hypotheses expect the robot there, by how far it is from each (`surprise`)."""
    return surprises <= _AGREES


def weigh_proof(
    of: Hypotheses,
    which: Mask,
    log_ratio: Array | float,
    new: float,
    params: LocalizerParams,
    *,
    posed: bool,
) -> Hypotheses:
    """Some hypotheses weighed by landmarks that speak for them, or against.

    A pose is no matter of looks: chance scatters wrong ones, so each counts in full.

    Args:
        log_ratio: of all, or (A,).
    """
    ratio = np.where(which, log_ratio, 0.0)
    share = np.where(of.images > new, params.pose_weight_held, params.pose_weight) * ratio
    told = new * share if posed else tempered(share, of.real, new, params.repeats)
    return replace(of, log_mass=of.log_mass + new * ratio, real=of.real + told)


def weigh_pose(
    of: Hypotheses, which: Mask, proof: Proof, surprises: Array, new: float, params: LocalizerParams
) -> Hypotheses:
    """Those weighed by the inliers of a pose, and by how far it is from where they expect the robot (`surprise`)."""
    beyond = np.maximum(surprises - _DEGREES, 0.0) / 2
    ratio = np.maximum(proof.log_ratio - np.where(which, beyond, 0.0), proof.absent)
    return weigh_proof(of, which, ratio, new, params, posed=True)


def as_usual(of: Hypotheses, which: Mask, inliers: int, new: float, params: LocalizerParams) -> Hypotheses:
    """Some hypotheses weighed by whether an image has as many inliers there as those before it.

    One light and one camera give about as many at every place, or more at a near wall. At a place that only looks the
    same, or past the end of the map where facades repeat, there may be any number below that. With odometry the motion
    tells, too: a pose that stays behind is refused. By sight it is taken for the motion itself.
    """
    count, known = np.log(inliers), np.isfinite(of.shared)
    usual = np.where(known, of.shared, count)
    least = np.log(GEOMETRY.least_inliers)  # fewer give no pose
    as_before = norm.pdf(np.minimum(count, usual), usual, params.inlier_sigma)
    as_before = as_before / norm.sf(least, usual, params.inlier_sigma)
    as_before = (1 - params.unusual) * as_before
    any_number = 1 / (usual - least + 2 * params.inlier_sigma)
    told = np.where(which & known, np.log(as_before / any_number + params.unusual), 0.0)
    unusual = params.unusual * any_number
    # An unusual number is as likely that of one image as the usual one from now on.
    share = params.unusual_forgets * new * (as_before + unusual / 2) / (as_before + unusual)
    shared = np.where(which, usual + share * (count - usual), of.shared)
    return replace(of, real=of.real + new * told, shared=shared)


def corrected(of: Hypotheses, which: Mask, proof: Proof, new: float) -> Hypotheses:
    """Some hypotheses corrected by the pose that landmarks prove (Kalman)."""
    assert proof.pose is not None and proof.covariance is not None
    noise = proof.covariance / max(new, _LEAST_NEW)
    gain = of.covariances @ np.linalg.inv(of.covariances + noise)
    gain = np.where(which[:, None, None], gain, 0.0)
    change = np.einsum("aij,aj->ai", gain, _errors(of, proof.pose))
    after = changed(of, change, of.covariances - gain @ of.covariances)
    return replace(after, mapped=np.where(which, 1.0, after.mapped))


def begin_at(
    belief: Belief, proof: Proof, log_ratio: float, real: float, score: float, places: int, number: int
) -> Belief:
    """Begin a hypothesis at a pose that landmarks prove and that no other hypothesis expects.

    Args:
        log_ratio: of everything that speaks for the pose.
        score: z-score of the place whose landmarks they are.
        places: of the map.
    """
    assert proof.pose is not None and proof.covariance is not None
    fresh = Hypotheses(
        ids=np.array([number]),
        positions=proof.pose.position[None],
        rotations=proof.pose.rotation.as_matrix()[None],
        covariances=proof.covariance[None],
        log_mass=np.array([belief.rest - np.log(places) + log_ratio]),
        mapped=np.ones(1),
        real=np.array([real]),
        images=np.ones(1),
        fit=np.array([score]),
        score=np.array([score]),
        shared=np.array([np.nan]),
    )
    return replace(belief, of=belief.of.and_more(fresh))


def _heaviest(of: Hypotheses, tried: set[int]) -> int | None:
    """The number of the heaviest hypothesis that was not tried yet."""
    open_ones = ~np.isin(of.ids, list(tried))
    return int(np.argmax(np.where(open_ones, of.log_mass, -np.inf))) if open_ones.any() else None


def _errors(of: Hypotheses, pose: Pose) -> Array:
    """(A, 6) from each hypothesis to a pose."""
    turns = Rotation.from_matrix(pose.rotation.as_matrix() @ of.rotations.transpose(0, 2, 1)).as_rotvec()
    return np.hstack([pose.position - of.positions, turns])
