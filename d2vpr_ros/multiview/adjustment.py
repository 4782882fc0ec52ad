"""Bundle adjustment of one place and its neighbours: landmarks and poses that fit the pictures, near the map's poses.

Levenberg-Marquardt on the reprojection errors (Triggs et al., Bundle Adjustment: A Modern Synthesis, 1999), landmarks
eliminated first (Schur complement), Cauchy's loss. Written out here because a place has seven cameras and three hundred
landmarks: a solver for large problems would take longer to set up than this takes to solve.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.spatial.transform import Rotation

from d2vpr_ros.geometry import Array

Numbers = npt.NDArray[np.int64]

_ROUNDS = 8
_DONE = 1e-4  # relative gain of a round
_DAMPING, _STEP, _LEAST_DAMPING, _MOST_DAMPING = 1e-3, 10.0, 1e-7, 1e6
_UNSEEN = 1e-12  # relative; keeps the inverse finite along a ray that only one camera saw
_ONE_THREAD = 2**18  # multiplications
_NEAREST = 0.05  # depth below which a landmark counts as behind the camera, metres


@dataclass(frozen=True, eq=False)
class Scene:
    """Cameras, landmarks, and which camera saw which landmark where.

    Attributes:
        rotations, positions: (C, 3, 3), (C, 3) T_map_camera.
        landmarks: (N, 3) in the map frame, metres.
        cameras, points: (M,) of each observation: the rows of its camera and of its landmark.
        rays: (M, 2) x/z, y/z of each observation.
        weights: (M,) one over the deviation of a ray: the focal length over the pixels that a point errs by.
    """

    rotations: Array
    positions: Array
    landmarks: Array
    cameras: Numbers
    points: Numbers
    rays: Array
    weights: Array

    def of(self, kept: npt.NDArray[np.bool_]) -> Scene:
        """The same scene with these observations alone."""
        seen = self.cameras[kept], self.points[kept], self.rays[kept], self.weights[kept]
        return Scene(self.rotations, self.positions, self.landmarks, *seen)

    def in_cameras(self) -> Array:
        """(M, 3) the landmark of each observation in its camera's optical frame."""
        from_camera = self.landmarks[self.points] - self.positions[self.cameras]
        return np.einsum("nji,nj->ni", self.rotations[self.cameras], from_camera)

    def residuals(self) -> Array:
        """(M, 2) in deviations of a ray; infinite behind the camera."""
        seen = self.in_cameras()
        ahead = seen[:, 2] > _NEAREST
        rays = seen[:, :2] / np.where(ahead, seen[:, 2], 1.0)[:, None]
        return np.where(ahead[:, None], (rays - self.rays) * self.weights[:, None], np.inf)


@dataclass(frozen=True)
class Priors:
    """How far the map's poses are trusted.

    Attributes:
        position_sigma_m, rotation_sigma: deviations of each axis, metres and radians.
    """

    position_sigma_m: float
    rotation_sigma: float


