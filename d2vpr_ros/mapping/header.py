"""What a map says about itself: format, model, frames, sessions, cameras."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from d2vpr_ros.describe import ModelIdentity
from d2vpr_ros.geodesy import LocalFrame
from d2vpr_ros.geometry import Pose, optical_heading
from d2vpr_ros.images.deep import Range

FORMAT_VERSION = 2


@dataclass(frozen=True, eq=False)
class Camera:
    """One camera of a session.

    Attributes:
        name: unique in its session.
        width, height: of its pictures, pixels.
        mount: T_base_cameraOptical.
        k: the nine numbers of sensor_msgs/CameraInfo.k, row by row, for pictures of this size; None where not known.
        distortion_model, d: as in sensor_msgs/CameraInfo.
    """

    name: str
    width: int
    height: int
    mount: Pose
    k: tuple[float, ...] | None = None
    distortion_model: str = ""
    d: tuple[float, ...] = ()


@dataclass(frozen=True)
class Session:
    """One recorded drive in a map.

    Attributes:
        name: for people.
        source: tells the recording it was built from apart from others; empty for a live build.
        complete: whether the build got to the recording's end.
    """

    name: str
    source: str = ""
    complete: bool = True


@dataclass(frozen=True, eq=False)
class MapHeader:
    """Attributes:
    model: what described the places; a localizer with another one is refused.
    descriptor_width: numbers in a descriptor.
    frame: the map frame the poses are in (REP-105).
    keyframe_spacing_m: how far apart places were taken; bounds how exact an answer can be.
    origin: where the map frame stands on the earth, if it is an east-north-up frame; else None.
    geo_tagged: whether places have a latitude and longitude (always so with an origin).
    metric: False for a sequence of places without poses: a place's x is its number in the session.
    image_range: of 16-bit images, the values that become black and white, for the map's and the robot's alike
        (`images.deep`); None is all of 16 bits.
    calibrations: of the localizer, fitted on drives through this map: weights by name, by the calibration's name. Maps
        of older versions have others, and several.
    """

    model: ModelIdentity
    descriptor_width: int
    frame: str
    keyframe_spacing_m: float
    origin: LocalFrame | None = None
    geo_tagged: bool = False
    metric: bool = True
    calibrations: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    image_range: Range | None = None

    def heading_deg(self, pose: Pose) -> float | None:
        """Where a camera at T_map_cameraOptical looks, in [0, 360) degrees; None near vertical and without metres.

        Clockwise from north where the map frame is east-north-up, else counter-clockwise from its x axis.
        """
        heading = optical_heading(pose)
        if heading is None or not self.metric:
            return None
        degrees = float(np.degrees(heading))
        return (90.0 - degrees) % 360.0 if self.origin else degrees % 360.0
