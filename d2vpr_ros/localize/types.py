"""What a user can set of the localizer, and what it says about one image."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from d2vpr_ros.geometry import Pose

_LEAST_HELD = 0.5  # an answer that is likelier wrong than right is none


class Verify(str, Enum):
    """When an image is compared with the landmarks of the map. ALWAYS is for measuring."""

    NEVER = "never"
    WHEN_IT_DECIDES = "when_it_decides"
    ALWAYS = "always"


@dataclass(frozen=True)
class Acceptance:
    """Attributes:
    probability: least probability of an answer while the robot is not localized.
    hold: how many times likelier to be wrong an answer may be once the robot is localized.
    images: least number of images behind an answer (with `sequence`), each a keyframe spacing from the one before.
    """

    probability: float = 0.99
    hold: float = 4.0
    images: int = 1

    def needed(self, localized: bool) -> float:
        """Least probability of an answer; less once the robot is localized, so that it does not flicker."""
        held = max(1 - self.hold * (1 - self.probability), _LEAST_HELD)
        return min(self.probability, held) if localized else self.probability


DEFAULT_ACCEPTANCE = Acceptance()


@dataclass(frozen=True)
class LocalizerOptions:
    """Attributes:
    sequence: believe in a place by all images so far; without, each image stands alone.
    top_speed_mps: bounds the motion between images where there is no odometry; in a map without metres it is how many
        times as fast as the recording a robot may go.
    verify: when an image is compared with the landmarks of the map.
    acceptance: when an answer counts.
    off_map_prior: chance that a robot of which nothing is known is where the map shows nothing, perhaps where it looks
        the same; 0 for a robot that never leaves what is mapped.
    """

    sequence: bool = True
    top_speed_mps: float = 2.0
    verify: Verify = Verify.WHEN_IT_DECIDES
    acceptance: Acceptance = DEFAULT_ACCEPTANCE
    off_map_prior: float = 0.5


DEFAULT_OPTIONS = LocalizerOptions()


class State(str, Enum):
    """LOST: no idea. CANDIDATE: a guess that is not confirmed. LOCALIZED: an answer to act on."""

    LOST = "LOST"
    CANDIDATE = "CANDIDATE"
    LOCALIZED = "LOCALIZED"


class RejectReason(str, Enum):
    """Why an image gave no pose. With a map without metres the place may be known all the same."""

    NONE = ""
    NO_MATCH = "no match"
    UNCONFIRMED = "unconfirmed"
    AMBIGUOUS = "ambiguous"
    OFF_MAP = "off map"
    VERIFICATION_FAILED = "verification failed"
    GPS_CONTRADICTS = "GPS contradicts"
    NO_METRES = "map without metres"
    STALE_IMAGE = "stale image"


@dataclass(frozen=True)
class Match:
    """One candidate place for a query.

    Attributes:
        rank: 0 is the best.
        row: of the place in the map.
        similarity: cosine between the descriptors, -1..1.
        belief: probability mass of the place itself, 0..1; that of its neighbours is theirs.
        accepted: this match is the answer.
        inliers: points it shares with the image where their pictures were compared, else 0.
    """

    rank: int
    row: int
    similarity: float
    belief: float
    accepted: bool
    inliers: int = 0


@dataclass(frozen=True, eq=False)
class BeliefSummary:
    """What the belief comes down to after an image.

    Attributes:
        best: row of the place nearest to the best hypothesis, and `hypothesis`, its number.
        mass: of the hypotheses about the best, as far as its covariance lies there, too; rival: of the heaviest
            elsewhere; off_map: of being off the map. All masses add up to one.
        mapped: chance that the map shows what is seen there.
        images, fit: how many images are behind it, and their mean z-score; score: of the newest.
        real: log-odds that it is the place itself and not one that looks like it.
        position: (3,) of the base.
    """

    best: int
    hypothesis: int
    mass: float
    rival: float
    off_map: float
    mapped: float
    images: float
    fit: float
    score: float
    real: float
    position: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Estimate:
    """The answer to one image.

    Attributes:
        stamp_ns: of the image.
        matches: best first; given for every image, accepted or not.
        probability: that the robot is where the best matches say, 0..1, calibrated; given for every image.
        standing: what the probability was computed from; None where the image was not looked at.
        pose: T_map_base, only when LOCALIZED, which an answer from a map without metres never is.
        covariance: (6, 6) float64 over (x, y, z, rotation about x, y, z) in the map frame, metres and radians,
            positive definite (geometry_msgs/PoseWithCovariance); only when LOCALIZED.
        camera: the robot's camera that took the image.
        carried: the newest images speak for another place than the earlier ones and the motion, and are believed.
        far_fix_m: metres from the GPS fix to the nearest place of the map, where that is so far that images decide
            (`gps.heeded`); None where the fix counts, or there is none.
        anew: with a pose, that it does not go on from the answer before: it is the first, the robot was lost or carried
            in between, time or the odometry began anew, or the motion leads elsewhere. Known to a session.
        inflation: by how much a filter that takes answers for independent has to enlarge the covariance, 1 and more:
            the next answer has much of the last one's error. Known to a session.
    """

    stamp_ns: int
    state: State
    reject_reason: RejectReason
    matches: tuple[Match, ...]
    probability: float = 0.0
    standing: BeliefSummary | None = None
    pose: Pose | None = None
    covariance: npt.NDArray[np.float64] | None = None
    camera: int = 0
    carried: bool = False
    far_fix_m: float | None = None
    anew: bool = False
    inflation: float = 1.0

    @property
    def is_finite(self) -> bool:
        """Whether every number that is published, or decided by, is one."""
        standing, pose, covariance = self.standing, self.pose, self.covariance
        numbers = [
            self.probability,
            self.inflation,
            *(v for match in self.matches for v in (match.similarity, match.belief)),
        ]
        arrays = [standing.position] if standing else []
        arrays += [np.array(pose.numbers)] if pose else []
        arrays += [covariance] if covariance is not None else []
        return bool(np.isfinite(numbers).all() and all(np.isfinite(array).all() for array in arrays))
