"""What becomes known of a live camera: its mount on the robot and its intrinsics."""

from __future__ import annotations

from typing import Any

from rclpy.node import Node

from d2vpr_ros.bags.calibration import Calibration, calibration_of
from d2vpr_ros.geometry import FORWARD_MOUNT, Pose
from d2vpr_ros.mapping import Camera
from d2vpr_ros.nodes.mount import MountListener

_WAIT_FOR_TF_S = 4.0  # less than an image is waited for (`waiting`), so that none is lost by it


class LiveCamera:
    """One camera of a node."""

    def __init__(
        self,
        node: Node,
        listener: MountListener,
        base_frame: str,
        camera_frame: str,
        mount: Pose | None,
        *,
        is_only: bool = True,
    ) -> None:
        """
        Args:
            listener: to tf.
            camera_frame: in tf; empty takes the images'.
            mount: T_base_cameraOptical; None takes it from tf.
            is_only: the robot has no other camera, so this one may be taken to look forward.
        """
        self._node, self._base_frame, self._camera_frame, self._mount = node, base_frame, camera_frame, mount
        self._is_only = is_only
        self._listener = listener
        self._calibration: Calibration | None = None
        self._asked_s: float | None = None

    def calibrate(self, message: Any, image_topic: str) -> None:
        """Take the first sensor_msgs/CameraInfo that says something of the images on a topic."""
        self._calibration = self._calibration or calibration_of(message, image_topic)

    def mount(self, frame_id: str, now_s: float) -> Pose | None:
        """T_base_cameraOptical, the same from its first answer on; None while it is still waited for.

        What was given, else what tf says, else (after 4 s, or without tf2) a level camera that looks forward, if it is
        the only one.
        """
        if self._mount is None:
            self._mount = self._listener.lookup(self._base_frame, self._camera_frame or frame_id)
        if self._mount is None:
            self._asked_s = now_s if self._asked_s is None else self._asked_s
            if not self._is_only or (self._listener.can_know and now_s - self._asked_s < _WAIT_FOR_TF_S):
                return None
            self._node.get_logger().warning(
                f"tf has no mount of {self._camera_frame or frame_id or 'the camera'} on {self._base_frame}; assumed: "
                "level, looking forward, at its origin (set camera_mount to change that)"
            )
            self._mount = FORWARD_MOUNT
        return self._mount

    def of_pictures(self, name: str, width: int, height: int) -> Camera:
        """The camera as a map describes it, for pictures of this size."""
        calibration, mount = self._calibration, self._mount or FORWARD_MOUNT
        k = None if calibration is None else calibration.k_for(width, height)
        if calibration is None or k is None:
            return Camera(name, width, height, mount)
        return Camera(name, width, height, mount, k, calibration.distortion_model, calibration.d)
