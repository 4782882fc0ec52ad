"""A pose graph: the poses that measured relative poses agree on best (Levenberg-Marquardt over SE(3)).

Minimises half the sum of r' W r with r = Log(Z^-1 Ti^-1 Tj), Z the measured T_i_j and W the inverse of its covariance:
the cost of GTSAM's BetweenFactor. Tangents are (x, y, z, rotation about x, y, z) in the axes of the pose's own body,
and a pose moves by T Exp(tangent). Derivatives: Sola, Deray and Atchuthan, "A micro Lie theory" (2018), eq. 163 to 179.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from d2vpr_ros.geometry import Array
from d2vpr_ros.loops.elimination import Blocks, Rows, merged, solve, summed
from d2vpr_ros.multiview.adjustment import skew

_ROUNDS = 50
_DONE = 1e-6  # of the cost, from one round to the next
_DAMPING, _LEAST_DAMPING, _MOST_DAMPING = 1e-9, 1e-12, 1e6  # shares of the matrix's diagonal
_SMALL_ANGLE = 1e-2  # radians; below, a series is more exact than the quotient


@dataclass(frozen=True, eq=False)
class Poses:
    """T_map_body of N bodies.

    Attributes:
        positions: (N, 3), metres.
        rotations: (N, 3, 3).
    """

    positions: Array
    rotations: Array

    def between(self, first: Rows, second: Rows) -> Poses:
        """T_first_second of rows (M,)."""
        back = self.rotations[first].transpose(0, 2, 1)
        away = self.positions[second] - self.positions[first]
        return Poses((back @ away[:, :, None])[:, :, 0], back @ self.rotations[second])

    def moved(self, tangents: Array) -> Poses:
        """Each pose moved within its own axes by (N, 6); first order in the rotation as Exp is."""
        turned = Rotation.from_rotvec(tangents[:, 3:]).as_matrix()
        shifted = self.positions + (self.rotations @ tangents[:, :3, None])[:, :, 0]
        return Poses(shifted, self.rotations @ turned)


@dataclass(frozen=True, eq=False)
class Measured:
    """Measured relative poses T_first_second.

    Attributes:
        first, second: (E,) rows of the poses.
        positions, rotations: (E, 3), (E, 3, 3).
        information: (E, 6, 6), inverse covariances of tangents in the axes of the second body.
    """

    first: Rows
    second: Rows
    positions: Array
    rotations: Array
    information: Array

    def of(self, kept: Rows) -> Measured:
        """These rows alone."""
        parts = self.first[kept], self.second[kept], self.positions[kept], self.rotations[kept], self.information[kept]
        return Measured(*parts)

    def weighted(self, weights: Array) -> Measured:
        """The same with each information times its weight (E,)."""
        return replace(self, information=self.information * weights[:, None, None])


def information_of(covariances: Array, rotations: Array) -> Array:
    """(E, 6, 6) information in the second body's axes, of covariances that are stated in the first body's axes."""
    turn = np.zeros((len(rotations), 6, 6))
    turn[:, :3, :3] = turn[:, 3:, 3:] = rotations
    return np.asarray(turn.transpose(0, 2, 1) @ np.linalg.inv(covariances) @ turn)


def residuals(poses: Poses, measured: Measured) -> Array:
    """(E, 6) Log(Z^-1 Ti^-1 Tj)."""
    relative = poses.between(measured.first, measured.second)
    unturn = measured.rotations.transpose(0, 2, 1)
    turn = Rotation.from_matrix(unturn @ relative.rotations).as_rotvec()
    shift = _left_inverse(turn) @ (unturn @ (relative.positions - measured.positions)[:, :, None])
    return np.concatenate([shift[:, :, 0], turn], axis=1)


def distances(poses: Poses, measured: Measured) -> Array:
    """(E,) squared Mahalanobis distances r' W r."""
    error = residuals(poses, measured)
    return np.asarray(np.einsum("ei,eij,ej->e", error, measured.information, error))


def derivatives(poses: Poses, measured: Measured, error: Array) -> tuple[Array, Array]:
    """(E, 6, 6) of the residuals with respect to the tangents of the first and of the second pose.

    Args:
        error: (E, 6) the residuals at these poses.
    """
    by_second = _right_inverse(error)
    back = poses.between(measured.second, measured.first)
    adjoint = np.zeros((len(error), 6, 6))
    adjoint[:, :3, :3] = adjoint[:, 3:, 3:] = back.rotations
    adjoint[:, :3, 3:] = skew(back.positions) @ back.rotations
    return -by_second @ adjoint, by_second


