"""GPS says roughly where the robot is; only places thereabouts come into question."""

from __future__ import annotations

import math
from dataclasses import dataclass

from d2vpr_ros.fields import NANOSECONDS
from d2vpr_ros.mapping.earth import Earth
from d2vpr_ros.mapping.restriction import UNRESTRICTED, Region, Restriction

_KEPT_S = 3.0  # receivers give a fix a second or more; an older one says too little of a car
_UNKNOWN_M = 15.0  # standard deviation where the receiver does not say, as among houses


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
        return UNRESTRICTED if region is None else Restriction(region)
