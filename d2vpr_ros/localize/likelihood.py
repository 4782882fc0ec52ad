"""How likely an image is at a place that it resembles so much, against not being there at all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_QUALITIES = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
_SOFT_FROM, _SOFT_SLOPE = 5.0, 0.25  # standard deviations
_SCALES = (1.0, 5.0)
_PAIRS, _SAMPLE = 2000, 1000


@dataclass(frozen=True, eq=False)
class Background:
    """How similar an image is to places in general: what makes its similarity to one place stand out.

    Attributes:
        sample: (M, D) float32 descriptors spread evenly over the map.
    """

    sample: npt.NDArray[np.float32]

    @staticmethod
    def of(descriptors: npt.NDArray[np.float32]) -> Background:
        return Background(descriptors[:: max(1, len(descriptors) // _SAMPLE)])

    def standardise(self, descriptor: npt.NDArray[np.float32], similarities: npt.NDArray[np.float32]) -> Array:
        """Similarities of one query in standard deviations above its mean similarity to the map's places.

        Light and weather change all similarities of a query alike; this takes that out.
        """
        ordinary = self.sample @ descriptor
        return (similarities.astype(np.float64) - ordinary.mean()) / max(float(ordinary.std()), 1e-6)


@dataclass(frozen=True)
class Likelihood:
    """Attributes:
    scale: standardised similarity of places that see each other, learned from the map.

    At a wrong place the standardised similarity is about normal, N(0, 1). At the right one it is N(q * scale, 1),
    where the image's quality q is 1 under the map's own light and 0 if nothing can be recognised. Since nobody knows
    q, all are equally likely: an image that resembles nothing then says little against any place.
    """

    scale: float

    @staticmethod
    def learned(descriptors: npt.NDArray[np.float32], steps: npt.NDArray[np.int64]) -> Likelihood:
        """From the neighbours in a map: (N, D) unit descriptors, (M, 2) rows that follow each other in a drive."""
        before, after = steps[:: max(1, len(steps) // _PAIRS)].T
        if len(before) == 0:
            return Likelihood(_SCALES[0])
        sample = descriptors[:: max(1, len(descriptors) // _SAMPLE)]
        ordinary = descriptors[before] @ sample.T
        alike = (descriptors[before] * descriptors[after]).sum(axis=1)
        standard = (alike - ordinary.mean(axis=1)) / np.maximum(ordinary.std(axis=1), 1e-6)
        return Likelihood(float(np.clip(np.median(standard), *_SCALES)))

    def log_ratio(self, scores: Array) -> Array:
        """(...) standardised similarities -> log of p(score | there) / p(score | not there)."""
        means = _QUALITIES * self.scale
        terms = means * np.asarray(scores, np.float64)[..., None] - means**2 / 2
        ratio: Array = np.logaddexp.reduce(terms, axis=-1) - np.log(len(means))
        return ratio


def softened(scores: Array) -> Array:
    """Standardised similarities, growing more slowly from 5 on: of many images no single one decides."""
    return np.where(scores > _SOFT_FROM, _SOFT_FROM + _SOFT_SLOPE * (scores - _SOFT_FROM), scores)
