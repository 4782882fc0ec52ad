"""Where a map's frame lies on the earth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from d2vpr_ros.geodesy import LocalFrame
from d2vpr_ros.geometry import Pose
from d2vpr_ros.mapping.place_map import PlaceMap

Array = npt.NDArray[np.float64]

_LEAST_TAGS = 10
_LEAST_SPREAD_M = 10.0  # of the tags about their middle; from less, noise decides which way the map is turned
_MOST_DEVIATION = 0.2  # of that spread; more, and the poses are no picture of where the tags are
_OUTLIER = 3.0  # times the median distance


@dataclass(frozen=True, eq=False)
class Earth:
    """Attributes:
    frame: an east-north-up frame.
    transform: T_enu_map, level: turned about the vertical only.
    deviation_m: how far the map's places lie from their tags in it, per horizontal axis (root mean square).
    """

    frame: LocalFrame
    transform: Pose
    deviation_m: float

    def to_geo(self, position: Array) -> tuple[float, float, float]:
        """(3,) in the map frame to latitude, longitude (degrees), altitude (metres above the ellipsoid)."""
        enu = self.transform.rotation.apply(position) + self.transform.position
        latitude, longitude, altitude = self.frame.to_geo(enu[None])[0]
        return float(latitude), float(longitude), float(altitude)

    def to_map(self, latitude: float, longitude: float) -> tuple[float, float]:
        """Degrees to x, y in the map frame."""
        enu = self.frame.to_enu(np.array([[latitude, longitude, self.frame.altitude]]))[0]
        x, y, _ = self.transform.inverse().rotation.apply(enu - self.transform.position)
        return float(x), float(y)

    def covariance(self, covariance: Array) -> Array:
        """(3, 3) of a position in the map frame to that in east, north, up, metres squared.

        The few hundredths of a degree by which up differs from the frame's origin to the far end of a map are left out.
        """
        turned = self.transform.rotation.as_matrix()
        return np.asarray(turned @ covariance @ turned.T + self.deviation_m**2 * np.eye(3))


def earth_of(place_map: PlaceMap) -> Earth | None:
    """How a map's frame lies on the earth; None where the map does not tell.

    A map with an origin says so itself. Of others, with poses from SLAM beside tags from GPS, the level transform is
    fitted that brings places to their tags; there is none where less than 10 places have tags, where the tags spread
    less than 10 m, or do not fit the poses.
    """
    header = place_map.header
    if not header.geo_tagged or not header.metric:
        return None
    if header.origin is not None:
        return Earth(header.origin, Pose.identity(), 0.0)
    tagged = np.isfinite(place_map.geo[:, :2]).all(axis=1)
    if tagged.sum() < _LEAST_TAGS:
        return None
    geo, positions = place_map.geo[tagged].copy(), place_map.positions[tagged]
    heights = geo[:, 2][np.isfinite(geo[:, 2])]
    height = float(np.median(heights)) if len(heights) else 0.0
    geo[:, 2] = height
    frame = LocalFrame(float(geo[0, 0]), float(geo[0, 1]), height)
    enu = frame.to_enu(geo)
    yaw, shift, off = _fit(positions, enu)
    kept = off <= max(_OUTLIER * float(np.median(off)), 1e-6)
    yaw, shift, off = _fit(positions[kept], enu[kept])
    deviation = float(np.sqrt((off**2).mean() / 2))
    spread = float(np.sqrt(((enu[kept, :2] - enu[kept, :2].mean(axis=0)) ** 2).sum(axis=1).mean()))
    if spread < _LEAST_SPREAD_M or deviation > _MOST_DEVIATION * spread:
        return None
    return Earth(frame, Pose.planar(*shift, yaw, -float(np.median(positions[:, 2]))), deviation)


def _fit(positions: Array, enu: Array) -> tuple[float, tuple[float, float], Array]:
    """Yaw and shift that bring (N, 3) positions nearest to (N, 3) east, north, up, and the (N,) metres left between."""
    here, there = positions[:, 0] + 1j * positions[:, 1], enu[:, 0] + 1j * enu[:, 1]
    turn = np.angle(np.vdot(here - here.mean(), there - there.mean()))
    shift = there.mean() - here.mean() * np.exp(1j * turn)
    off = np.abs(here * np.exp(1j * turn) + shift - there)
    return float(turn), (float(shift.real), float(shift.imag)), off
