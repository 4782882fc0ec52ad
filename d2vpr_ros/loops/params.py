"""Every tunable of loop closure, with its unit, its meaning and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LoopParams:
    """Tunables of the search for closures.

    Attributes:
        least_way_spacings: way since a place before it counts as the past; nearer ones show the same street still.
        candidates: most similar places that are looked at together.
        own_spacings: about the most similar place that are its own neighbourhood, no background for its similarity.
        least_z: standard deviations by which the most similar place stands out, below which no geometry is tried. One
            of a hundred right places is below 4.5, the median of the wrong ones is at 3.5.
    """

    least_way_spacings: float = 30.0
    candidates: int = 3
    own_spacings: float = 15.0
    least_z: float = 4.0


DEFAULT_PARAMS = LoopParams()
