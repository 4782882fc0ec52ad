"""What the localizer says about one image."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from d2vpr_ros.geometry import Pose


class State(str, Enum):
    """LOST: no idea. CANDIDATE: a guess that is not confirmed. LOCALIZED: an answer to act on."""

    LOST = "LOST"
    CANDIDATE = "CANDIDATE"
    LOCALIZED = "LOCALIZED"


class RejectReason(str, Enum):
    """Why an image gave no answer."""

    NONE = ""
    NO_MATCH = "no match"
    UNCONFIRMED = "unconfirmed"
    AMBIGUOUS = "ambiguous"
    STALE_IMAGE = "stale image"


@dataclass(frozen=True)
class Match:
    """One candidate place for a query.

    Attributes:
        rank: 0 is the best.
        row: of the place in the map.
        similarity: cosine between the descriptors, -1..1.
        score: how well the remembered images fit the place: their mean, in standard deviations above an ordinary place.
        belief: its share among the candidates, 0..1; not calibrated.
        accepted: this match is the answer.
    """

    rank: int
    row: int
    similarity: float
    score: float
    belief: float
    accepted: bool


@dataclass(frozen=True, eq=False)
class Estimate:
    """The answer to one image.

    Attributes:
        stamp_ns: of the image.
        matches: best first; given for every image, accepted or not.
        pose: T_map_base, only when LOCALIZED.
        covariance: (6, 6) float64 over (x, y, z, rotation about x, y, z) in the map frame, metres and radians,
            positive definite (geometry_msgs/PoseWithCovariance); only when LOCALIZED.
    """

    stamp_ns: int
    state: State
    reject_reason: RejectReason
    matches: tuple[Match, ...]
    pose: Pose | None = None
    covariance: npt.NDArray[np.float64] | None = None
