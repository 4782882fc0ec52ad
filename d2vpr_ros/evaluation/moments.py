"""Images of a drive that are looked at one by one, with what the localizer believed then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from d2vpr_ros.evaluation.offline import Answered
from d2vpr_ros.evaluation.scoring import ScoredQuery
from d2vpr_ros.fields import NANOSECONDS
from d2vpr_ros.geometry import Array


@dataclass(frozen=True, eq=False)
class Believed:
    """What the localizer held to be likely after an image.

    Attributes:
        rows, beliefs: of the likeliest places, best first, as many of each.
        would_be: (3,) where the robot's base would be if it answered; None where no place came into question.
    """

    rows: tuple[int, ...] = ()
    beliefs: tuple[float, ...] = ()
    would_be: Array | None = None


@dataclass(frozen=True, eq=False)
class Moment:
    """One image of a drive.

    Attributes:
        number, of: of the image among those of the drive, from 1, and how many they are.
        seconds: since the drive's first image.
        off_map, rival: belief of being off the map, and of the likeliest neighbourhood elsewhere; images: how many are
            behind the best match (`BeliefSummary`); None where no place came into question.
        inliers: that the localizer counted with the best place; 0 where it did not compare them.
    """

    query: ScoredQuery
    number: int
    of: int
    seconds: float
    believed: Believed
    off_map: float | None = None
    rival: float | None = None
    images: float | None = None
    inliers: int = 0


def evenly(count: int, most: int) -> npt.NDArray[np.int64]:
    """At most `most` different numbers below `count`, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def moments_of(every: Sequence[Answered], most: int) -> list[Moment]:
    """Of the images whose truth is known at most so many, evenly spread over the drive."""
    known = [(number, one, one.query) for number, one in enumerate(every, 1) if one.query is not None]
    chosen = [known[index] for index in evenly(len(known), most)]
    began_ns = every[0].estimate.stamp_ns if every else 0
    return [_moment(one, query, number, len(every), began_ns) for number, one, query in chosen]


def _moment(answered: Answered, query: ScoredQuery, number: int, of: int, began_ns: int) -> Moment:
    estimate, standing = answered.estimate, answered.estimate.standing
    believed = Believed(
        tuple(match.row for match in estimate.matches),
        tuple(match.belief for match in estimate.matches),
        None if standing is None else standing.position,
    )
    inliers = estimate.matches[0].inliers if estimate.matches else 0
    seconds = (query.stamp_ns - began_ns) / NANOSECONDS
    known = query, number, of, seconds, believed
    if standing is None:
        return Moment(*known, inliers=inliers)
    return Moment(*known, float(standing.off_map), float(standing.rival), float(standing.images), inliers)
