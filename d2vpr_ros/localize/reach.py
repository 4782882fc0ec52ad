"""How far along a drive places look alike: what limits how exactly an image can tell where it was taken."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from d2vpr_ros.mapping import PlaceMap

_LAGS = 60
_SAMPLE = 300


def alike_m(place_map: PlaceMap) -> float:
    """Metres along the map's drives over which similarity falls to half of what it is between neighbours.

    Similarity is counted above the mean between any two places. Never less than the spacing; a map in which it does
    not fall that far gives the longest distance looked at.
    """
    steps = place_map.steps
    if len(steps) == 0:
        return place_map.spacing_m
    following = np.full(len(place_map), -1, np.int64)
    following[steps[:, 0]] = steps[:, 1]
    start = steps[:: max(1, len(steps) // _SAMPLE), 0]
    sample = place_map.descriptors[:: max(1, len(place_map) // _SAMPLE)]
    ordinary = float((place_map.descriptors[start] @ sample.T).mean())
    at: npt.NDArray[np.int64] = start.copy()
    gone: npt.NDArray[np.float64] = np.zeros(len(start))
    first, reached = np.nan, 0.0
    for _ in range(_LAGS):
        onward = following[at]
        goes_on = onward >= 0
        start, at, gone, onward = start[goes_on], at[goes_on], gone[goes_on], onward[goes_on]
        if len(start) == 0:
            break
        gone = gone + np.linalg.norm(place_map.positions[onward] - place_map.positions[at], axis=1)
        at = onward
        alike = float((place_map.descriptors[start] * place_map.descriptors[at]).sum(axis=1).mean()) - ordinary
        first = alike if np.isnan(first) else first
        reached = float(np.median(gone))
        if alike < first / 2:
            break
    return max(place_map.spacing_m, reached)
