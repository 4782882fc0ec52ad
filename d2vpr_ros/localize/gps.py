"""GPS says roughly where the robot is: only places thereabouts come into question, and belief elsewhere fades.

A fix can be wrong by more than its receiver knows, as where houses reflect, so that it never rules a place out: beyond
its region the likelihood falls with a power of the distance, and not below a hundredth. A belief that fixes contradict
all along the way is gone within some spacings; a single fix is outlived. A receiver that stands far from every place of
the map, all along the way, is off the map or broken: images decide which (`heeded`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from d2vpr_ros.bags.gps import in_range, is_null_island
from d2vpr_ros.fields import NANOSECONDS, stamp_ns
from d2vpr_ros.geodesy import LocalFrame
from d2vpr_ros.mapping.earth import Earth
from d2vpr_ros.mapping.restriction import UNRESTRICTED, Region, Restriction

SIGMAS, LEAST_RADIUS_M = 5.0, 30.0
"""Of a gate, where nobody says otherwise."""

_KEPT_S = 3.0  # receivers give a fix a second or more; an older one says too little of a car
_UNKNOWN_M = 15.0  # standard deviation where the receiver does not say, as among houses
_FALLS = 4.0  # power of the distance, in radii, with which a fix's likelihood falls beyond its region
_WRONG = 0.01  # of the likelihood within it: at most so often fixes are that far off


@dataclass(frozen=True)
class GpsFix:
    """Attributes:
    stamp_ns: of the fix.
    latitude, longitude: degrees, WGS-84.
    sigma_m: horizontal standard deviation along its worst direction; None where the receiver does not say.
    """

    stamp_ns: int
    latitude: float
    longitude: float
    sigma_m: float | None


def read_fix(message: Any) -> GpsFix | None:
    """Where a sensor_msgs/NavSatFix says the receiver is; None without a fix, and at 0 N 0 E, which is none."""
    place = (message.latitude, message.longitude, message.altitude)
    if message.status.status < 0 or not in_range(place) or is_null_island(*place[:2]):
        return None
    east_north = np.asarray(message.position_covariance, np.float64).reshape(3, 3)[:2, :2]
    sigma = None
    if message.position_covariance_type != 0 and np.isfinite(east_north).all():
        variance = float(np.linalg.eigvalsh((east_north + east_north.T) / 2)[-1])
        sigma = float(np.sqrt(variance)) if 0 < variance < np.inf else None
    return GpsFix(stamp_ns(message.header), float(message.latitude), float(message.longitude), sigma)


def ground_distance(a: GpsFix, b: GpsFix) -> float:
    """Metres between two fixes, on a plane about the first."""
    east, north, _ = LocalFrame(a.latitude, a.longitude, 0.0).to_enu(np.array([[b.latitude, b.longitude, 0.0]]))[0]
    return math.hypot(east, north)


@dataclass(frozen=True)
class GpsGate:
    """Attributes:
    sigmas: standard deviations around a fix within which the robot is.
    least_radius_m: however exact the receiver says it is: houses reflect, and a map's tags are off as well.
    top_speed_mps: how fast the region grows with the fix's age.
    """

    sigmas: float
    least_radius_m: float
    top_speed_mps: float

    def region(self, fix: GpsFix, stamp_ns: int, earth: Earth) -> Region | None:
        """Where the robot is at an image's stamp; None where the fix is over 3 s off that."""
        age_s = abs(stamp_ns - fix.stamp_ns) / NANOSECONDS
        if age_s > _KEPT_S:
            return None
        sigma = math.hypot(_UNKNOWN_M if fix.sigma_m is None else fix.sigma_m, earth.deviation_m)
        radius = max(self.least_radius_m, self.sigmas * sigma) + self.top_speed_mps * age_s
        x, y = earth.to_map(fix.latitude, fix.longitude)
        # Whoever is beyond the horizon has no coordinates on the plane of the map.
        return Region(x, y, radius) if math.isfinite(x) and math.isfinite(y) else None

    def restriction(self, fix: GpsFix | None, stamp_ns: int, earth: Earth | None) -> Restriction:
        """The places that come into question; all without a fix or where the map does not lie on the earth."""
        if fix is None or earth is None:
            return UNRESTRICTED
        region = self.region(fix, stamp_ns, earth)
        return UNRESTRICTED if region is None else Restriction(region, measured=fix.sigma_m is not None)


def heeded(restriction: Restriction, positions: npt.NDArray[np.float64]) -> tuple[Restriction, float, float | None]:
    """What of a fix counts, where the map has its places.

    So far from every place that its likelihood is at its least, it says the same of all of them: that the robot is off
    the map, or the receiver wrong, which happens a hundredth of the time. It then restricts nothing and is no evidence
    anew with each image, but odds against the map, once: images that are sure enough outweigh it.

    Args:
        positions: (N, 2 or 3) of the places, metres in the map frame.

    Returns:
        The restriction to search with, the odds of being on the map by the fix (1 where it is near), and how far the
        fix is from the nearest place, metres (None where it is near).
    """
    region = restriction.region
    if region is None:
        return restriction, 1.0, None
    nearest_m = float(np.hypot(positions[:, 0] - region.x, positions[:, 1] - region.y).min())
    if nearest_m <= max(region.radius_m, 1e-6) * _WRONG ** (-1 / _FALLS):
        return restriction, 1.0, None
    return Restriction(sessions=restriction.sessions), _WRONG if restriction.measured else 1.0, nearest_m


def log_likelihood(region: Region, positions: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How likely a fix is to have this region where the robot is elsewhere.

    Args:
        positions: (N, 2 or 3) of robots, metres in the map frame.

    Returns:
        (N,) logarithms, against a robot within it: 0 there, never under that of a hundredth.
    """
    radii = np.hypot(positions[:, 0] - region.x, positions[:, 1] - region.y) / max(region.radius_m, 1e-6)
    likelihood: npt.NDArray[np.float64] = np.maximum(-_FALLS * np.log(np.maximum(radii, 1.0)), np.log(_WRONG))
    return likelihood
