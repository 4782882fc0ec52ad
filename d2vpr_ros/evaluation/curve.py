"""Precision against recall as the probability that an answer needs goes down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from d2vpr_ros.evaluation.scoring import ScoredQuery

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Curve:
    """What every least probability would give, were it all that decides.

    Attributes:
        probabilities: (T,) falling, each one that some image got.
        precision: (T,) right ones among the answers at least so probable.
        recall: (T,) right answers to answerable images among all answerable images.
    """

    probabilities: Array
    precision: Array
    recall: Array


def precision_recall(queries: Sequence[ScoredQuery]) -> Curve | None:
    """The curve over all images, accepted or not; None if the map has the place of none of them."""
    answerable = sum(query.answerable for query in queries)
    if not answerable:
        return None
    probability = np.array([query.probability for query in queries])
    order = np.argsort(-probability, kind="stable")
    right = np.array([query.right for query in queries])[order]
    counted = np.array([query.right and query.answerable for query in queries])[order]
    probability = probability[order]
    # Images of one probability are answered together: the curve has a point only behind the last of them.
    last = np.flatnonzero(np.append(probability[1:] != probability[:-1], True))
    return Curve(probability[last], np.cumsum(right)[last] / (last + 1), np.cumsum(counted)[last] / answerable)


def area(curve: Curve) -> float:
    """Under the curve, each stretch of recall at the precision where it ends (average precision)."""
    return float(np.sum(np.diff(curve.recall, prepend=0.0) * curve.precision))


def recall_at_precision(curve: Curve, least: float) -> float:
    """The most recall that any probability gives with at least this precision; 0 if none does."""
    return float(curve.recall[curve.precision >= least].max(initial=0.0))


def thinned(curve: Curve, count: int) -> Curve:
    """At most so many points, evenly spread, both ends among them: for a drawing or a file."""
    kept = np.unique(np.linspace(0, len(curve.recall) - 1, min(count, len(curve.recall))).round().astype(int))
    return Curve(curve.probabilities[kept], curve.precision[kept], curve.recall[kept])
