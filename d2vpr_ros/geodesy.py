"""WGS-84 and the local east-north-up frame, by PROJ (pyproj), float64."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from pyproj import Transformer
from pyproj.enums import TransformDirection
from scipy.spatial.transform import Rotation

from d2vpr_ros.geometry import Pose

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LocalFrame:
    """East-north-up metres around an origin: PROJ's topocentric conversion (EPSG method 9837).

    Attributes:
        latitude, longitude: of the origin, degrees, WGS-84.
        altitude: of the origin, metres above the ellipsoid.
    """

    latitude: float
    longitude: float
    altitude: float

    @cached_property
    def _transformer(self) -> Any:
        return Transformer.from_pipeline(
            "+proj=pipeline +step +proj=unitconvert +xy_in=deg +xy_out=rad +step +proj=cart +ellps=WGS84 "
            f"+step +proj=topocentric +ellps=WGS84 +lon_0={self.longitude!r} +lat_0={self.latitude!r} "
            f"+h_0={self.altitude!r}"
        )

    def to_enu(self, geo: Array) -> Array:
        """(N, 3) latitude, longitude (degrees), altitude (metres) to (N, 3) metres east, north, up."""
        # Lists: pyproj takes an array of one for a scalar, and warns.
        return np.stack(self._transformer.transform(geo[:, 1].tolist(), geo[:, 0].tolist(), geo[:, 2].tolist()), axis=1)

    def to_geo(self, enu: Array) -> Array:
        """(N, 3) metres east, north, up to (N, 3) latitude, longitude (degrees), altitude (metres)."""
        longitude, latitude, altitude = self._transformer.transform(
            enu[:, 0].tolist(), enu[:, 1].tolist(), enu[:, 2].tolist(), direction=TransformDirection.INVERSE
        )
        return np.stack([latitude, longitude, altitude], axis=1)


def frame_in(frame: LocalFrame, other: LocalFrame) -> Pose:
    """T_frame_other, exact: both are rectangular axes fixed to the earth, turned as their verticals and norths are."""
    at = frame.to_enu(other.to_geo(np.zeros((1, 3))))[0]
    turned = _axes(frame).inv() * _axes(other)
    return Pose(at, turned.as_quat())


def _axes(frame: LocalFrame) -> Rotation:
    """East, north and up of a frame as columns, in WGS-84's geocentric axes (EPSG guidance note 7-2, 4.1.2)."""
    return Rotation.from_euler("ZX", [90.0 + frame.longitude, 90.0 - frame.latitude], degrees=True)
