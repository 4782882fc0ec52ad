"""Where a body was at any time of a recorded drive: poses over time, interpolated."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from d2vpr_ros.bags.covariance import larger, usable
from d2vpr_ros.errors import UserError
from d2vpr_ros.fields import NANOSECONDS
from d2vpr_ros.geodesy import LocalFrame
from d2vpr_ros.geometry import Pose, interpolate

log = logging.getLogger(__name__)

_TWO_PLACES_M, _FEW_CORRECTIONS = 1.0, 2  # SLAM may correct a pose it has published

Array = npt.NDArray[np.float64]
Stamps = npt.NDArray[np.int64]
Geo = tuple[float, float, float]
PoseOf = Literal["base", "camera_optical"]


class Poses(Protocol):
    """What a drive asks of its poses, wherever they come from: T_frame_body over time.

    `frame_id` is the frame they are in, `origin` where that frame stands on the earth, if it is an east-north-up one,
    `span_ns` the first and last stamp.
    """

    @property
    def frame_id(self) -> str: ...
    @property
    def origin(self) -> LocalFrame | None: ...
    @property
    def span_ns(self) -> tuple[int, int]: ...

    def at(self, stamp_ns: int, max_gap_s: float) -> Pose | None:
        """The pose at a time; None outside the span and between samples more than `max_gap_s` apart."""

    def covariance_at(self, stamp_ns: int) -> Array | None:
        """(6, 6) of that pose in its frame (`bags.covariance`), None where the source does not say it."""

    def geo(self, position: Array) -> Geo | None:
        """(latitude, longitude, altitude) of a position (3,): degrees, metres above the ellipsoid or NaN; else None."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Poses over time, in order.

    Attributes:
        stamps_ns: (N,) int64, strictly increasing.
        positions: (N, 3) float64, metres.
        quaternions: (N, 4) float64, unit, (x, y, z, w).
        frame_id: the frame the poses are in; of a NavSatFix track, the ENU frame of `origin`.
        child_frame_id: the frame they are poses of, where the source says it.
        origin: of the local ENU frame of a NavSatFix track, else None; altitude 0 where unknown.
        has_altitude: whether the heights of a NavSatFix track are known (else z is 0).
        covariances: (N, 36) float64 as the source wrote them, NaN where it did not; None if it never does.
    """

    stamps_ns: Stamps
    positions: Array
    quaternions: Array
    frame_id: str = "map"
    child_frame_id: str | None = None
    origin: LocalFrame | None = None
    has_altitude: bool = False
    covariances: Array | None = None

    @property
    def span_ns(self) -> tuple[int, int]:
        """The first and the last stamp."""
        return int(self.stamps_ns[0]), int(self.stamps_ns[-1])

    def at(self, stamp_ns: int, max_gap_s: float) -> Pose | None:
        """The pose at a time: position linear, rotation by slerp between the two poses around it.

        None outside the trajectory's time, and between poses that are more than `max_gap_s` apart.
        """
        found = bracket(self.stamps_ns, stamp_ns)
        if found is None or found.gap_ns > max_gap_s * NANOSECONDS:
            return None
        before = Pose(self.positions[found.before], self.quaternions[found.before])
        if found.before == found.after:
            return before
        return interpolate(before, Pose(self.positions[found.after], self.quaternions[found.after]), found.share)

    def covariance_at(self, stamp_ns: int) -> Array | None:
        """(6, 6) covariance of the pose at a time: the larger of those of the two poses around it.

        Larger, because an interpolated pose is never known better than the worse of the two it is made of; None where
        either is unknown.
        """
        found = bracket(self.stamps_ns, stamp_ns)
        if self.covariances is None or found is None:
            return None
        return larger(usable(self.covariances[found.before]), usable(self.covariances[found.after]))

    def geo(self, position: Array) -> Geo | None:
        """(latitude, longitude, altitude) of a position (3,): degrees, metres above the ellipsoid or NaN; else None."""
        if self.origin is None:
            return None
        latitude, longitude, altitude = self.origin.to_geo(position[None])[0]
        return float(latitude), float(longitude), float(altitude) if self.has_altitude else float("nan")


@dataclass(frozen=True)
class Bracket:
    """The rows around a time (the same one twice, exactly at a stamp), how far apart they are, and how far between."""

    before: int
    after: int
    gap_ns: int = 0
    share: float = 0.0


def bracket(stamps_ns: Stamps, stamp_ns: int) -> Bracket | None:
    """Where a time falls among stamps in order (N,); None before the first and after the last."""
    after = int(np.searchsorted(stamps_ns, stamp_ns))
    if after == len(stamps_ns):
        return None
    if stamps_ns[after] == stamp_ns:
        return Bracket(after, after)
    if after == 0:
        return None
    # Differences first, in integers: a float64 cannot hold the nanoseconds of today's stamps.
    start = int(stamps_ns[after - 1])
    gap = int(stamps_ns[after]) - start
    return Bracket(after - 1, after, gap, (int(stamp_ns) - start) / gap)


def in_order(stamps: Sequence[int] | Stamps) -> Stamps:
    """Indices that sort the stamps and leave out all but the first of equal ones."""
    _, first = np.unique(np.asarray(stamps, dtype=np.int64), return_index=True)
    return np.asarray(first, dtype=np.int64)


class PoseColumns:
    """Collects poses as they come, as plain numbers: an hour of odometry is a million of them."""

    def __init__(self) -> None:
        self._stamps, self._numbers, self._covariances = array("q"), array("d"), array("d")

    def __len__(self) -> int:
        return len(self._stamps)

    def add(self, stamp_ns: int, numbers: Sequence[float], covariance: Any | None = None) -> None:
        """One pose as x, y, z, qx, qy, qz, qw, and its (36,) covariance if all of them have one."""
        self._stamps.append(stamp_ns)
        self._numbers.extend(numbers)
        if covariance is not None:
            self._covariances.extend(covariance)

    def check_one_way(self, named: str) -> None:
        """Refuse poses of which many say that the body was at two places at once: two runs, or two publishers.

        So shows a recording whose own times began anew with the simulator's, or a file that two were put together in.

        Raises:
            UserError: of more than one stamp in a hundred.
        """
        stamps = np.array(self._stamps, dtype=np.int64)
        numbers = np.array(self._numbers, dtype=np.float64).reshape(-1, 7)
        order = np.argsort(stamps, kind="stable")
        same = np.diff(stamps[order]) == 0
        with np.errstate(over="ignore", invalid="ignore"):
            apart = np.linalg.norm(np.diff(numbers[order, :3], axis=0), axis=1) > _TWO_PLACES_M
        twice = int((same & apart).sum())
        if twice > max(_FEW_CORRECTIONS, len(stamps) // 100):
            raise UserError(
                f"{named}: {twice} of its {len(stamps)} poses are over {_TWO_PLACES_M:g} m from another of the same "
                "time: two runs of a simulator or two publishers are mixed; keep one of them"
            )

    def trajectory(self, frame_id: str, child_frame_id: str | None = None) -> Trajectory | None:
        """The usable poses, in order of their stamps; None if there is none.

        Poses with a number that is not finite or a quaternion without a direction are left out, and it is logged.
        """
        stamps = np.array(self._stamps, dtype=np.int64)
        numbers = np.array(self._numbers, dtype=np.float64).reshape(-1, 7)
        with np.errstate(over="ignore"):  # squares of finite numbers can overflow: no direction either
            norms = np.linalg.norm(numbers[:, 3:], axis=1)
        good = np.isfinite(numbers).all(axis=1) & (norms >= 1e-6) & (norms < np.inf)
        if not good.any():
            return None
        if not good.all():
            log.warning("%d poses are not finite or have no rotation and are left out", (~good).sum())
        kept = np.flatnonzero(good)
        kept = kept[in_order(stamps[kept])]
        covariances = np.array(self._covariances, dtype=np.float64).reshape(-1, 36)[kept] if self._covariances else None
        return Trajectory(
            stamps[kept],
            numbers[kept, :3],
            numbers[kept, 3:] / norms[kept, None],
            frame_id=frame_id,
            child_frame_id=child_frame_id,
            covariances=covariances,
        )
