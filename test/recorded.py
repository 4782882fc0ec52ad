"""A small drive as a bag, for the tests."""

from __future__ import annotations

import numpy as np

from d2vpr_ros.bags.writer import BagWriter
from d2vpr_ros.geometry import FORWARD_MOUNT, Pose

SECOND = 1_000_000_000
RGB = np.random.default_rng(5).integers(0, 256, (24, 32, 3), dtype=np.uint8)
LEFT_MOUNT = Pose.planar(0.3, 0.1, np.pi / 2, z=0.5) @ FORWARD_MOUNT


def record(path, images=5, poses=("/slam/pose",), compressed=False):
    """A robot that drives 1 m/s along x for some seconds, with an image at each half second in between."""
    with BagWriter(path, compressed=compressed) as bag:
        bag.transform(0, "base_link", "camera_link", Pose.planar(0.3, 0.1, np.pi / 2, z=0.5), static=True)
        bag.transform(0, "camera_link", "camera_optical_frame", FORWARD_MOUNT, static=True)
        for i in range(images):
            for topic in poses:
                bag.pose(topic, i * SECOND, "map", Pose.planar(i, 0, 0))
            bag.image("/camera/image", i * SECOND + SECOND // 2, RGB, "camera_optical_frame")
    return path