def times_transposed(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """(N, K) times (M, K) transposed, in one thread: for products of this size numpy's library wakes all of its."""
    return np.asarray(cv2.gemm(a, b, 1.0, None, 0.0, flags=cv2.GEMM_2_T))  # type: ignore[call-overload]


def _long_product(a: Array, b: Array) -> Array:
    """(N, K) times (N, K) transposed, for few rows and many columns, in one thread and in parts of the library's own
    kind: OpenBLAS wakes no thread for a product of up to 2^18 multiplications."""
    rows, columns = a.shape
    parts = -(-columns * rows**2 // _ONE_THREAD)
    wide = -(-columns // parts)
    padded = np.zeros((2, rows, parts * wide))
    padded[0, :, :columns], padded[1, :, :columns] = a, b
    first, second = padded.reshape(2, rows, parts, wide).transpose(0, 2, 1, 3)
    return np.asarray((first @ second.transpose(0, 2, 1)).sum(axis=0))


def skew(vectors: Array) -> Array:
    """(..., 3) -> (..., 3, 3): the matrix of the cross product from the left."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    zero = np.zeros_like(x)
    rows = [[zero, -z, y], [z, zero, -x], [-y, x, zero]]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def ray_derivatives(points: Array) -> Array:
    """(N, 3) in the optical frame -> (N, 2, 3): how x/z and y/z change with the point."""
    x, y, z = points.T
    zero = np.zeros_like(z)
    return np.stack([np.stack([1 / z, zero, -x / z**2], axis=-1), np.stack([zero, 1 / z, -y / z**2], axis=-1)], axis=-2)


def triangulate(scene: Scene) -> Array:
    """(N, 3) landmarks nearest to the rays that saw them, by linear least squares."""
    directions = np.einsum(
        "nij,nj->ni", scene.rotations[scene.cameras], np.column_stack([scene.rays, np.ones(len(scene.rays))])
    )
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    across = np.eye(3) - directions[:, :, None] * directions[:, None, :]
    offsets = np.einsum("nij,nj->ni", across, scene.positions[scene.cameras])
    gather = _gather(scene.points, len(scene.landmarks))
    normal = (gather @ across.reshape(-1, 9)).reshape(-1, 3, 3) + 1e-9 * np.eye(3)
    return np.asarray(np.linalg.solve(normal, (gather @ offsets)[:, :, None])[:, :, 0])


def adjust(scene: Scene, priors: Priors, loss_scale: float) -> tuple[Scene, Array]:
    """The scene that fits its pictures best; without observations of a landmark that begins behind their camera.

    Args:
        loss_scale: residual in deviations at which Cauchy's loss begins to flatten.

    Returns:
        The adjusted scene, and (N, 3, 3) covariances of its landmarks given the cameras, square metres.
    """
    start = scene = scene.of(np.asarray(np.isfinite(scene.residuals()).all(axis=1)))
    damping = _DAMPING
    weights = 1 / np.repeat([priors.rotation_sigma, priors.position_sigma_m], 3) ** 2
    sums = _gather(scene.cameras, len(scene.positions)), _gather(scene.points, len(scene.landmarks))
    moved = _moved(start, scene)
    cost = _cost(scene, moved, weights, loss_scale)
    for _ in range(_ROUNDS):
        equations = _Equations.of(scene, moved, weights, loss_scale, *sums)
        while True:
            tried = equations.step(scene, damping)
            moves = _moved(start, tried)
            new = _cost(tried, moves, weights, loss_scale)
            if new < cost or damping > _MOST_DAMPING:
                break
            damping *= _STEP
        if new >= cost:
            break
        gain, scene, moved, cost = (cost - new) / cost, tried, moves, new
        damping = max(damping / _STEP, _LEAST_DAMPING)
        if gain < _DONE:
            break
    equations = _Equations.of(scene, moved, weights, loss_scale, *sums)
    return scene, np.asarray(np.linalg.inv(_damped(equations.of_landmarks, _UNSEEN)), np.float64)


def _cost(scene: Scene, moved: Array, weights: Array, loss_scale: float) -> float:
    residuals = scene.residuals()
    if not np.isfinite(residuals).all():
        return np.inf
    squares = (residuals**2).sum(axis=1)
    robust = loss_scale**2 * np.log1p(squares / loss_scale**2).sum()
    return float(robust + (moved**2 @ weights).sum())


def _moved(start: Scene, scene: Scene) -> Array:
    """(C, 6) rotation vectors, in the cameras' frames, and steps in the map by which poses left the map's."""
    turned = np.einsum("nji,njk->nik", start.rotations, scene.rotations)
    return np.hstack([Rotation.from_matrix(turned).as_rotvec(), scene.positions - start.positions])


def _gather(rows: Numbers, count: int) -> csr_array:
    """(count, M) matrix that adds up what belongs to each row."""
    return csr_array((np.ones(len(rows)), (rows, np.arange(len(rows)))), shape=(count, len(rows)))


@dataclass(frozen=True, eq=False)
class _Equations:
    """The normal equations of one round, in the blocks that the Schur complement takes.

    Attributes:
        of_cameras, camera_gradient: (C, 6, 6), (C, 6).
        of_landmarks, landmark_gradient: (N, 3, 3), (N, 3).
        across: (C, N, 6, 3) between a camera and a landmark.
    """

    of_cameras: Array
    camera_gradient: Array
    of_landmarks: Array
    landmark_gradient: Array
    across: Array

    @staticmethod
    def of(
        scene: Scene,
        moved: Array,
        prior_weights: Array,
        loss_scale: float,
        to_camera: csr_array,
        to_landmark: csr_array,
    ) -> _Equations:
        """At a scene.

        Args:
            moved: (C, 6) of `_moved`.
            prior_weights: (6,) of its squares.
            to_camera, to_landmark: `_gather` of the observations of each.
        """
        count, cameras = len(scene.landmarks), len(scene.positions)
        seen, residuals = scene.in_cameras(), scene.residuals()
        robust = 1 / (1 + (residuals**2).sum(axis=1) / loss_scale**2)
        to_rays = ray_derivatives(seen) * scene.weights[:, None, None]
        by_landmark = to_rays @ np.swapaxes(scene.rotations[scene.cameras], 1, 2)
        by_camera = np.concatenate([to_rays @ skew(seen), -by_landmark], axis=2)
        weighted_camera, weighted_landmark = (j * robust[:, None, None] for j in (by_camera, by_landmark))
        back_camera, back_landmark = (np.swapaxes(j, 1, 2) for j in (weighted_camera, weighted_landmark))
        across = np.zeros((cameras, count, 6, 3))
        across[scene.cameras, scene.points] = back_camera @ by_landmark
        return _Equations(
            (to_camera @ (back_camera @ by_camera).reshape(-1, 36)).reshape(-1, 6, 6) + np.diag(prior_weights),
            to_camera @ (back_camera @ residuals[:, :, None])[:, :, 0] + moved * prior_weights,
            (to_landmark @ (back_landmark @ by_landmark).reshape(-1, 9)).reshape(-1, 3, 3),
            to_landmark @ (back_landmark @ residuals[:, :, None])[:, :, 0],
            across,
        )

    def step(self, scene: Scene, damping: float) -> Scene:
        """The scene after one damped step."""
        cameras, count = self.across.shape[:2]
        inverse = np.linalg.inv(_damped(self.of_landmarks, damping))
        eliminated = self.across @ inverse
        flat = (cameras * 6, count * 3)
        rows, columns = (block.transpose(0, 2, 1, 3).reshape(flat) for block in (eliminated, self.across))
        reduced = -_long_product(rows, columns)
        for camera, own in enumerate(_damped(self.of_cameras, damping)):
            at = slice(6 * camera, 6 * camera + 6)
            reduced[at, at] += own
        wanted = self.camera_gradient.reshape(-1) - rows @ self.landmark_gradient.reshape(-1)
        moves = -np.linalg.solve(reduced, wanted)
        back = self.landmark_gradient + (moves @ columns).reshape(count, 3)
        shifts = -np.einsum("nij,nj->ni", inverse, back)
        moves = moves.reshape(cameras, 6)
        return Scene(
            scene.rotations @ Rotation.from_rotvec(moves[:, :3]).as_matrix(),
            scene.positions + moves[:, 3:],
            scene.landmarks + shifts,
            scene.cameras,
            scene.points,
            scene.rays,
            scene.weights,
        )


def _damped(blocks: Array, damping: float) -> Array:
    """Blocks (..., K, K) with their diagonals enlarged (Marquardt), and never singular."""
    size = blocks.shape[-1]
    diagonal = np.einsum("...ii->...i", blocks)[..., None] * np.eye(size)
    return np.asarray(blocks + damping * diagonal + 1e-9 * np.eye(size))
