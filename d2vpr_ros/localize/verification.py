"""Do two pictures show one place? Points that match and move as those of a rigid scene would, seen from two places.

Corners (Shi and Tomasi, CVPR 1994) with descriptors of SIFT (Lowe, IJCV 2004) that are left upright, at one scale: a
robot's camera does not roll, and what rotation invariance costs in distinctness is what tells night from noon.
RootSIFT (Arandjelovic and Zisserman, CVPR 2012); mutual nearest neighbours with Lowe's ratio; MAGSAC (Barath et al.,
CVPR 2019). models/bench/verification.py compares the detectors and measures what inliers are worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

import cv2
import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import Array, scale_camera_matrix
from d2vpr_ros.images.decode import decode_compressed
from d2vpr_ros.localize.distortion import undistorted
from d2vpr_ros.mapping.picture import shrink
from d2vpr_ros.multiview.two_view import usac

Picture = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float32]

_MOST_FEATURES = 400  # bounds the cost
_CORNER_QUALITY = 0.005  # of the best corner's
_CORNERS_APART = 4.0  # pixels
_FEATURE_SIZE = 4.0  # pixels; SIFT describes a window six times as wide
_LEAST_SIDE = 32  # pixels; a smaller picture holds no window to compare

_RATIO = 0.9
_THRESHOLD = 1.0  # pixels from the epipolar line
_ITERATIONS = 1000
_LEAST_MATCHES = 8
_ROTATION_ITERATIONS = 50  # among inliers

_LEAST_FOR_ROTATION = 40  # inliers; with fewer a robot that heads as the map does is sometimes told worse than that
_TURN_APART, _TURN_ROUNDS = np.radians(6.0), 10


@dataclass(frozen=True, eq=False)
class Features:
    """Points of one picture at its stored size (`mapping.picture.shrink`).

    Attributes:
        points: (N, 2) float32 x, y, pixels; as a pinhole camera would have them, where the distortion is known.
        descriptors: (N, 128) float32 of unit length.
        k: (3, 3) float64 intrinsics at that size; None where not known.
    """

    points: Points
    descriptors: npt.NDArray[np.float32]
    k: Array | None


NO_FEATURES = Features(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32), None)


@dataclass(frozen=True, eq=False)
class Verification:
    """What two pictures have in common.

    Attributes:
        inliers: matches that fit one motion of the camera. Ten are chance; 99 % of pairs of different places have
            fewer than 23.
        matches: before that.
        rotation: of T_place_query, from the query camera's optical frame to the place camera's: p_place = rotation
            p_query + translation, so T_map_place's rotation times it is the query camera's in the map. In the simulated
            town, 1.5 m aside, it is off by 0.4 degrees (95 %: 1.5) with 60 inliers and more, by 1.4 (95 %: 6.4) with
            fewer. None without both intrinsics, with fewer than 40 inliers, and where it is not clear.
    """

    inliers: int = 0
    matches: int = 0
    rotation: Rotation | None = None


def extract_stored(jpeg: bytes, k: Array | None = None, d: Sequence[float] = ()) -> Features:
    """The features of a place's stored picture; none in a damaged one."""
    try:
        return extract(decode_compressed(np.frombuffer(jpeg, np.uint8)), k, d)
    except (UserError, cv2.error):  # OpenCV has limits of its own. It verifies nothing; `d2vpr map check` names it
        return NO_FEATURES


def extract(rgb: Picture, k: Array | None = None, d: Sequence[float] = ()) -> Features:
    """The features of a picture, for `compare`.

    Args:
        rgb: (H, W, 3) uint8 RGB.
        k: (3, 3) intrinsics at that size; what is none (an uncalibrated driver publishes zeros) counts as not known.
        d: distortion (`distortion.known_distortion`).
    """
    if min(rgb.shape[:2]) < _LEAST_SIDE:
        return NO_FEATURES
    small = shrink(rgb)
    height, width = small.shape[:2]
    if min(height, width) < _LEAST_SIDE:  # a strip
        return NO_FEATURES
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    corners = cv2.goodFeaturesToTrack(grey, _MOST_FEATURES, _CORNER_QUALITY, _CORNERS_APART)
    if corners is None:
        return NO_FEATURES
    # Keypoints of octave 0 let SIFT start from the picture itself; its own detector doubles the picture first.
    upright = [cv2.KeyPoint(float(x), float(y), _FEATURE_SIZE, angle=0.0) for x, y in corners.reshape(-1, 2)]
    kept, histograms = cv2.SIFT.create().compute(grey, upright)
    descriptors = np.sqrt(histograms / np.maximum(histograms.sum(axis=1, keepdims=True), 1e-6))
    scaled = scale_camera_matrix(k, width / rgb.shape[1], height / rgb.shape[0]) if _is_camera_matrix(k) else None
    points = np.array([keypoint.pt for keypoint in kept], np.float32)
    if scaled is None or not d:
        return Features(points, descriptors, scaled)
    straight, good = undistorted(points, scaled, d)
    return Features(straight[good], descriptors[good], scaled)


