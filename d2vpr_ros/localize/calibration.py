"""From where the belief's mass stands to the probability that the answer is right.

A logistic regression, times the answer's share against the heaviest place elsewhere: however well the images fit, of
two streets that look alike neither can be more than half likely.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, logit

from d2vpr_ros.localize.tracker import Standing
from d2vpr_ros.mapping import PlaceMap

Array = npt.NDArray[np.float64]

log = logging.getLogger(__name__)

_LEAST_MASS = 1e-4
_ENOUGH_IMAGES = 20.0
_LEAST_LABELLED = 50


@dataclass(frozen=True)
class Calibration:
    """Weights of what speaks for an answer.

    Attributes:
        mass: of the log odds of the neighbourhood's mass.
        excess: of how much better the images fit than one of elsewhere fits the best of as many places by chance, in
            standard deviations, times the root of how many there are (up to 20).
        images: of that root.
        scatter: of the mass's standard deviation, in spacings.
        agreement: of how well pictures agree (`agreement.Agreement`); 0 where they are not compared.
        bias: the rest.
    """

    mass: float
    excess: float
    images: float
    scatter: float
    agreement: float
    bias: float

    def probability(self, standing: Standing, place_map: PlaceMap, agreement: float = 0.0, odds: float = 1.0) -> float:
        """That the robot is where the answer says.

        Args:
            odds: that it is on the map against that it is off it, as far as it is known beside the images.
        """
        return float(self.probabilities(features(standing, place_map, agreement), share(standing), odds))

    def probabilities(self, rows: Array, shares: Array | float, odds: float = 1.0) -> Array:
        """(N,) of answers at once, from (N, 6) `features` and (N,) `share`."""
        return np.asarray(expit(rows @ np.array(list(asdict(self).values())) + np.log(odds)) * shares)


def share(standing: Standing) -> float:
    """The answer's mass against that of the heaviest place elsewhere, as far as the robot has not left its way."""
    return standing.mass / max(standing.mass + standing.rival, 1e-300) * (1 - standing.left)


@dataclass(frozen=True)
class Calibrations:
    """One for each way to localize, since their answers differ in what they rest on.

    The defaults were fitted by models/fit_calibration.py on the simulated towns reserved for that (seeds 500 to 502)
    and on floors of a tower that are not in the map.
    """

    with_odometry: Calibration = Calibration(0.0, 3.07, 4.52, 0.0, 0.0, -5.44)
    without_odometry: Calibration = Calibration(0.0, 2.68, 1.17, 0.0, 0.0, -3.93)
    single_image: Calibration = Calibration(0.42, 2.13, 0.0, 0.0, 0.0, -2.01)
    with_odometry_compared: Calibration = Calibration(0.0, 2.22, 4.44, 0.0, 3.37, -15.36)
    without_odometry_compared: Calibration = Calibration(0.05, 2.04, 1.78, -0.25, 2.55, -11.86)
    single_image_compared: Calibration = Calibration(0.56, 0.0, 0.0, 0.0, 2.55, -9.19)

    def of(self, *, sequence: bool, odometry: bool, compared: bool = False) -> Calibration:
        """The one for answers from images with or without what came before, odometry, and comparing pictures."""
        found: Calibration = getattr(self, way(sequence=sequence, odometry=odometry, compared=compared))
        return found

    @staticmethod
    def of_map(stored: Mapping[str, Mapping[str, float]]) -> Calibrations:
        """The defaults, with what was fitted for a map (`MapHeader.calibrations`) in their place.

        What another version of this package stored may have other weights: it is left out, which is logged.
        """
        known, weights = {way.name for way in fields(Calibrations)}, {weight.name for weight in fields(Calibration)}
        fitted = {name: Calibration(**found) for name, found in stored.items() if found.keys() == weights}
        if fitted.keys() != stored.keys() or not fitted.keys() <= known:
            log.warning("the map's calibration is of another version and left out; fit it anew with d2vpr calibrate")
        return replace(Calibrations(), **{name: one for name, one in fitted.items() if name in known})


