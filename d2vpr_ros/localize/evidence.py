"""How much an image's similarity to a place stands out from its similarity to places in general."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_SAMPLE = 1000


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
