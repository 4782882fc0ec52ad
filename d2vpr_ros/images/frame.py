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
    """A frame with T_map_cameraOptical at its stamp; `geo` is (latitude, longitude, altitude) where known.

    Angles in degrees (WGS-84), altitude in metres above the ellipsoid, NaN where not known.
    """

    frame: Frame
    pose: Pose
    geo: tuple[float, float, float] | None = None
