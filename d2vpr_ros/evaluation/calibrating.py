"""Fit a map's calibration on labelled drives, and measure it on images that had no part in the fit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from d2vpr_ros.errors import UserError
from d2vpr_ros.evaluation.offline import Answered
from d2vpr_ros.evaluation.reliability import ReliabilityBin, calibration_error, reliability
from d2vpr_ros.geometry import Array
from d2vpr_ros.localize.decision import Calibration, probability, share
from d2vpr_ros.localize.types import BeliefSummary

LEAST_OF_EACH = 25
"""Right images and wrong ones without which a fit says nothing."""

_FOLDS = 5
_STRETCHES = 10  # of a drive: images next to each other are much the same, so they belong into one fold


@dataclass(frozen=True, eq=False)
class Labelled:
    """What N answers rest on, given or not, and whether they are right.

    Attributes:
        summaries: of the belief after each image.
        right: (N,).
        folds: (N,) each of them is every fifth tenth of each drive.
    """

    summaries: tuple[BeliefSummary, ...]
    right: npt.NDArray[np.bool_]
    folds: npt.NDArray[np.int64]

    def of(self, which: npt.NDArray[np.bool_]) -> Labelled:
        """Some of them."""
        chosen = tuple(self.summaries[number] for number in np.flatnonzero(which))
        return Labelled(chosen, self.right[which], self.folds[which])

    def probabilities(self, calibration: Calibration) -> Array:
        """(N,) of the answers, under a calibration."""
        return np.array([probability(summary, calibration) for summary in self.summaries])


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


def labelled(drives: Iterable[Iterable[Answered]]) -> Labelled:
    """Of all drives, the images whose truth is known."""
    summaries, right, folds = [], [], []
    for drive in drives:
        known = [(answered.estimate, answered.query.right) for answered in drive if answered.query]
        for number, (estimate, is_right) in enumerate(known):
            assert estimate.standing is not None, "an image that was looked at has a standing"
            summaries.append(estimate.standing)
            right.append(is_right)
            folds.append(number * _STRETCHES // len(known) % _FOLDS)
    return Labelled(tuple(summaries), np.array(right, bool), np.array(folds))


def fit(images: Labelled) -> Calibration:
    """The calibration under which these images are likeliest (Platt scaling), a little drawn towards none at all.

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
    real = np.array([summary.real for summary in images.summaries])
    shares = np.array([share(summary) for summary in images.summaries])
    untouched = np.array([Calibration().slope, Calibration().offset])

    def loss(chosen: Array) -> tuple[float, Array]:
        fits = np.clip(expit(chosen[0] * real + chosen[1]), 1e-9, 1 - 1e-9)
        chance = np.clip(fits * shares, 1e-9, 1 - 1e-9)
        value = -np.log(np.where(images.right, chance, 1 - chance)).sum()
        by_log_odds = np.where(images.right, fits - 1, (1 - fits) * chance / (1 - chance))
        slope = np.array([by_log_odds @ real, by_log_odds.sum()])
        return float(value + ((chosen - untouched) ** 2).sum() / 2), slope + chosen - untouched

    # Evidence never speaks against an answer, whatever the data at hand show.
    found = minimize(loss, untouched, jac=True, method="L-BFGS-B", bounds=[(0.0, None), (None, None)])
    return Calibration(*(float(number) for number in found.x))


def held_out(images: Labelled) -> Array:
    """(N,) probabilities, each by a calibration that was fitted on the other folds.

    Raises:
        UserError: as `fit`.
    """
    probabilities = np.empty(len(images.right))
    for fold in range(_FOLDS):
        inside = images.folds == fold
        probabilities[inside] = images.of(inside).probabilities(fit(images.of(~inside)))
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
    """A map, calibrated anew.

    Attributes:
        before, after: of the calibration there was, and of calibrations fitted as this one on other images.
    """

    calibration: Calibration
    before: Quality
    after: Quality


def refit(known: Calibration, images: Labelled) -> Refit:
    """Calibrate a map on these images.

    Raises:
        UserError: as `fit`.
    """
    before = quality(images.probabilities(known), images.right)
    after = quality(held_out(images), images.right)
    return Refit(fit(images), before, after)
