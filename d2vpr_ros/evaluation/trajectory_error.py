"""How far a trajectory is from the true one: absolute and relative errors, by the definitions of evo (Grupp 2017).

`python -m models.bench.loops --evo PYTHON` compares these numbers with evo's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from d2vpr_ros.geometry import Array
from d2vpr_ros.loops.graph import Poses


@dataclass(frozen=True, eq=False)
class AbsoluteError:
    """Root mean square distance of positions to the true ones, metres, after the alignment that makes it least.

    Attributes:
        rigid_m: with rotation and translation (SE(3)).
        scaled_m: with scale, too (Sim(3)): what is left beside the odometry's scale, which loops cannot show.
        scale: of that alignment.
        rigid: (N, 3) the positions after the first alignment.
    """

    rigid_m: float
    scaled_m: float
    scale: float
    rigid: Array


@dataclass(frozen=True, eq=False)
class Similarity:
    """Takes a point x of one frame to scale rotation x + shift in another.

    Attributes:
        rotation, shift: (3, 3), (3,) metres.
    """

    scale: float
    rotation: Array
    shift: Array

    @staticmethod
    def of(estimate: Array, truth: Array, with_scale: bool) -> Similarity:
        """What moves positions (N, 3) nearest to the true ones (Umeyama, TPAMI 1991); without scale it is 1."""
        centre, true_centre = estimate.mean(0), truth.mean(0)
        centred = estimate - centre
        u, sizes, v = np.linalg.svd((truth - true_centre).T @ centred)
        signs = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(v))])
        spread = float((centred**2).sum())
        scale = float(sizes @ signs) / spread if with_scale and spread > 0 else 1.0
        rotation = u * signs @ v
        return Similarity(scale, rotation, true_centre - scale * rotation @ centre)

    def moved(self, positions: Array) -> Array:
        """(N, 3) positions in the other frame."""
        return np.asarray(self.scale * positions @ self.rotation.T + self.shift)


def absolute_error(estimate: Array, truth: Array) -> AbsoluteError:
    """Of positions (N, 3), N at least 1, in any two frames."""
    rigid = Similarity.of(estimate, truth, with_scale=False).moved(estimate)
    scaled = Similarity.of(estimate, truth, with_scale=True)
    return AbsoluteError(_rms(rigid - truth), _rms(scaled.moved(estimate) - truth), scaled.scale, rigid)


def relative_errors(estimate: Poses, truth: Poses) -> tuple[Array, Array]:
    """(N,) metres and degrees: how far each pose T_estimate is from T_truth, within the latter's frame."""
    back = truth.rotations.transpose(0, 2, 1)
    turned = Rotation.from_matrix(back @ estimate.rotations).magnitude()
    return np.linalg.norm(estimate.positions - truth.positions, axis=1), np.degrees(turned)


def step_error(estimate: Poses, truth: Poses) -> tuple[float, float]:
    """Relative pose error from each pose to the next: root mean square, metres and degrees."""
    first = np.arange(len(estimate.positions) - 1)
    off_m, off_deg = relative_errors(estimate.between(first, first + 1), truth.between(first, first + 1))
    return float(np.sqrt(np.mean(off_m**2))), float(np.sqrt(np.mean(off_deg**2)))


def _rms(off: Array) -> float:
    return float(np.sqrt((off**2).sum(1).mean()))
