"""How likely an image is at a place that it resembles so much, against not being there at all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

QUALITIES = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
"""Of an image at its own place: 1 under the map's own light, 0 if nothing can be recognised."""

_SOFT_FROM, _SOFT_SLOPE = 8.0, 0.25  # standard deviations
_SCALES = (1.0, 8.0)
_PAIRS, _SAMPLE = 500, 1000
_OWN = 2.0  # distances over which places look alike; so far about a place is its own neighbourhood
_AS_IF = 10.0  # places that the spread over all of them counts as, beside those elsewhere


@dataclass(frozen=True, eq=False)
class Background:
    """How similar an image is to places elsewhere: what makes its similarity to one place stand out.

    Attributes:
        sample: (M, D) float32 descriptors spread evenly over the map.
        positions: (M, 3) metres, of their places.
        own_m: so far about a place lie those that look like it; they are no background for it.
    """

    sample: npt.NDArray[np.float32]
    positions: Array
    own_m: float

    @staticmethod
    def of(descriptors: npt.NDArray[np.float32], positions: Array, alike_m: float) -> Background:
        """Of a map with (N, D) descriptors at (N, 3) positions that look alike over `alike_m` metres."""
        every = max(1, len(descriptors) // _SAMPLE)
        sample, where = np.ascontiguousarray(descriptors[::every]), np.ascontiguousarray(positions[::every])
        return Background(sample, where, _OWN * alike_m)  # side by side in memory: read for every image

    def standardise(
        self, descriptor: npt.NDArray[np.float32], similarities: npt.NDArray[np.float32], position: Array
    ) -> Array:
        """Similarities of one query in standard deviations above its mean similarity to the places elsewhere.

        Light and weather change all similarities of a query alike; this takes that out. Without its own neighbourhood
        a place stands out as much in a map of forty places as in a large one. Where hardly a place of the map is
        elsewhere, all of them are the measure.

        Args:
            position: (3,) of the place most like it; elsewhere is what lies further off than its own neighbourhood.
        """
        # Not by @: for so little its library starts threads that then spin beside the network's for milliseconds.
        ordinary = np.einsum("md,d->m", self.sample, descriptor).astype(np.float64)
        elsewhere = ordinary[np.linalg.norm(self.positions - position, axis=1) > self.own_m]
        mean, spread = ordinary.mean(), ordinary.var()
        if len(elsewhere):
            share = len(elsewhere) / (len(elsewhere) + _AS_IF)
            mean = share * elsewhere.mean() + (1 - share) * mean
            spread = share * elsewhere.var() + (1 - share) * spread
        return (similarities.astype(np.float64) - mean) / max(float(np.sqrt(spread)), 1e-6)


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
    def learned(
        background: Background, descriptors: npt.NDArray[np.float32], positions: Array, steps: npt.NDArray[np.int64]
    ) -> Likelihood:
        """From the neighbours in a map: (N, D) descriptors at (N, 3), (M, 2) rows that follow each other in a drive."""
        if len(steps) == 0:
            return Likelihood(_SCALES[0])
        alike = [
            background.standardise(descriptors[before], descriptors[[after]] @ descriptors[before], positions[before])
            for before, after in steps[:: max(1, len(steps) // _PAIRS)]
        ]
        return Likelihood(float(np.clip(np.median(alike), *_SCALES)))

    def log_ratio(self, scores: Array) -> Array:
        """(...) standardised similarities -> log of p(score | there) / p(score | not there)."""
        means = QUALITIES * self.scale
        terms = means * np.asarray(scores, np.float64)[..., None] - means**2 / 2
        ratio: Array = np.logaddexp.reduce(terms, axis=-1) - np.log(len(means))
        return ratio


def softened(scores: Array) -> Array:
    """Standardised similarities, growing more slowly from 8 on: of many images no single one decides."""
    return np.where(scores > _SOFT_FROM, _SOFT_FROM + _SOFT_SLOPE * (scores - _SOFT_FROM), scores)