def way(*, sequence: bool, odometry: bool, compared: bool = False) -> str:
    """What a way to localize is called, in `Calibrations` and in a map."""
    name = "single_image" if not sequence else "with_odometry" if odometry else "without_odometry"
    return f"{name}_compared" if compared else name


def features(standing: Standing, place_map: PlaceMap, agreement: float = 0.0) -> Array:
    """(6,) in the order of the calibration's weights, the last one 1."""
    mass = float(np.clip(standing.mass, _LEAST_MASS, 1 - _LEAST_MASS))
    by_chance = np.sqrt(2 * np.log(max(len(place_map), 2)))  # the largest of so many from N(0, 1), about
    root = np.sqrt(min(1.0, standing.images / _ENOUGH_IMAGES))
    scatter = np.sqrt(np.trace(standing.scatter)) / place_map.spacing_m
    return np.array([logit(mass), (standing.fit - by_chance) * root, root, scatter, agreement, 1.0])


def fit_calibration(
    rows: Array, shares: Array, right: npt.NDArray[np.bool_], weights: Array | None = None
) -> Calibration:
    """The calibration under which the labelled answers are likeliest, a little drawn towards zero.

    Args:
        rows: (N, 6) of `features`; shares: (N,) of `share`.
        right: (N,) whether the answer was.
        weights: (N,) how much each answer counts; None counts all alike.

    Raises:
        ValueError: fewer than 50 answers, or all of them right, or all wrong.
    """
    labels = np.asarray(right, np.float64)
    if len(rows) < _LEAST_LABELLED or labels.min() == labels.max():
        raise ValueError(f"{len(rows)} answers of which {int(labels.sum())} are right")
    counts = np.ones(len(rows)) if weights is None else weights
    spread = rows.std(axis=0)
    spread[spread < 1e-6] = 1.0  # a constant, such as the number of images where each stands alone
    scaled = rows / spread

    def loss(chosen: Array) -> tuple[float, Array]:
        fits = np.clip(expit(scaled @ chosen), 1e-9, 1 - 1e-9)
        chance = fits * shares
        value = -(counts * (labels * np.log(chance) + (1 - labels) * np.log1p(-chance))).sum()
        by_fits = counts * ((1 - labels) * shares / (1 - chance) - labels / fits)
        slope = scaled.T @ (by_fits * fits * (1 - fits)) + np.append(chosen[:-1], 0.0)
        return float(value + (chosen[:-1] ** 2).sum() / 2), slope

    # More mass, a better fit, pictures that agree never speak against an answer, and a wide spread never for it,
    # whatever the data at hand show.
    bounds = [(0.0, None), (0.0, None), (None, None), (None, 0.0), (0.0, None), (None, None)]
    found = minimize(loss, np.zeros(rows.shape[1]), jac=True, method="L-BFGS-B", bounds=bounds)
    return Calibration(*(float(weight) for weight in found.x / spread))


@dataclass(frozen=True)
class ReliabilityBin:
    """Answers of about one probability: their mean probability, the share of right ones, how many they are."""

    probability: float
    right: float
    count: int


def reliability(probabilities: Array, right: npt.NDArray[np.bool_], bins: int = 10) -> list[ReliabilityBin]:
    """Answers by equal ranges of probability, rising; ranges without any are left out."""
    which = np.clip((probabilities * bins).astype(int), 0, bins - 1)
    return [
        ReliabilityBin(float(probabilities[inside].mean()), float(right[inside].mean()), int(inside.sum()))
        for inside in (which == number for number in np.unique(which))
    ]


def calibration_error(probabilities: Array, right: npt.NDArray[np.bool_], bins: int = 10) -> float:
    """Expected calibration error: the mean gap between probability and share of right answers, over equal bins."""
    gaps = (one.count * abs(one.probability - one.right) for one in reliability(probabilities, right, bins))
    return float(sum(gaps) / len(right))
