"""Two pictures of one rigid scene: epipolar geometry."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from d2vpr_ros.geometry import Array
from d2vpr_ros.multiview.adjustment import skew
from d2vpr_ros.multiview.matching import align, mutual_matches
from d2vpr_ros.multiview.params import DEFAULT_PARAMS, GeometryParams
from d2vpr_ros.multiview.view import Points, View

_THRESHOLD_PX = 1.0  # from the epipolar line; points are aligned
_CONFIDENCE, _ITERATIONS = 0.999, 500
_LEAST_MATCHES = 8


def two_view_inliers(query: View, place: View, params: GeometryParams = DEFAULT_PARAMS) -> tuple[Points, Points]:
    """Points (N, 2) of two views that move as those of a rigid scene would; no lens is needed."""
    rows, columns = mutual_matches(query.descriptors, place.descriptors, params.least_cosine)
    aligned, found = align(place.levelled, query.levelled, place.points[columns], query.points[rows], params)
    seen, stored = aligned[found], place.points[columns][found]
    inside = fundamental_inliers(seen, stored)
    return seen[inside], stored[inside]


def fundamental_inliers(seen: Points, stored: Points) -> npt.NDArray[np.bool_]:
    """(N,) which matches fit the fundamental matrix that most of them fit (MAGSAC, Barath et al., CVPR 2019)."""
    nothing = np.zeros(len(seen), np.bool_)
    if len(seen) < _LEAST_MATCHES:
        return nothing
    try:
        found, mask = cv2.findFundamentalMat(seen, stored, usac(_THRESHOLD_PX, _ITERATIONS))
    except cv2.error:  # OpenCV asserts that every local optimum has a model; matches all on a line have none
        return nothing
    return nothing if found is None or mask is None else np.asarray(mask).reshape(-1) > 0


def epipolar_distances(a: Array, b: Array, rotation: Array, translation: Array) -> Array:
    """Symmetric distances of matched rays from each other's epipolar line, over the focal length.

    Args:
        a, b: (N, 2) x/z, y/z in the two optical frames.
        rotation, translation: T_b_a.
    """
    essential = skew(translation) @ rotation
    first, second = (np.column_stack([rays, np.ones(len(rays))]) for rays in (a, b))
    lines_b, lines_a = first @ essential.T, second @ essential
    products = np.abs((second * lines_b).sum(axis=1))
    slopes = np.sqrt((lines_b[:, :2] ** 2).sum(axis=1) + (lines_a[:, :2] ** 2).sum(axis=1))
    # Sampson's distance; a camera that only turned has no lines, and every ray fits.
    return np.asarray(products / np.maximum(slopes, 1e-12))


def usac(threshold_px: float, iterations: int, score: int = cv2.SCORE_METHOD_MAGSAC) -> cv2.UsacParams:
    """OpenCV's robust estimation with what its flags leave open: the random numbers, and one thread."""
    magsac = score == cv2.SCORE_METHOD_MAGSAC
    chosen = cv2.UsacParams()
    chosen.sampler = cv2.SAMPLING_UNIFORM
    chosen.score = score
    chosen.loMethod = cv2.LOCAL_OPTIM_SIGMA if magsac else cv2.LOCAL_OPTIM_NULL  # resect refines by itself
    chosen.threshold = threshold_px
    chosen.confidence = _CONFIDENCE
    chosen.maxIterations = iterations
    chosen.isParallel = False
    chosen.randomGeneratorState = 0
    return chosen
