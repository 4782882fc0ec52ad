"""Recorded NavSatFix: a track in metres east and north, and geo-tags for images between fixes."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from d2vpr_ros.bags.order import FrameWatch, RunWatch
from d2vpr_ros.bags.trajectory import Array, Geo, Stamps, bracket, in_order
from d2vpr_ros.fields import NANOSECONDS, stamp_ns
from d2vpr_ros.geodesy import LocalFrame

if TYPE_CHECKING:
    from d2vpr_ros.bags.reader import Bag

log = logging.getLogger(__name__)

FLAT_EXTENT_M = 20_000.0
"""Beyond, the plane of a local frame lies tens of metres off the ground."""


FASTEST_MPS, SLACK_M = 100.0, 100.0
"""No vehicle comes further than these allow from one fix to the next: 360 km/h, and what high houses add."""
_SLACK_SIGMAS = 5.0

_NULL_ISLAND_DEG = 1e-6
"""Receivers send 0 N 0 E before they have a fix, some for minutes, with a status that says otherwise."""


@dataclass(frozen=True, eq=False)
class GpsTrack:
    """The fixes of a receiver, in order; those without a fix, with a NaN or where no vehicle can be are left out.

    Attributes:
        stamps_ns: (N,) int64, strictly increasing.
        geo: (N, 3) float64: latitude, longitude (degrees, WGS-84), altitude (metres above the ellipsoid, NaN where
            not known).
        origin: the first fix; altitude 0 unless every fix has one.
        enu: (N, 3) float64, metres east, north, up of it; up is 0 unless every fix has an altitude.
        covariances: (N, 3, 3) float64 m² east, north, up; NaN where the receiver does not say.
        frame_id: of the antenna.
    """

    stamps_ns: Stamps
    geo: Array
    origin: LocalFrame
    enu: Array
    covariances: Array
    frame_id: str = ""

    @property
    def has_altitude(self) -> bool:
        """Whether every fix has an altitude."""
        return bool(np.isfinite(self.geo[:, 2]).all())

    def at(self, stamp_ns: int, max_gap_s: float) -> Geo | None:
        """Where the antenna was: between two fixes on the straight line; altitude NaN where either has none.

        None outside the track's time, and between fixes that are more than `max_gap_s` apart.
        """
        found = bracket(self.stamps_ns, stamp_ns)
        if found is None or found.gap_ns > max_gap_s * NANOSECONDS:
            return None
        share = found.share
        # In metres: degrees of longitude jump at the antimeridian.
        position = (1 - share) * self.enu[found.before] + share * self.enu[found.after]
        latitude, longitude, _ = self.origin.to_geo(position[None])[0]
        altitude = (1 - share) * self.geo[found.before, 2] + share * self.geo[found.after, 2]
        return float(latitude), float(longitude), float(altitude)


def read_track(bag: Bag, topic: str) -> GpsTrack | None:
    """The track of a NavSatFix topic; None if no message has a fix.

    Raises:
        UserError: time begins anew on the topic, or it mixes two receivers.
    """
    run, frames = RunWatch(bag, topic), FrameWatch(bag.path, topic)

    def watched() -> Iterator[Any]:
        for _, recorded_ns, message in bag.messages([topic]):
            run.see(stamp_ns(message.header), recorded_ns)
            frames.see(message.header.frame_id)
            yield message

    return track_from_fixes(watched(), bag.path)


def track_from_fixes(messages: Iterable[Any], source: Path | str) -> GpsTrack | None:
    """The track of sensor_msgs/NavSatFix messages; None if none has a fix.

    Args:
        source: what they are from.
    """
    stamps, geo, covariances, frame_id = [], [], [], ""
    for message in messages:
        frame_id = frame_id or str(message.header.frame_id)
        place = (message.latitude, message.longitude, message.altitude)
        if message.status.status < 0 or not in_range(place):
            continue
        stamps.append(stamp_ns(message.header))
        geo.append(place)
        known = message.position_covariance_type != 0
        covariances.append(message.position_covariance if known else np.full(9, np.nan))
    return make_track(source, np.array(stamps, np.int64), np.array(geo, np.float64), np.array(covariances), frame_id)


def in_range(geo: Geo) -> bool:
    """Whether latitude and longitude are finite and in range; altitude may be anything."""
    return bool(abs(geo[0]) <= 90 and abs(geo[1]) <= 180)


def is_null_island(latitude: float, longitude: float) -> bool:
    """Whether degrees are 0 N 0 E, in the Atlantic: what receivers send that have no fix."""
    return max(abs(latitude), abs(longitude)) < _NULL_ISLAND_DEG


def is_jump(metres: float, seconds: float, sigmas_m: float = 0.0) -> bool:
    """Whether no vehicle comes so far in this time.

    Args:
        sigmas_m: standard deviations of the two positions, added.
    """
    return metres > SLACK_M + _SLACK_SIGMAS * sigmas_m + FASTEST_MPS * abs(seconds)


def plausible(stamps_ns: Stamps, positions: Array, sigmas_m: Array) -> npt.NDArray[np.bool_]:
    """(N,) which fixes a vehicle can have been at: the longest run without a jump, and what can be reached from there.

    Args:
        positions: (N, 3) metres; sigmas_m: (N,) standard deviations.
    """

    def jumps(a: int, b: int) -> bool:
        seconds = (int(stamps_ns[b]) - int(stamps_ns[a])) / NANOSECONDS
        return is_jump(float(np.linalg.norm(positions[b] - positions[a])), seconds, float(sigmas_m[a] + sigmas_m[b]))

    starts = [0, *(row for row in range(1, len(stamps_ns)) if jumps(row - 1, row)), len(stamps_ns)]
    runs = [range(begin, end) for begin, end in itertools.pairwise(starts)]
    longest = max(range(len(runs)), key=lambda number: len(runs[number]))
    kept = np.zeros(len(stamps_ns), bool)
    kept[runs[longest]] = True
    last = runs[longest][-1]
    for run in runs[longest + 1 :]:
        if not jumps(last, run[0]):
            kept[run], last = True, run[-1]
    first = runs[longest][0]
    for run in reversed(runs[:longest]):
        if not jumps(first, run[-1]):
            kept[run], first = True, run[0]
    return kept


def make_track(
    path: Path | str, stamps: Stamps, geo: Array, covariances: Array | None = None, frame_id: str = ""
) -> GpsTrack | None:
    """A track from fixes; those at 0 N 0 E and where no vehicle can be are left out, and it is logged.

    Args:
        path: what they are from.
        stamps: (N,) in any order.
        geo: (N, 3) latitude, longitude, altitude or NaN.
        covariances: (N, 9).

    Returns:
        None where nothing is left.
    """
    order = in_order(stamps)
    order = order[[not is_null_island(*place[:2]) for place in geo[order]]] if len(order) else order
    nowhere = len(np.unique(stamps)) - len(order)
    if nowhere:
        log.warning("%s: %d fixes are left out: 0 N 0 E, sent by receivers without a fix", path, nowhere)
    if not len(order):
        return None
    known = np.full((len(geo), 9), np.nan) if covariances is None else covariances
    level = np.column_stack([geo[order, :2], np.zeros(len(order))])
    sigmas = np.nan_to_num(np.sqrt(np.maximum(known[order, 0], known[order, 4])), posinf=0.0)
    kept = plausible(stamps[order], LocalFrame(*(float(v) for v in level[0])).to_enu(level), sigmas)
    if not kept.all():
        jumps = f"{path}: {(~kept).sum()} fixes are left out"
        log.warning("%s: too far from the others for a vehicle at %.0f m/s", jumps, FASTEST_MPS)
    order = order[kept]
    stamps, geo, known = stamps[order], geo[order], known[order]
    heights = geo[:, 2] if np.isfinite(geo[:, 2]).all() else np.zeros(len(geo))
    level = np.column_stack([geo[:, :2], heights])
    origin = LocalFrame(*(float(v) for v in level[0]))
    enu = origin.to_enu(level)
    if not np.isfinite(geo[:, 2]).all():
        enu[:, 2] = 0.0  # else the earth's curvature shows
    extent = float(np.hypot(*np.ptp(enu[:, :2], axis=0)))
    if extent > FLAT_EXTENT_M:
        log.warning(
            "the GPS track spans %.0f km: above %.0f km a flat map is off by several metres",
            extent / 1000,
            FLAT_EXTENT_M / 1000,
        )
    return GpsTrack(stamps, geo, origin, enu, known.reshape(-1, 3, 3), frame_id)
