"""The odometry's steps from place to place, as edges of a pose graph."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from d2vpr_ros.geometry import Array, Pose
from d2vpr_ros.loops.closure import Edge
from d2vpr_ros.loops.params import DEFAULT_PARAMS, LoopParams
from d2vpr_ros.loops.past import Past, Place

_LEAST_SIGMA_M, _LEAST_SIGMA_RAD = 1e-3, 1e-4  # of a step of no length
_PLANAR_M, _PLANAR_RAD = 1e-3, 1e-3  # a step of planar odometry rises and tilts by no more
_STATED_SHARE = 0.9  # of the steps whose stated covariance has to be usable
_STATED_SIGMA = (0.002, 0.2)  # of a step's length: what a stated position sigma may be


def edges_of(past: Past, params: LoopParams = DEFAULT_PARAMS) -> tuple[list[Edge], bool]:
    """One edge a step.

    A stated covariance is that of a pose since the drive began. A step's is what it grew by, if it grew like that of
    a random walk; else it says nothing about a step (many are constant, zero, or grow with the way itself), and a
    model takes its place: `params.along`, `params.aside_m`, `params.yaw_deg`.

    Returns:
        The edges, and whether their covariances are the stated ones.
    """
    steps = list(_steps(past))
    stated = [_growth(old.base, old.covariance, new.covariance) for old, new, _ in steps]
    usable = [one is not None and _is_plausible(one, step) for one, (_, _, step) in zip(stated, steps, strict=True)]
    trusted = bool(steps) and float(np.mean(usable)) >= _STATED_SHARE
    edges = []
    for (old, new, step), one, good in zip(steps, stated, usable, strict=True):
        covariance = one if trusted and good and one is not None else step_covariance(step, params)
        edges.append(Edge(old.id, new.id, step, covariance))
    return edges, trusted


def step_covariance(step: Pose, params: LoopParams = DEFAULT_PARAMS) -> Array:
    """(6, 6) of a step T_old_new without a stated one: a share of its length along it, a random walk aside."""
    metres = float(np.linalg.norm(step.position))
    along = step.position / metres if metres > 0 else np.array([1.0, 0.0, 0.0])
    along_m = max(params.along * metres, _LEAST_SIGMA_M)
    aside_m = max(params.aside_m * float(np.sqrt(metres)), _LEAST_SIGMA_M)
    turn_rad = max(float(np.radians(params.yaw_deg)) * float(np.sqrt(metres)), _LEAST_SIGMA_RAD)
    covariance = np.eye(6)
    covariance[:3, :3] = aside_m**2 * np.eye(3) + (along_m**2 - aside_m**2) * np.outer(along, along)
    covariance[3:, 3:] *= turn_rad**2
    return covariance


def is_planar(past: Past) -> bool:
    """Whether the odometry is of a robot on the ground: its steps have no height and no tilt."""
    for _, _, step in _steps(past):
        tilt = np.arccos(np.clip(step.rotation.as_matrix()[2, 2], -1.0, 1.0))
        if abs(step.position[2]) > _PLANAR_M or tilt > _PLANAR_RAD:
            return False
    return True


def _steps(past: Past) -> Iterator[tuple[Place, Place, Pose]]:
    """The places that odometry leads from and to, and T_old_new of the base."""
    for (old, new), begins in zip(pairwise(past.places), past.begins[1:], strict=True):
        if not begins:
            yield old, new, old.base.inverse() @ new.base


def _growth(old: Pose, before: Array | None, after: Array | None) -> Array | None:
    """What the covariance of a pose grew by in a step, in the old base's axes; None where that is no covariance.

    The rotation's uncertainty so far, which swings the new position about the old one, is left in: over a step it is
    nothing.
    """
    if before is None or after is None:
        return None
    grown = np.asarray(after, np.float64) - np.asarray(before, np.float64)
    turned = np.kron(np.eye(2), old.rotation.as_matrix().T)
    grown = turned @ grown @ turned.T
    values = np.linalg.eigvalsh(grown) if np.isfinite(grown).all() else np.array([-1.0])
    return grown if values[0] > -1e-12 and grown.any() else None


def _is_plausible(covariance: Array, step: Pose) -> bool:
    sigma_m = float(np.sqrt(np.trace(covariance[:3, :3])))
    metres = float(np.linalg.norm(step.position))
    return _STATED_SIGMA[0] * metres <= sigma_m <= max(_STATED_SIGMA[1] * metres, _LEAST_SIGMA_M)
