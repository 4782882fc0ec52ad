"""How probable it is that two pictures show the same place, by what their geometry shares."""

from __future__ import annotations

import numpy as np

from d2vpr_ros.loops.closure import Kind

_WEIGHTS = {"metric": (-20.0, 5.0), "two views": (-24.0, 5.0)}


def same_place(kind: Kind, inliers: int) -> float:
    """The probability, 0 to 1, of a candidate with so many inliers.

    Args:
        inliers: of the metric pose, or, for the other kinds, of two views: the two counts are not comparable.
    """
    constant, slope = _WEIGHTS["metric" if kind == "metric" else "two views"]
    return float(1 / (1 + np.exp(-(constant + slope * np.log(inliers + 1.0)))))
