"""One decoded camera image, wherever it came from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from d2vpr_ros.geometry import Pose


@dataclass(frozen=True, eq=False)
class Frame:
    """What every later stage sees of an image.

    Attributes:
        rgb: (H, W, 3) uint8.
        stamp_ns: when the image was taken, nanoseconds (header stamp).
        camera: name of the camera, from the topic or the header's frame.
    """

    rgb: npt.NDArray[np.uint8]
    stamp_ns: int
    camera: str


@dataclass(frozen=True, eq=False)
class PosedFrame:
    """A frame with T_map_cameraOptical at its stamp.

    Attributes:
        geo: (latitude, longitude, altitude) where known: degrees (WGS-84), metres above the ellipsoid, NaN where not
            known. Of the camera, if the poses are GPS's; else of the GPS antenna that was recorded beside them.
        covariance: (6, 6) float64 of the camera's pose in the map frame, m² and rad², where known: x, y, z and
            rotations about the map's fixed x, y, z axes (as geometry_msgs/PoseWithCovariance).
    """

    frame: Frame
    pose: Pose
    geo: tuple[float, float, float] | None = None
    covariance: npt.NDArray[np.float64] | None = None
