"""Fit the localizer's calibration on labelled drives, and measure it on images that had no part in the fit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from d2vpr_ros.errors import UserError
from d2vpr_ros.evaluation.offline import Answered
from d2vpr_ros.localize.calibration import (
    Calibration,
    ReliabilityBin,
    calibration_error,
    features,
    fit_calibration,
    reliability,
    share,
)
from d2vpr_ros.mapping import PlaceMap

Array = npt.NDArray[np.float64]

LEAST_OF_EACH = 25
"""Right images and wrong ones without which a fit says nothing."""

_FOLDS = 5
_STRETCHES = 10  # of a drive: images next to each other are much the same, so they belong into one fold


@dataclass(frozen=True, eq=False)
class Labelled:
    """What N answers rest on, given or not, and whether they are right.

    Attributes:
        rows, shares: (N, F), (N,) what a calibration makes a probability of (`features`, `share`).
        right: (N,).
        folds: (N,) each of them is every fifth tenth of each drive.
    """

    rows: Array
    shares: Array
    right: npt.NDArray[np.bool_]
    folds: npt.NDArray[np.int64]

    def of(self, which: npt.NDArray[np.bool_]) -> Labelled:
        """Some of them."""
        return Labelled(self.rows[which], self.shares[which], self.right[which], self.folds[which])


@dataclass(frozen=True, eq=False)
class Quality:
    """How far probabilities can be believed.

    Attributes:
        frames, right: images, and those that are right.
        calibration_error: the expected one; log_loss: mean -ln of the probability of what was the case.
    """

    frames: int
    right: int
    calibration_error: float
    log_loss: float
    bins: list[ReliabilityBin]


def labelled(drives: Iterable[Iterable[Answered]], place_map: PlaceMap, *, compared: bool) -> Labelled:
    """Of all drives, the images whose truth is known.

    Args:
        compared: those whose picture was compared with their place's, and with what that told; else all, without it.
    """
    rows, shares, right, folds = [], [], [], []
    for drive in drives:
        known = [(answered.estimate, answered.query.right) for answered in drive if answered.query]
        for number, (estimate, is_right) in enumerate(known):
            assert estimate.standing is not None, "an image that was looked at has a standing"
            if not compared or estimate.agreement is not None:
                agreement = estimate.agreement if compared else None
                rows.append(features(estimate.standing, place_map, agreement or 0.0))
                shares.append(share(estimate.standing))
                right.append(is_right)
                folds.append(number * _STRETCHES // len(known) % _FOLDS)
    return Labelled(np.array(rows), np.array(shares), np.array(right, bool), np.array(folds))


def fit(images: Labelled) -> Calibration:
    """The calibration of these images.

    Raises:
        UserError: too few of them are right, or wrong.
    """
    right = int(images.right.sum())
    wrong = len(images.right) - right
    if min(right, wrong) < LEAST_OF_EACH:
        raise UserError(
            f"the {len(images.right)} images for the fit have {right} right and {wrong} wrong answers; a calibration "
            f"needs {LEAST_OF_EACH} of each; add longer drives, and drives of other places with --off-map-bag"
        )
    return fit_calibration(images.rows, images.shares, images.right)


def held_out(images: Labelled) -> Array:
    """(N,) probabilities, each by a calibration that was fitted on the other folds.

    Raises:
        UserError: as `fit`.
    """
    probabilities = np.empty(len(images.right))
    for fold in range(_FOLDS):
        inside = images.folds == fold
        probabilities[inside] = fit(images.of(~inside)).probabilities(images.rows[inside], images.shares[inside])
    return probabilities


def quality(probabilities: Array, right: npt.NDArray[np.bool_]) -> Quality:
    """Hold probabilities against what was the case."""
    of_the_case = np.clip(np.where(right, probabilities, 1 - probabilities), 1e-9, 1.0)
    return Quality(
        len(right),
        int(right.sum()),
        calibration_error(probabilities, right),
        float(-np.log(of_the_case).mean()),
        reliability(probabilities, right),
    )


@dataclass(frozen=True, eq=False)
class Refit:
    """A way to localize, calibrated anew.

    Attributes:
        name: of the way (`calibration.way`).
        before, after: of the calibration there was, and of calibrations fitted as this one on other images.
    """

    name: str
    calibration: Calibration
    before: Quality
    after: Quality

    @property
    def title(self) -> str:
        """The way's name for people."""
        return self.name.replace("_", " ")


def refit(name: str, known: Calibration, images: Labelled) -> Refit:
    """Calibrate a way to localize on these images.

    Raises:
        UserError: as `fit`.
    """
    before = quality(known.probabilities(images.rows, images.shares), images.right)
    after = quality(held_out(images), images.right)
    return Refit(name, fit(images), before, after)
