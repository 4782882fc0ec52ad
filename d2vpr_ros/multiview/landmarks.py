"""Landmarks of a place: points of its picture with their positions in the map, by triangulation with its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from d2vpr_ros.geometry import Array, Pose
from d2vpr_ros.multiview.adjustment import Priors, Scene, adjust, triangulate
from d2vpr_ros.multiview.matching import Descriptors, align, mutual_matches
from d2vpr_ros.multiview.params import DEFAULT_PARAMS, GeometryParams
from d2vpr_ros.multiview.two_view import epipolar_distances
from d2vpr_ros.multiview.view import Points, View

_FARTHEST = 500.0  # metres before adjustment; beyond, rays are parallel, and the landmark starts at the others' depth
_START_PX = 6.0  # pixels of epipolar distance that a map's poses may cause before they are adjusted


@dataclass(frozen=True, eq=False)
class Landmarks:
    """What one place shows, in the map.

    Attributes:
        positions: (N, 3) float64, map frame, metres.
        covariances: (N, 3, 3) float64 of the positions relative to the place, square metres.
        descriptors: (N, 64) float32 of unit length.
        pixels: (N, 2) float32 in the place's stored picture.
    """

    positions: Array
    covariances: Array
    descriptors: Descriptors
    pixels: Points

    def __len__(self) -> int:
        return len(self.positions)


def find_landmarks(
    views: Sequence[View], poses: Sequence[Pose], priors: Priors, params: GeometryParams = DEFAULT_PARAMS
) -> Landmarks | None:
    """The landmarks of the first of some views.

    Args:
        views: the place's own, then its neighbours'; all with a lens.
        poses: T_map_camera of each, as the map has them.
        priors: how far these poses are trusted.

    Returns:
        None where nothing can be triangulated.
    """
    scene, rows = _tracks(views, poses, params)
    if scene is None:
        return None
    scene = _started(scene)
    scene, _ = adjust(scene, priors, params.loss_scale)
    kept = _inliers(scene, params)
    if not kept.any():
        return None
    adjusted, covariances = adjust(scene.of(kept), priors, params.loss_scale)
    return _chosen(adjusted, covariances, rows, views[0], params)


def _tracks(
    views: Sequence[View], poses: Sequence[Pose], params: GeometryParams
) -> tuple[Scene | None, npt.NDArray[np.int64]]:
    """The observations of the first view's points in all views, and which of its points they are of."""
    first, lens = views[0], views[0].lens
    assert lens is not None
    rotations = np.stack([pose.rotation.as_matrix() for pose in poses])
    positions = np.stack([pose.position for pose in poses])
    own_rays, own_good = lens.rays(first.points)
    cameras, points, rays, weights = [], [], [], []
    for number, view in enumerate(views[1:], 1):
        assert view.lens is not None
        rows, columns = mutual_matches(first.descriptors, view.descriptors, params.least_cosine)
        aligned, found = align(first.levelled, view.levelled, first.points[rows], view.points[columns], params)
        seen, good = view.lens.rays(aligned)
        turn = rotations[number].T @ rotations[0]
        step = rotations[number].T @ (positions[0] - positions[number])
        distances = epipolar_distances(own_rays[rows], seen, turn, step)
        good &= found & own_good[rows] & (distances * view.lens.focal_px <= _START_PX)
        cameras.append(np.full(int(good.sum()), number))
        points.append(rows[good])
        rays.append(seen[good])
        weights.append(np.full(int(good.sum()), view.lens.focal_px / params.point_sigma_px))
    tracked = np.unique(np.concatenate(points)) if points else np.zeros(0, np.int64)
    if not len(tracked):
        return None, tracked
    numbers = np.zeros(len(first), np.int64)
    numbers[tracked] = np.arange(len(tracked))
    own = np.full(len(tracked), lens.focal_px / params.point_sigma_px)
    scene = Scene(
        rotations,
        positions,
        np.zeros((len(tracked), 3)),
        np.concatenate([np.zeros(len(tracked), np.int64), *cameras]),
        numbers[np.concatenate([tracked, *points])],
        np.concatenate([own_rays[tracked], *rays]),
        np.concatenate([own, *weights]),
    )
    return scene, tracked


def _started(scene: Scene) -> Scene:
    """The scene with its landmarks triangulated; those behind the camera or nowhere at the others' median depth."""
    found = triangulate(scene)
    own = scene.rays[: len(found)]  # the place's observations come first, in order
    depths = (found - scene.positions[0]) @ scene.rotations[0][:, 2]
    astray = ~np.isfinite(depths) | (depths <= 0.0) | (depths > _FARTHEST)
    usual = float(np.median(depths[~astray])) if not astray.all() else 1.0
    directions = np.column_stack([own, np.ones(len(own))]) @ scene.rotations[0].T
    found[astray] = scene.positions[0] + usual * directions[astray]
    return replace(scene, landmarks=found)


def _inliers(scene: Scene, params: GeometryParams) -> npt.NDArray[np.bool_]:
    """(M,) observations that fit, of landmarks that the place and a neighbour see."""
    near = np.linalg.norm(scene.residuals(), axis=1) * params.point_sigma_px <= params.inlier_px
    of_place = np.bincount(scene.points[near & (scene.cameras == 0)], minlength=len(scene.landmarks)) > 0
    views = np.bincount(scene.points[near], minlength=len(scene.landmarks))
    return np.asarray(near & (of_place & (views >= 2))[scene.points])


def _chosen(
    scene: Scene,
    covariances: Array,
    rows: npt.NDArray[np.int64],
    view: View,
    params: GeometryParams,
) -> Landmarks | None:
    kept = _inliers(scene, params)
    rays = scene.landmarks[scene.points] - scene.positions[scene.cameras]
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    own = scene.landmarks - scene.positions[0]
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    angles = np.arccos(np.clip((rays * own[scene.points]).sum(axis=1), -1, 1))
    parallax = np.zeros(len(scene.landmarks))
    np.maximum.at(parallax, scene.points[kept], angles[kept])
    good = parallax >= np.radians(params.least_parallax_deg)
    if not good.any():
        return None
    points = rows[good]
    return Landmarks(scene.landmarks[good], covariances[good], view.descriptors[points], view.points[points])
