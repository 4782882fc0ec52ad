"""Recorded NavSatFix: a track in metres east and north, and geo-tags for images between fixes."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from d2vpr_ros.bags.order import FrameWatch, RunWatch
from d2vpr_ros.bags.reader import Bag
from d2vpr_ros.bags.trajectory import Array, Geo, Stamps, bracket, in_order
from d2vpr_ros.fields import NANOSECONDS, stamp_ns
from d2vpr_ros.geodesy import LocalFrame

log = logging.getLogger(__name__)

FLAT_EXTENT_M = 20_000.0
"""Beyond, the plane of a local frame lies tens of metres off the ground."""


@dataclass(frozen=True, eq=False)
class GpsTrack:
    """The fixes of a receiver, in order; those without a fix or with a NaN are left out.

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
    stamps, geo, covariances = [], [], []
    run, frames = RunWatch(bag, topic), FrameWatch(bag.path, topic)
    for _, recorded_ns, message in bag.messages([topic]):
        run.see(stamp_ns(message.header), recorded_ns)
        frames.see(message.header.frame_id)
        place = (message.latitude, message.longitude, message.altitude)
        if message.status.status < 0 or not on_earth(place):
            continue
        stamps.append(stamp_ns(message.header))
        geo.append(place)
        known = message.position_covariance_type != 0
        covariances.append(message.position_covariance if known else np.full(9, np.nan))
    if not stamps:
        return None
    return make_track(np.array(stamps, np.int64), np.array(geo, np.float64), np.array(covariances), frames.frames[0])


def on_earth(geo: Geo) -> bool:
    """Whether latitude and longitude are finite and in range; altitude may be anything."""
    return bool(abs(geo[0]) <= 90 and abs(geo[1]) <= 180)


def make_track(stamps: Stamps, geo: Array, covariances: Array | None = None, frame_id: str = "") -> GpsTrack:
    """A track from (N,) stamps in any order, (N, 3) latitude, longitude, altitude or NaN, and (N, 9) covariances."""
    order = in_order(stamps)
    stamps, geo = stamps[order], geo[order]
    heights = geo[:, 2] if np.isfinite(geo[:, 2]).all() else np.zeros(len(geo))
    level = np.column_stack([geo[:, :2], heights])
    origin = LocalFrame(*(float(v) for v in level[0]))
    enu = origin.to_enu(level)
    if not np.isfinite(geo[:, 2]).all():
        enu[:, 2] = 0.0  # else the earth's curvature shows
    extent = float(np.hypot(*np.ptp(enu[:, :2], axis=0)))
    if extent > FLAT_EXTENT_M:
        log.warning(
            "the GPS track spans %.0f km: a flat map of it is exact to some metres only up to %.0f km",
            extent / 1000,
            FLAT_EXTENT_M / 1000,
        )
    known = np.full((len(geo), 9), np.nan) if covariances is None else covariances[order]
    return GpsTrack(stamps, geo, origin, enu, known.reshape(-1, 3, 3), frame_id)
