"""Which points of two pictures are one, to a fraction of a pixel."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from d2vpr_ros.multiview.adjustment import times_transposed
from d2vpr_ros.multiview.params import DEFAULT_PARAMS, GeometryParams
from d2vpr_ros.multiview.view import Picture, Points

Rows = npt.NDArray[np.int64]
Descriptors = npt.NDArray[np.float32]

_ROUNDS, _EXACT = 20, 0.01  # of the alignment; pixels


def mutual_matches(a: Descriptors, b: Descriptors, least_cosine: float) -> tuple[Rows, Rows]:
    """Rows of `a` and of `b` whose descriptors are each other's nearest.

    Args:
        a, b: (N, D), (M, D) float32 of unit length.
    """
    if not len(a) or not len(b):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    cosines = times_transposed(a, b)
    best = cosines.argmax(axis=1)
    every = np.arange(len(a))
    good = (cosines.argmax(axis=0)[best] == every) & (cosines[every, best] >= least_cosine)
    return every[good], best[good].astype(np.int64)


def align(
    source: Picture, target: Picture, points: Points, guesses: Points, params: GeometryParams = DEFAULT_PARAMS
) -> tuple[Points, npt.NDArray[np.bool_]]:
    """Move matched points so that the patches around them agree (Lucas and Kanade, 1981).

    The network tells a point to one or two pixels of a 320 px picture. The patches of two levelled pictures tell it to
    a third of that, and most points that are not one do not come together.

    Args:
        source, target: levelled pictures (`View.levelled`).
        points: (N, 2) in the source.
        guesses: (N, 2) in the target.

    Returns:
        (N, 2) float32 points in the target, and (N,) which of them were found close to their guess.
    """
    if not len(points):
        return np.zeros((0, 2), np.float32), np.zeros(0, np.bool_)
    window = params.alignment_window
    height, width = np.maximum(source.shape, target.shape)
    found, status, _ = cv2.calcOpticalFlowPyrLK(
        _filled(source, height, width),
        _filled(target, height, width),
        np.ascontiguousarray(points, np.float32).reshape(-1, 1, 2),
        np.array(guesses, np.float32).reshape(-1, 1, 2),
        winSize=(window, window),
        maxLevel=0,
        criteria=(cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, _ROUNDS, _EXACT),
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )
    moved = np.asarray(found, np.float32).reshape(-1, 2)
    inside = (moved >= 0).all(axis=1) & (moved <= np.array(target.shape[::-1]) - 1).all(axis=1)
    near = np.linalg.norm(moved - guesses, axis=1) <= params.alignment_most
    return moved, np.asarray((status.reshape(-1) > 0) & inside & near, np.bool_)


def _filled(picture: Picture, height: int, width: int) -> Picture:
    """A picture with its last row and column repeated to this size: OpenCV compares pictures of one size."""
    below, beside = height - picture.shape[0], width - picture.shape[1]
    if not below and not beside:
        return picture
    return np.asarray(cv2.copyMakeBorder(picture, 0, below, 0, beside, cv2.BORDER_REPLICATE), np.uint8)
