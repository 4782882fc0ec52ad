"""What a map says about itself: format, model, frames, cameras."""

from __future__ import annotations

from dataclasses import dataclass

from d2vpr_ros.describe import ModelIdentity
from d2vpr_ros.geodesy import LocalFrame
from d2vpr_ros.geometry import Pose

FORMAT_VERSION = 1


@dataclass(frozen=True, eq=False)
class Camera:
    """One camera of a recorded drive; `mount` is T_base_cameraOptical."""

    name: str
    width: int
    height: int
    mount: Pose


@dataclass(frozen=True)
class MapHeader:
    """Attributes:
    model: what described the places; a localizer with another one is refused.
    descriptor_width: numbers in a descriptor.
    frame: the map frame the poses are in (REP-105).
    keyframe_spacing_m: how far apart places were taken; bounds how exact an answer can be.
    origin: where a geo-tagged map's ENU frame stands on the earth, else None.
    """

    model: ModelIdentity
    descriptor_width: int
    frame: str
    keyframe_spacing_m: float
    origin: LocalFrame | None