def _is_camera_matrix(k: Array | None) -> TypeGuard[Array]:
    return k is not None and bool(
        np.isfinite(k).all() and k[0, 0] > 0 and k[1, 1] > 0 and k[1, 0] == 0 and np.array_equal(k[2], [0, 0, 1])
    )


def compare(query: Features, place: Features) -> Verification:
    """What two pictures have in common; the same ones always have the same."""
    rows, columns = _matches(query.descriptors, place.descriptors)
    if len(rows) < _LEAST_MATCHES:
        return Verification(0, len(rows))
    seen, stored = query.points[rows], place.points[columns]
    # Counted alike whether intrinsics are known or not, and in a tenth of the time that an essential matrix takes.
    inside = _one_motion(seen, stored)
    inliers = int(inside.sum())
    rotation = None
    if query.k is not None and place.k is not None and inliers >= _LEAST_FOR_ROTATION:
        rotation = _rotation(seen[inside], stored[inside], query.k, place.k)
    return Verification(inliers, len(rows), rotation)


def _matches(
    query: npt.NDArray[np.float32], place: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows and columns of mutual nearest neighbours that are clearly nearer than the second nearest."""
    if min(len(query), len(place)) < _LEAST_MATCHES:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    similar = query @ place.T
    every = np.arange(len(query))
    second, best = np.argpartition(similar, -2, axis=1)[:, -2:].T
    distance, next_distance = 1 - similar[every, best], 1 - similar[every, second]
    good = (distance < _RATIO**2 * next_distance) & (similar.argmax(axis=0)[best] == every)
    return every[good], best[good]


def _one_motion(seen: Points, stored: Points) -> npt.NDArray[np.bool_]:
    """(N,) which matches fit the fundamental matrix that most of them fit."""
    try:
        found, mask = cv2.findFundamentalMat(seen, stored, usac(_THRESHOLD, _ITERATIONS))
    except cv2.error:  # OpenCV asserts that every local optimum has a model; matches all on a line have none
        found, mask = None, None
    if found is None or mask is None:
        return np.zeros(len(seen), np.bool_)
    return np.asarray(mask).reshape(-1) > 0


def _rotation(seen: Points, stored: Points, query_k: Array, place_k: Array) -> Rotation | None:
    """The smaller of the two rotations of the essential matrix, where a mere turn of the camera tells nearly the same.

    The other one is that turned half around about the baseline. Depths would choose, too, but a camera that only
    turned has none. What lies on one wall or far ahead leaves a turn and a step aside mixed up: then the two differ.
    """
    try:
        essential, _ = cv2.findEssentialMat(  # type: ignore[call-overload]
            seen, stored, query_k, place_k, None, None, usac(_THRESHOLD, _ROTATION_ITERATIONS)
        )
    except cv2.error:  # as above
        return None
    if essential is None:
        return None
    first, second, _ = cv2.decomposeEssentialMat(essential)
    smaller = min((Rotation.from_matrix(first), Rotation.from_matrix(second)), key=lambda one: float(one.magnitude()))
    apart = (_turn(_rays(seen, query_k), _rays(stored, place_k)).inv() * smaller).magnitude()
    return smaller if apart < _TURN_APART else None


def _rays(points: Points, k: Array) -> Array:
    """(N, 3) directions of pixels, of unit length."""
    rays = np.column_stack([points, np.ones(len(points))]) @ np.linalg.inv(k).T
    return np.asarray(rays / np.linalg.norm(rays, axis=1, keepdims=True))


def _turn(seen: Array, stored: Array) -> Rotation:
    """The rotation of rays onto others with the least sum of distances (least squares, reweighted)."""
    weights = np.ones(len(seen))
    for _ in range(_TURN_ROUNDS):
        turned, _ = Rotation.align_vectors(stored, seen, weights)
        weights = 1 / (1e-3 + np.linalg.norm(turned.apply(seen) - stored, axis=1))
    return turned
