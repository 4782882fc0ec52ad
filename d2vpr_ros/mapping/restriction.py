"""Which places of a map come into question before any image is looked at."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from d2vpr_ros.mapping.place_map import PlaceMap


@dataclass(frozen=True)
class Region:
    """A circle on the ground, such as a GPS fix with its accuracy.

    Attributes:
        x, y: its centre in the map frame, metres.
        radius_m: horizontal; height plays no part.

    Raises:
        ValueError: a number is not finite, or the radius is negative.
    """

    x: float
    y: float
    radius_m: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.x) and math.isfinite(self.y) and 0 <= self.radius_m < math.inf):
            raise ValueError(f"not a region: {self}")

    def holds(self, positions: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """(N, 2 or 3) positions in the map frame -> (N,) whether each lies inside."""
        return np.hypot(positions[:, 0] - self.x, positions[:, 1] - self.y) <= self.radius_m


@dataclass(frozen=True)
class Restriction:
    """A search looks only at places that meet both; None restricts nothing.

    Attributes:
        region: where the camera stood.
        sessions: keys of the map's `session_table`.
        measured: the region was measured as exactly as its radius says, so what is believed already is held against it.
    """

    region: Region | None = None
    sessions: frozenset[int] | None = None
    measured: bool = False

    def rows(self, place_map: PlaceMap) -> npt.NDArray[np.int64] | None:
        """(M,) the rows that a search is to look at; None stands for all."""
        if self.region is None and self.sessions is None:
            return None
        allowed = np.ones(len(place_map), bool)
        if self.region is not None:
            allowed &= self.region.holds(place_map.positions)
        if self.sessions is not None:
            allowed &= np.isin(place_map.sessions, sorted(self.sessions))
        return np.flatnonzero(allowed)


UNRESTRICTED = Restriction()
