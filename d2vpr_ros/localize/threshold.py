"""How similar a place must look before it counts, learned from the map alone."""

from __future__ import annotations

import numpy as np

from d2vpr_ros.mapping import PlaceMap

_SAMPLED = 2000  # places compared with each other at most; keeps loading quick
_FAR_TOLERANCES = 4.0
_QUANTILE = 0.5


def similarity_threshold(place_map: PlaceMap, tolerance_m: float) -> float:
    """The similarity that places far apart in the map reach: a match has to look more alike than that.

    For each place the most similar one that lies well away; the median of those. Within one recorded drive the light is
    the same, so it is a severe threshold for queries under other light.

    Returns:
        A cosine; 0 for a map too small to have places apart.
    """
    step = max(1, len(place_map) // _SAMPLED)
    positions = place_map.positions[::step]
    similarities = place_map.descriptors[::step] @ place_map.descriptors[::step].T
    far = np.linalg.norm(positions[:, None] - positions[None], axis=-1) > _FAR_TOLERANCES * tolerance_m
    rows = far.any(axis=1)
    if not rows.any():
        return 0.0
    impostors = np.where(far, similarities, -1.0).max(axis=1)[rows]
    return float(np.quantile(impostors, _QUANTILE))