def optimum(
    start: Poses, measured: Measured, held: npt.NDArray[np.bool_], rounds: int = _ROUNDS
) -> tuple[Poses, float]:
    """The poses of the least cost, and that cost (half the sum of the squared Mahalanobis distances).

    Args:
        start: where to begin; the optimum next to it is found.
        held: (N,) poses that stay as they are.
        rounds: at most.
    """
    free = np.flatnonzero(~held)
    poses, cost, damping = start, 0.5 * float(distances(start, measured).sum()), _DAMPING
    if not len(free) or not len(measured.first):
        return start, cost
    for _ in range(rounds):
        matrix, right = _equations(poses, measured, free, len(held))
        while True:
            step = np.zeros((len(held), 6))
            step[free] = solve(_damped(matrix, damping), right)
            tried = poses.moved(step)
            value = 0.5 * float(distances(tried, measured).sum())
            if value <= cost or damping > _MOST_DAMPING:
                break
            damping = max(damping, _DAMPING) * 100.0
        if not value <= cost:  # no step helps any more
            return poses, cost
        poses, gained, cost = tried, cost - value, value
        damping = max(damping / 10.0, _LEAST_DAMPING)
        if gained <= _DONE * (1e-9 + cost):
            break
    return poses, cost


def _equations(poses: Poses, measured: Measured, free: Rows, size: int) -> tuple[Blocks, Array]:
    """Normal equations over the free poses: J' W J x = -J' W r."""
    number = np.full(size, -1, dtype=np.int64)
    number[free] = np.arange(len(free))
    error = residuals(poses, measured)
    by_first, by_second = derivatives(poses, measured, error)
    weighed_first = by_first.transpose(0, 2, 1) @ measured.information
    weighed_second = by_second.transpose(0, 2, 1) @ measured.information
    first, second = number[measured.first], number[measured.second]
    is_first, is_second = first >= 0, second >= 0
    rows = np.concatenate([first[is_first], second[is_second]])
    blocks = np.concatenate([(weighed_first @ by_first)[is_first], (weighed_second @ by_second)[is_second]])
    pulls = np.concatenate(
        [(weighed_first @ error[:, :, None])[is_first, :, 0], (weighed_second @ error[:, :, None])[is_second, :, 0]]
    )
    both = is_first & is_second
    beside = merged(len(free), first[both], second[both], (weighed_first @ by_second)[both])
    return Blocks(summed(rows, blocks, len(free)), *beside), -summed(rows, pulls, len(free))


def _damped(matrix: Blocks, damping: float) -> Blocks:
    """With its diagonal made larger by a share, and never zero: a pose that nothing holds stays where it is."""
    diagonal = matrix.diagonal.copy()
    inside = np.arange(6)
    diagonal[:, inside, inside] += damping * diagonal[:, inside, inside] + 1e-9
    return replace(matrix, diagonal=diagonal)


def _left_inverse(turns: Array) -> Array:
    """(E, 3, 3) inverse left Jacobian of SO(3) at rotation vectors (E, 3)."""
    hat = skew(turns)
    angle2 = (turns**2).sum(1)
    angle = np.sqrt(angle2)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = (1.0 - (angle / 2) / np.tan(angle / 2)) / angle2
    factor = np.where(angle < _SMALL_ANGLE, 1 / 12 + angle2 / 720, factor)
    return np.eye(3) - 0.5 * hat + factor[:, None, None] * (hat @ hat)


def _right_inverse(tangents: Array) -> Array:
    """(E, 6, 6) inverse right Jacobian of SE(3).

    It is I + ad/2 + a ad^2 + b ad^4, because ad^5 = -2 t^2 ad^3 - t^4 ad with t the angle: a and b follow from
    (x/2) coth(x/2) and its derivative at x = i t, where (t/2) cot(t/2) stands.
    """
    turn = skew(tangents[:, 3:])
    small = np.zeros((len(tangents), 6, 6))
    small[:, :3, :3] = small[:, 3:, 3:] = turn
    small[:, :3, 3:] = skew(tangents[:, :3])
    angle = np.linalg.norm(tangents[:, 3:], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        half = angle / 2
        value = half / np.tan(half)
        slope = 0.5 / np.tan(half) - half / 2 / np.sin(half) ** 2
        b = (slope + 2 * (1 - value) / angle) / (2 * angle**3)
        a = (1 - value) / angle**2 + b * angle**2
    is_small = angle < 0.2  # the quotients lose digits by the fifth power of the angle
    a = np.where(is_small, 1 / 12 - angle**4 / 30240, a)
    b = np.where(is_small, -1 / 720 - angle**2 / 15120, b)
    square = small @ small
    return np.eye(6) + small / 2 + a[:, None, None] * square + b[:, None, None] * (square @ square)
