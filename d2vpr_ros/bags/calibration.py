"""A camera's intrinsics as a bag has them: the CameraInfo beside its images."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from d2vpr_ros.geometry import scale_camera_matrix

if TYPE_CHECKING:  # nodes read calibrations, too, and have no use for a bag's reader
    from d2vpr_ros.bags.reader import Bag

log = logging.getLogger(__name__)

CAMERA_INFO = "sensor_msgs/msg/CameraInfo"

_SAME_SHAPE = 0.02  # relative; a picture scaled down to whole pixels is off by less, one cut to 4:3 by more


@dataclass(frozen=True)
class Calibration:
    """Intrinsics for pictures of one size.

    Attributes:
        width, height: pixels.
        k: the nine numbers of sensor_msgs/CameraInfo.k, row by row.
        distortion_model, d: as in sensor_msgs/CameraInfo; empty for rectified pictures.
    """

    width: int
    height: int
    k: tuple[float, ...]
    distortion_model: str = ""
    d: tuple[float, ...] = ()

    def k_for(self, width: int, height: int) -> tuple[float, ...] | None:
        """K of the same pictures scaled to another size; None where the size has another shape (they were cut)."""
        sx, sy = width / self.width, height / self.height
        if abs(sx / sy - 1) > _SAME_SHAPE:
            return None
        scaled = scale_camera_matrix(np.reshape(self.k, (3, 3)), sx, sy)
        return tuple(float(v) for v in scaled.reshape(-1))


def camera_namespace(image_topic: str) -> str:
    """The camera an image topic belongs to: /front/image_raw/compressed -> front; empty for /image."""
    parts = image_topic.strip("/").removesuffix("/compressed").split("/")
    return "/".join(parts[:-1])


def read_calibration(bag: Bag, image_topic: str) -> Calibration | None:
    """Intrinsics from the first message on camera_info beside an image topic (image_transport's convention).

    Of a rectified topic (image_rect...) those of the projection matrix P. None without such a topic or message, and
    where the camera is not calibrated (K is 0).
    """
    topic = f"/{camera_namespace(image_topic)}/camera_info".replace("//", "/")
    if topic not in bag.topics or bag.topics[topic].msgtype != CAMERA_INFO:
        return None
    first = next(bag.messages([topic], latched=True), None)
    if first is None:
        return None
    calibration = calibration_of(first[2], image_topic)
    if calibration is None:
        log.info("%s: %s says that the camera is not calibrated", bag.path, topic)
    return calibration


def calibration_of(message: Any, image_topic: str) -> Calibration | None:
    """What a sensor_msgs/CameraInfo says of the images on a topic, as `read_calibration`."""
    rectified = "rect" in image_topic.strip("/").removesuffix("/compressed").split("/")[-1]
    p = np.asarray(message.p, np.float64).reshape(3, 4)
    k = p[:, :3].reshape(9) if rectified else np.asarray(message.k, np.float64)
    width, height = int(message.width), int(message.height)
    if not np.isfinite(k).all() or k[0] <= 0 or k[4] <= 0 or min(width, height) <= 0:
        return None
    if rectified:
        return Calibration(width, height, tuple(k.tolist()))
    d = tuple(float(v) for v in message.d)
    return Calibration(width, height, tuple(k.tolist()), str(message.distortion_model), d)
