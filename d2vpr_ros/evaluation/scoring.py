"""One image, what the localizer made of it, and what was true: every number of a report is counted from these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

from d2vpr_ros.geometry import Pose, turn

Array = npt.NDArray[np.float64]

_ELLIPSE_95 = float(chi2.ppf(0.95, df=2))
_ELLIPSOID_95 = float(chi2.ppf(0.95, df=3))


@dataclass(frozen=True, eq=False)
class ScoredQuery:
    """One image of a drive and what the localizer made of it.

    Attributes:
        stamp_ns: of the image, as recorded.
        answerable: the map has a place that would be right.
        accepted: the localizer answered; else it was silent.
        right: the answer is right, or where it was silent, what it would have answered.
        found: of the candidates, best first, whether each is right.
        off: how far the answer, or what it would have been, is from the truth: metres, or frames; None where nobody
            knows or without candidates.
        probability: that it is right, as the localizer said.
        place_id: of the best candidate.
        truth: T_map_base, None where it is not known in metres.
        answer: T_map_base if it was accepted, None in a map without metres.
        covariance: (6, 6) that came with it, in the order of geometry_msgs.
        drive, image_topic: the recording it is from, and of that the camera.
        state, reject_reason, similarity: as the localizer said; the similarity is the best candidate's.
        seconds: how long it took, by stage.
        horizontal: metres count without the height, which GPS hardly knows: as it is judged, so it is reported.
    """

    stamp_ns: int
    answerable: bool
    accepted: bool = False
    right: bool = False
    found: tuple[bool, ...] = ()
    off: float | None = None
    probability: float = 0.0
    place_id: int | None = None
    truth: Pose | None = None
    answer: Pose | None = None
    covariance: Array | None = None
    drive: str = ""
    image_topic: str = ""
    state: str = ""
    reject_reason: str = ""
    similarity: float | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    horizontal: bool = False

    @property
    def verdict(self) -> str:
        """`correct`, `false`, `missed` (silent though the map has the place) or `silent`."""
        if self.accepted:
            return "correct" if self.right else "false"
        return "missed" if self.answerable else "silent"

    @property
    def error_m(self) -> float | None:
        """Metres between an accepted answer and the truth."""
        if self.answer is None or self.truth is None:
            return None
        return metres_between(self.answer, self.truth, horizontal=self.horizontal)

    @property
    def turned_deg(self) -> float | None:
        """Degrees between an accepted answer's rotation and the true one."""
        return None if self.answer is None or self.truth is None else float(np.degrees(turn(self.answer, self.truth)))


def metres_between(a: Pose, b: Pose, *, horizontal: bool) -> float:
    """Between two positions, with or without what is between their heights."""
    return float(np.linalg.norm((a.position - b.position)[: 2 if horizontal else 3]))


def in_ellipse(query: ScoredQuery) -> bool | None:
    """Whether the truth lies in the ellipse, on the map's xy-plane, that is to hold it 95 % of the time.

    None without an answer in metres.
    """
    if query.answer is None or query.truth is None or query.covariance is None:
        return None
    offset = (query.truth.position - query.answer.position)[:2]
    return float(offset @ np.linalg.solve(query.covariance[:2, :2], offset)) <= _ELLIPSE_95


def turn_in_ellipsoid(query: ScoredQuery) -> bool | None:
    """Whether the true rotation lies in the ellipsoid, of rotations about x, y and z, that is to hold it 95 % of the
    time; None without an answer in metres."""
    if query.answer is None or query.truth is None or query.covariance is None:
        return None
    turned = (query.truth.rotation * query.answer.rotation.inv()).as_rotvec()
    return float(turned @ np.linalg.solve(query.covariance[3:, 3:], turned)) <= _ELLIPSOID_95


def semi_axis_m(query: ScoredQuery) -> float | None:
    """The longer half axis of the ellipse of `in_ellipse`, metres."""
    return None if query.covariance is None else semi_axis_95_m(query.covariance)


def semi_axis_95_m(covariance: Array) -> float:
    """The longer half axis, metres, of the ellipse on the xy-plane that is to hold a position 95 % of the time.

    Args:
        covariance: (6, 6) in the order of geometry_msgs.
    """
    return float(ellipse_95(covariance[:2, :2])[0][0])


def ellipse_95(covariance: Array) -> tuple[Array, Array]:
    """(2,) half axes, the longer first, of the ellipse that holds 95 % of a normal distribution; (2, 2) their
    directions as columns.

    Args:
        covariance: (2, 2).
    """
    variances, directions = np.linalg.eigh(covariance)
    return np.sqrt(_ELLIPSE_95 * variances[::-1].clip(0.0)), directions[:, ::-1]
