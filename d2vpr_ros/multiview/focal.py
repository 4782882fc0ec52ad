"""Cameras that nobody calibrated: the focal length that fits the map's poses, or the landmarks that an image shows.

The centre is taken for the middle of the picture, and a lens for free of distortion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from d2vpr_ros.geometry import Array, Pose
from d2vpr_ros.multiview.lens import Lens, plain_lens
from d2vpr_ros.multiview.params import DEFAULT_PARAMS, GeometryParams
from d2vpr_ros.multiview.resection import Ground, Matched, Resection, resect
from d2vpr_ros.multiview.two_view import epipolar_distances, two_view_inliers
from d2vpr_ros.multiview.view import View

_SHORTEST, _LONGEST, _TRIED = 0.35, 3.0, 13  # focal length over the longer side: 110 to 19 degrees across
_NEAR = 0.1  # of the logarithm, on both sides of a focal length that is known roughly
_EXACT = 0.005  # of the logarithm, where a search ends
_LEAST_IN_PAIR = 30  # inliers of two views that tell of their epipolar geometry
_LEAST_PAIRS, _PARTS = 5, 5
_WORST = 3.0  # pixels of epipolar distance; what is further off counts as this


@dataclass(frozen=True)
class Focal:
    """A focal length that was estimated.

    Attributes:
        ratio: over the longer side of the picture.
        sigma: deviation of its logarithm.
    """

    ratio: float
    sigma: float

    def lens(self, width: int, height: int) -> Lens:
        """For pictures of one size."""
        return plain_lens(self.ratio * max(width, height), width, height)


@dataclass(frozen=True, eq=False)
class Pair:
    """Two views of one camera, and how the map says that it moved.

    Attributes:
        first, second: (N, 2) pixels of points that both show.
        motion: T_second_first.
    """

    first: Array
    second: Array
    motion: Pose


def find_pair(first: View, second: View, motion: Pose, params: GeometryParams = DEFAULT_PARAMS) -> Pair | None:
    """Two views as evidence of their camera's focal length; None where they have too little in common."""
    seen, stored = two_view_inliers(second, first, params)
    return None if len(seen) < _LEAST_IN_PAIR else Pair(stored.astype(float), seen.astype(float), motion)


def focal_from_poses(pairs: Sequence[Pair], width: int, height: int, most_sigma: float) -> Focal | None:
    """The focal length with the least epipolar distances under the motions that a map states.

    Returns:
        None where the pairs do not tell: a camera that never turned, or poses that do not fit the pictures.
    """
    if len(pairs) < _LEAST_PAIRS:
        return None

    def cost_of(some: Sequence[Pair]) -> Callable[[float], float]:
        return lambda logarithm: _epipolar_cost(some, plain_lens(np.exp(logarithm) * max(width, height), width, height))

    best = _least(cost_of(pairs))
    if best is None:
        return None
    # A jackknife: what the estimate moves by when a part of the pairs is left out.
    without = [_least(cost_of([pair for n, pair in enumerate(pairs) if n % _PARTS != part])) for part in range(_PARTS)]
    if any(one is None for one in without):
        return None
    sigma = float(np.sqrt((_PARTS - 1) * np.var([one for one in without if one is not None])))
    return Focal(float(np.exp(best)), max(sigma, _EXACT)) if sigma <= most_sigma else None


def focal_from_landmarks(
    matched: Matched,
    view: View,
    ground: Ground | None,
    near: Focal | None = None,
    params: GeometryParams = DEFAULT_PARAMS,
) -> tuple[Focal, Resection] | None:
    """The focal length with which most landmarks fit one pose, and that pose; None where too few fit with any.

    Args:
        near: looks about this one only, which takes a third of the time.
    """
    height, width = view.levelled.shape

    def with_focal(logarithm: float) -> Resection | None:
        lens = plain_lens(np.exp(logarithm) * max(width, height), width, height)
        return resect(matched, view.with_lens(lens), ground, params)

    def cost(logarithm: float) -> float:
        found = with_focal(logarithm)
        return 0.0 if found is None else -found.score

    best = _least(cost) if near is None else _between(cost, np.log(near.ratio) - _NEAR, np.log(near.ratio) + _NEAR)
    found = None if best is None else with_focal(best)
    if best is None or found is None:
        return None
    # The score falls by half an inlier at one deviation: a parabola through three focal lengths about the best.
    step = 0.1
    bend = (cost(best - step) + cost(best + step) + 2 * found.score) / step**2
    return Focal(float(np.exp(best)), float(np.clip(1 / np.sqrt(max(bend, 1e-6)), _EXACT, 1.0))), found


def joined(estimates: Sequence[Focal]) -> Focal:
    """One focal length from those of several images: the median, and what they scatter by."""
    logarithms = np.log([one.ratio for one in estimates])
    middle = float(np.median(logarithms))
    scatter = 1.4826 * float(np.median(np.abs(logarithms - middle)))  # of a normal distribution, its deviation
    usual = float(np.median([one.sigma for one in estimates]))
    # Not less for many: what the map's landmarks err by is the same in all of them.
    return Focal(float(np.exp(middle)), max(scatter, usual, _EXACT))


def _epipolar_cost(pairs: Sequence[Pair], lens: Lens) -> float:
    total, count = 0.0, 0
    for pair in pairs:
        first, second = lens.rays(pair.first.astype(np.float32))[0], lens.rays(pair.second.astype(np.float32))[0]
        turn = pair.motion.rotation.as_matrix()
        distances = epipolar_distances(first, second, turn, pair.motion.position) * lens.focal_px
        total += float((np.minimum(distances, _WORST) ** 2).sum())
        count += len(distances)
    return total / count


def _least(cost: Callable[[float], float]) -> float | None:
    """The logarithm of the ratio with the least cost; None where that is the shortest or longest tried."""
    tried = np.linspace(np.log(_SHORTEST), np.log(_LONGEST), _TRIED)
    costs = np.array([cost(float(one)) for one in tried])
    best = int(costs.argmin())
    if best in (0, len(tried) - 1) or costs[best] >= costs[[0, -1]].min():
        return None
    return _between(cost, tried[best - 1], tried[best + 1])


def _between(cost: Callable[[float], float], low: float, high: float) -> float:
    found = minimize_scalar(cost, bounds=(low, high), method="bounded", options={"xatol": _EXACT})
    return float(found.x)


def with_lens_error(
    found: Resection, focal: Focal, matched: Matched, view: View, ground: Ground | None, params: GeometryParams
) -> Array:
    """(6, 6) covariance of a pose whose lens was estimated.

    Too long a focal length moves the camera back, a centre that is not in the middle turns it: the pose is found again
    with each of the three off by its deviation.
    """
    height, width = view.levelled.shape
    lens, covariance = focal.lens(width, height), found.covariance
    longer = focal.ratio * (float(np.exp(focal.sigma)) - 1) * max(width, height)
    aside = params.centre_sigma * max(width, height)
    for change in (np.diag([longer, longer, 0.0]), _entry(0, aside), _entry(1, aside)):
        other = resect(matched, view.with_lens(Lens(width, height, lens.k + change)), ground, params)
        if other is not None:
            turned = (other.pose.rotation * found.pose.rotation.inv()).as_rotvec()
            moved = np.concatenate([other.pose.position - found.pose.position, turned])
            covariance = covariance + np.outer(moved, moved)
    return covariance


def _entry(row: int, value: float) -> Array:
    """(3, 3) zeros with a value in the last column."""
    change = np.zeros((3, 3))
    change[row, 2] = value
    return change
