"""The pose of a camera from the landmarks that it sees, with its covariance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from d2vpr_ros.geometry import Array, Pose
from d2vpr_ros.multiview.adjustment import ray_derivatives, skew
from d2vpr_ros.multiview.landmarks import Landmarks
from d2vpr_ros.multiview.matching import align, mutual_matches
from d2vpr_ros.multiview.params import DEFAULT_PARAMS, GeometryParams
from d2vpr_ros.multiview.two_view import usac
from d2vpr_ros.multiview.view import Picture, Points, View

_ITERATIONS = 500  # of RANSAC
_LEAST_MATCHES = 6  # four for a pose and its sign, and two that agree
_ROUNDS, _DONE = 15, 1e-6  # of the refinement; radians and metres
_NEAREST = 0.05  # metres; what is nearer than that is behind the camera
_CELLS = 4  # across and down: inliers in few of these parts of the picture say little


@dataclass(frozen=True, eq=False)
class Ground:
    """What a robot on the ground has in common with the place: which way is up, and how high the camera is.

    Attributes:
        up: (3,) unit vector, up in the camera's optical frame.
        height: of the camera in the map frame, metres.
    """

    up: Array
    height: float

    def tilt(self, pose: Pose) -> float:
        """The angle in radians between up as a pose T_map_camera and as the ground has it."""
        up = pose.rotation.inv().apply([0.0, 0.0, 1.0])
        return float(np.arccos(np.clip(up @ self.up, -1.0, 1.0)))


@dataclass(frozen=True, eq=False)
class Matched:
    """Points of a view and the landmarks they seem to be.

    Attributes:
        pixels: (N, 2) of the view.
        points: (N,) rows of the view's points; one may be matched with landmarks of several places.
        positions, covariances: (N, 3), (N, 3, 3) of the landmarks, map frame.
        visible: how many landmarks there were to match.
    """

    pixels: Points
    points: npt.NDArray[np.int64]
    positions: Array
    covariances: Array
    visible: int

    def __len__(self) -> int:
        return len(self.points)

    def of(self, kept: npt.NDArray[np.bool_]) -> Matched:
        """These matches alone."""
        parts = self.pixels[kept], self.points[kept], self.positions[kept], self.covariances[kept]
        return Matched(*parts, self.visible)


@dataclass(frozen=True, eq=False)
class Resection:
    """A camera's pose in the map, and how good it is.

    Attributes:
        pose: T_map_cameraOptical.
        covariance: (6, 6) over (x, y, z, rotation about x, y, z) in the map frame, metres and radians
            (geometry_msgs/PoseWithCovariance), given the landmarks.
        inliers: points of the view that fit.
        share: of the landmarks that should be in the picture, how many fit, 0 to 1.
        spread: share of sixteen parts of the picture that hold inliers, 0 to 1.
        residual_px: median reprojection error of the inliers.
        score: inliers, those that fit badly counting less (MSAC); compares lenses.
        pixels, seen: (N, 2), (N, 3) the inliers in the view and their landmarks in the map.
    """

    pose: Pose
    covariance: Array
    inliers: int
    share: float
    spread: float
    residual_px: float
    score: float
    pixels: Points
    seen: Array


def match_landmarks(
    view: View, places: Sequence[tuple[Landmarks, Picture]], params: GeometryParams = DEFAULT_PARAMS
) -> Matched:
    """Match a view with the landmarks of places; no lens is needed.

    Args:
        places: at least one: landmarks, and the place's picture, levelled.
    """
    pixels, points, positions, covariances = [], [], [], []
    for landmarks, picture in places:
        rows, columns = mutual_matches(view.descriptors, landmarks.descriptors, params.least_cosine)
        aligned, found = align(picture, view.levelled, landmarks.pixels[columns], view.points[rows], params)
        pixels.append(aligned[found])
        points.append(rows[found])
        positions.append(landmarks.positions[columns[found]])
        covariances.append(landmarks.covariances[columns[found]])
    return Matched(
        np.concatenate(pixels),
        np.concatenate(points),
        np.concatenate(positions),
        np.concatenate(covariances),
        max(len(landmarks) for landmarks, _ in places),  # neighbours show the same points
    )


def resect(
    all_matched: Matched, view: View, ground: Ground | None = None, params: GeometryParams = DEFAULT_PARAMS
) -> Resection | None:
    """Where the camera of a view, which has a lens, stood: P3P in RANSAC, then least squares with a robust loss.

    The refinement weighs a residual by the point's own deviation and by the landmark's, so that what lies far away
    tells the heading and little of the position.

    Returns:
        None where fewer than `params.least_inliers` points agree on a pose.
    """
    assert view.lens is not None
    focal = view.lens.focal_px
    rays, good = view.lens.rays(all_matched.pixels)
    matched, rays = all_matched.of(good), rays[good]
    start = _start(matched, rays, focal, params)
    if start is None:
        return None
    rotation, position = start
    shared = 1 / np.bincount(matched.points)[matched.points]  # of a point's weight, for each of its landmarks
    information = np.eye(6)
    for _ in range(_ROUNDS):
        terms = _residuals(matched, rays, rotation, position, focal, params)
        robust = terms.ahead / (1 + terms.squares / params.loss_scale**2) ** 2 * shared
        weighted = np.swapaxes(terms.jacobians, 1, 2) @ terms.informations * robust[:, None, None]
        information = (weighted @ terms.jacobians).sum(axis=0)
        gradient = (weighted @ terms.residuals[:, :, None]).sum(axis=0)[:, 0]
        if ground is not None:
            more, slope = _ground_terms(ground, rotation, position, params)
            information, gradient = information + more, gradient + slope
        step = -np.linalg.solve(information + 1e-6 * np.eye(6), gradient)
        rotation = rotation @ Rotation.from_rotvec(step[:3]).as_matrix()
        position = position + step[3:]
        if not np.isfinite(position).all():
            return None
        if np.linalg.norm(step) < _DONE:
            break
    terms = _residuals(matched, rays, rotation, position, focal, params)
    errors = np.linalg.norm(terms.residuals, axis=1)
    inside = terms.ahead & (errors <= params.inlier_px)
    _, best = np.unique(matched.points[inside], return_index=True)
    kept = np.flatnonzero(inside)[best]
    if len(kept) < params.least_inliers:
        return None
    # A residual is two numbers, of which the pose takes six: were they larger than expected, so is the covariance. And
    # where few of the matches fit, some of those that do only seem to.
    excess = max(1.0, terms.squares[kept].sum() / max(1, 2 * len(kept) - 6))
    doubtful = len(np.unique(matched.points)) / len(kept)
    scale = params.covariance_factor * excess * doubtful
    covariance = _in_map(np.linalg.inv(information + 1e-6 * np.eye(6)) * scale, rotation)
    return Resection(
        Pose(position, Rotation.from_matrix(rotation).as_quat()),
        covariance,
        len(kept),
        min(1.0, len(kept) / max(1, matched.visible)),
        _spread(matched.pixels[kept], view),
        float(np.median(errors[kept])),
        float((1 - (errors[kept] / params.inlier_px) ** 2).sum()),
        matched.pixels[kept],
        matched.positions[kept],
    )


def _start(matched: Matched, rays: Array, focal: float, params: GeometryParams) -> tuple[Array, Array] | None:
    """Rotation (3, 3) and position (3,) of T_map_camera that most matches agree with."""
    if len(matched) < _LEAST_MATCHES:
        return None
    chosen = usac(params.inlier_px, _ITERATIONS, cv2.SCORE_METHOD_MSAC)
    centre = matched.positions.mean(axis=0)  # far from the map's origin single precision would tell
    try:
        found, _, turned, moved, inliers = cv2.solvePnPRansac(  # type: ignore[call-overload]
            matched.positions - centre, rays * focal, np.diag([focal, focal, 1.0]), None, params=chosen
        )
    except cv2.error:  # as in two_view
        return None
    if not found or inliers is None or not (np.isfinite(turned).all() and np.isfinite(moved).all()):
        return None
    rotation = cv2.Rodrigues(turned)[0].T
    return rotation, centre - (rotation @ moved).reshape(3)


@dataclass(frozen=True, eq=False)
class _Terms:
    """Residuals of all matches.

    Attributes:
        residuals: (N, 2) pixels.
        jacobians: (N, 2, 6) by the rotation vector in the camera's frame and the position in the map.
        informations: (N, 2, 2) inverse covariances of the residuals.
        squares: (N,) squared Mahalanobis distances.
        ahead: (N,) whether the landmark is in front of the camera.
    """

    residuals: Array
    jacobians: Array
    informations: Array
    squares: Array
    ahead: npt.NDArray[np.bool_]


def _residuals(
    matched: Matched, rays: Array, rotation: Array, position: Array, focal: float, params: GeometryParams
) -> _Terms:
    seen = (matched.positions - position) @ rotation
    ahead = seen[:, 2] > _NEAREST
    seen[~ahead] = (0.0, 0.0, 1.0)
    residuals = (seen[:, :2] / seen[:, 2:] - rays) * focal
    to_pixels = ray_derivatives(seen) * focal
    by_landmark = to_pixels @ rotation.T
    jacobians = np.concatenate([to_pixels @ skew(seen), -by_landmark], axis=2)
    covariances = by_landmark @ matched.covariances @ np.swapaxes(by_landmark, 1, 2)
    informations = np.asarray(np.linalg.inv(covariances + params.point_sigma_px**2 * np.eye(2)), np.float64)
    squares = np.einsum("ni,nij,nj->n", residuals, informations, residuals)
    return _Terms(residuals, jacobians, informations, squares, ahead)


def _ground_terms(ground: Ground, rotation: Array, position: Array, params: GeometryParams) -> tuple[Array, Array]:
    """Information (6, 6) and gradient (6,) of the priors on tilt and height."""
    up = rotation[2]  # the map's z axis in the camera's frame
    by_turn, tilt = skew(up), up - ground.up
    of_tilt, of_height = (
        1 / np.radians(params.ground_tilt_sigma_deg) ** 2,
        1 / params.ground_height_sigma_m**2,
    )
    information, gradient = np.zeros((6, 6)), np.zeros(6)
    information[:3, :3] = by_turn.T @ by_turn * of_tilt
    gradient[:3] = by_turn.T @ tilt * of_tilt
    information[5, 5] = of_height
    gradient[5] = (position[2] - ground.height) * of_height
    return information, gradient


def _in_map(covariance: Array, rotation: Array) -> Array:
    """From (rotation in the camera's frame, position in the map) to (position, rotation), both in the map."""
    into = np.zeros((6, 6))
    into[:3, 3:] = np.eye(3)
    into[3:, :3] = rotation
    turned = into @ covariance @ into.T
    return np.asarray((turned + turned.T) / 2)


def _spread(pixels: Points, view: View) -> float:
    height, width = view.levelled.shape
    cells = np.floor(pixels / (width, height) * _CELLS).clip(0, _CELLS - 1)
    return len(np.unique(cells, axis=0)) / _CELLS**2
