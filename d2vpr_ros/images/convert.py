"""Which library turns a raw image message into RGB: the cv_bridge of a ROS installation, else rosbags-image."""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from d2vpr_ros.errors import UserError

log = logging.getLogger(__name__)

# A cv_bridge built for numpy 1 can take the whole process down when it is imported beside numpy 2.
TRIAL = """
import types, numpy
from cv_bridge import CvBridge
picture = types.SimpleNamespace(
    height=1, width=2, encoding="bgr8", is_bigendian=0, step=6, data=bytes([1, 2, 3, 4, 5, 6]))
assert CvBridge().imgmsg_to_cv2(picture, "rgb8").tolist() == [[[3, 2, 1], [6, 5, 4]]]
"""

Converter = Callable[[Any], npt.NDArray[np.uint8]]


@cache
def converter() -> Converter:
    """The function from an Image-shaped object without row padding to (H, W, 3) uint8 RGB.

    Chosen once a process, and said once in the log.

    Raises:
        UserError: neither library is installed.
    """
    if in_ros_prefix("cv_bridge"):
        trial = subprocess.run([sys.executable, "-c", TRIAL], capture_output=True, text=True, check=False)
        if trial.returncode == 0:
            from cv_bridge import CvBridge

            bridge = CvBridge()
            return lambda message: bridge.imgmsg_to_cv2(message, "rgb8")
        reason = trial.stderr.strip().splitlines()[-1:] or [f"it ended with status {trial.returncode}"]
        log.warning("images are decoded by rosbags-image: the installed cv_bridge does not work (%s)", reason[0])
    else:
        log.info("images are decoded by rosbags-image: cv_bridge is not installed")
    try:
        from rosbags.image import image_to_cvimage
    except ImportError as error:
        raise UserError(
            "no image decoder: install cv_bridge with ROS (apt install ros-$ROS_DISTRO-cv-bridge) or "
            f"`pip install rosbags-image` ({error})"
        ) from error
    return lambda message: image_to_cvimage(message, "rgb8")


def in_ros_prefix(module: str) -> bool:
    """Whether a module comes from a sourced ROS installation (PyPI's cv_bridge 1.13 reads images wrongly)."""
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        return False
    prefixes = [Path(p).resolve() for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    return any(prefix in Path(found.origin).resolve().parents for prefix in prefixes)
