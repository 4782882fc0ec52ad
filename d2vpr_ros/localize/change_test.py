"""The change test: do the newest images still come from the way that the earlier ones fitted?

A mean over many images hides that the newest fit nothing, as where a robot drives out of the mapped part. So each way
of the belief also carries a hidden Markov model: the robot is on the way, where images are recognised with one of the
qualities of `likelihood.Likelihood`, or it has left it. Light, houses and people before the camera alter the quality;
only an image that resembles the way more than one off the map does tells that the robot is still there (Bayesian
detection of a change, Shiryaev, 1963, with a quality that is not known and a chance to come back).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from d2vpr_ros.localize.likelihood import QUALITIES

Array = npt.NDArray[np.float64]

LOST = 0.9
"""Chance of having left from which a robot is lost, and not only silent, as with someone before the camera."""

# For each image a spacing further on:
ALTERS = 0.1  # chance that the quality is another one
LEAVES, LEAVES_BY_SIGHT = (
    1e-4,
    5e-3,
)  # chance to have left; odometry shows turns and the end of the mapped street itself
RETURNS = 0.1  # chance to be back

# Standardised similarity off the map to the best of the belief, standard deviations: measured on drives of which half
# was mapped (towns 0 and 63, four conditions).
_OFF, _OFF_BY_SIGHT, _SPREAD = 1.9, 2.3, 1.1
# Likelihood of any similarity above that, against the likeliest: where the map ends the street goes on, much the same.
_ALIKE = 0.03
# How many times as often as on the map a picture past its end changes and resembles the same place most: 4.9 (0.68 of
# images against 0.14, the same drives), tempered by 3/4, for one such image seldom comes alone.
_UNMOVED = 3.3


def has_left(chance: float, *, by_odometry: bool) -> float:
    """How far images raise the chance of having left above where it is without any: what they tell, 0 to 1."""
    leaves = LEAVES if by_odometry else LEAVES_BY_SIGHT
    untold = leaves / (leaves + RETURNS)
    return max(0.0, (chance - untold) / (1 - untold))


def unknown(count: int) -> Array:
    """(count, 6) chances of ways that begin: not left, and any quality."""
    return np.tile(np.append(0.0, np.full(len(QUALITIES), 1 / len(QUALITIES))), (count, 1))


def run_out(chances: Array, share: Array) -> Array:
    """(A, 6) chances of ways of which so large a share (A,) led past the last place: they have left."""
    after: Array = (1 - share[:, None]) * chances
    after[:, 0] += share
    return after


def follow(
    chances: Array, similar: Array, scale: float, new: float, *, by_odometry: bool, unmoved: float = 0.0
) -> Array:
    """Take an image into account.

    Args:
        chances: (A, 6) of each way: left, and on it with each quality.
        similar: (A,) standardised similarity of the image to each state.
        scale: as of `Likelihood`.
        new: how much of an image it is, 0 to 1.
        by_odometry: whether the belief moved by it.
        unmoved: by sight, how much the picture changed though it resembles the same place most; 0 to 1, as much as from
            one place to the next.

    Returns:
        (A, 6) after it.
    """
    leaves = new * LEAVES if by_odometry else max(new, unmoved) * LEAVES_BY_SIGHT
    returns = new * RETURNS
    off = _OFF if by_odometry else _OFF_BY_SIGHT
    left, on = chances[:, :1], chances[:, 1:]
    present = on.sum(axis=1, keepdims=True)
    on = (1 - new * ALTERS) * on + new * ALTERS * present / len(QUALITIES)
    moved = np.hstack([left * (1 - returns) + leaves * present, on * (1 - leaves) + left * returns / len(QUALITIES)])
    means = np.append(off, np.maximum(QUALITIES * scale, off))
    beyond = (similar[:, None] - means) / _SPREAD
    beyond[:, -1] = np.minimum(beyond[:, -1], 0.0)  # nothing fits better than the best quality
    likelihood = np.exp(-new * beyond**2 / 2) + 1e-12
    likelihood[:, 0] = np.where(similar > off, np.maximum(likelihood[:, 0], _ALIKE**new), likelihood[:, 0])
    likelihood[:, 0] *= _UNMOVED**unmoved
    after = moved * likelihood
    return np.asarray(after / after.sum(axis=1, keepdims=True))
