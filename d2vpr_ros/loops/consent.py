"""How probable it is that two pictures show the same place, by what their geometry shares.

Inliers are evidence, not proof: floors of one tower, built from one drawing, share up to 109 of them. So the weights
are fitted with such floors among the wrong candidates, at even odds, as models/fit_closures.py does it. These are of
towns 540 and 541 by day, at dusk and in rain, and of sixteen walks through the tower.

models/fit_closures.py as it is now (towns 550 to 552, all pictures of twelve floors) gives (-11.6, 2.8) and (-22.0,
5.0), 0.99 at 301 and 203 inliers: its wrong candidates reach 168, and two of its three tours change the light. With
these hardly a run would be sure; that runs are not wrong was measured with the numbers below.

Not the localizer's evidence (`localize.evidence.pose_ratio`): that weighs a place against the rest of a map that is
known, over many images. Here one run decides for good.
"""

from __future__ import annotations

import numpy as np

from d2vpr_ros.loops.closure import Kind

Weights = tuple[float, float]
"""Constant, and weight of the logarithm of inliers plus one."""

METRIC: Weights = (-16.0, 4.1)
"""For inliers of a metric pose: 0.99 at 151."""
TWO_VIEWS: Weights = (-20.6, 5.1)
"""For inliers of two views: 0.99 at 139."""


def same_place(kind: Kind, inliers: int) -> float:
    """The probability, 0 to 1, that a candidate with so many inliers is the same place.

    Args:
        inliers: of the metric pose, or, for kind `place`, of two views: the two counts are not comparable.
    """
    constant, slope = METRIC if kind == "metric" else TWO_VIEWS
    return float(1 / (1 + np.exp(-(constant + slope * np.log(inliers + 1.0)))))


def expected(probability: float, chance: float, most: float) -> float:
    """A candidate's probability, once it is known to lie where the robot has to be.

    Args:
        chance: share of all places that do, too.
        most: by which the odds rise at most.
    """
    odds = probability / max(1 - probability, 1e-9) * min(1 / chance, most)
    return float(odds / (1 + odds))
