"""What comes in beside the images, from messages to a session; each sharpens the answer, and none has to make sense."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from d2vpr_ros.bags.calibration import calibration_of
from d2vpr_ros.fields import one_line, stamp_ns
from d2vpr_ros.geometry import Pose
from d2vpr_ros.localize.gps import read_fix
from d2vpr_ros.localize.odometry import BaseOdometry
from d2vpr_ros.localize.session import LocalizerSession

_MOST_PIXELS = 1e6  # a focal length of more is none


class SideInputs:
    """Called by callbacks.

    Attributes:
        mounts: T_base_camera of cameras whose mount is known, by the frame of their images.
    """

    def __init__(
        self,
        session: LocalizerSession,
        base_frame: str = "base_link",
        find: Callable[[str, str], Pose | None] | None = None,
    ) -> None:
        """
        Args:
            find: asks tf for the transform between two frames on the robot; None where tf2 is not installed.
        """
        self.mounts: dict[str, Pose] = {}
        self._session, self._base_frame = session, base_frame
        self._odometry = BaseOdometry(
            base_frame, lambda frame: (find and find(base_frame, frame)) or self.mounts.get(frame)
        )

    @property
    def odometry_frames(self) -> tuple[str, str]:
        """The frame that the session's motion is in, and the frame it moves: the base, where it was moved to that."""
        frame, moved = self._odometry.frames
        return frame, self._base_frame if self._odometry.moved else moved

    def take_odometry(self, message: Any, now_s: float) -> None:
        """A nav_msgs/Odometry, and the steady clock's time."""
        try:
            pose, anew = self._odometry.read(message, now_s)
        except ValueError as error:
            self._session.report_odometry(str(error), now_s)
        else:
            self._session.take_odometry(stamp_ns(message.header), pose, now_s, anew=anew)

    def take_fix(self, message: Any) -> None:
        """A sensor_msgs/NavSatFix."""
        self._session.take_fix(read_fix(message))

    def take_camera_info(self, message: Any, image_topic: str, camera: int = 0) -> None:
        """A sensor_msgs/CameraInfo of a camera; one that says nothing leaves the last as it is."""
        found = calibration_of(message, image_topic)
        if found is not None and max(map(abs, found.k)) < _MOST_PIXELS:
            self._session.take_calibration(found, camera)

    def odometry_status(self, image_ns: int | None, now_s: float) -> str:
        """As `LocalizerSession.odometry_status`, and whether it was moved to the base."""
        status = self._session.odometry_status(image_ns, now_s)
        if status == "ok" and self._odometry.moved:
            return f"ok; of {one_line(self._odometry.frames[1])}, moved to {self._base_frame}"
        return status
