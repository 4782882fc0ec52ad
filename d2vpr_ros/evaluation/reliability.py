"""How often answers of a probability are right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from d2vpr_ros.geometry import Array


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
