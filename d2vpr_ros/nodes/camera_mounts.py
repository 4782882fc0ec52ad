"""Where the robot's cameras sit, as tf or a parameter says. No topic or thread is known here."""

from __future__ import annotations

from collections.abc import Callable

from d2vpr_ros.fields import one_line
from d2vpr_ros.geometry import Pose
from d2vpr_ros.images.frame import Frame
from d2vpr_ros.localize import Localizer
from d2vpr_ros.nodes.settings import Settings

_WAIT_FOR_MOUNT_S = 5.0
_NOT_COVERED = "; it sees nothing of the map"

FindMount = Callable[[str, str], "Pose | None"]
"""T_base_cameraOptical by the names of the two frames; None as long as it is not known."""


class CameraMounts:
    """Asks until all are known, and gives them to the localizer.

    Attributes:
        problem: why the newest image cannot be answered, in words; empty if it can.
        mounts_from: where each camera's mount is from, and whether its images are of use.
    """

    def __init__(
        self, settings: Settings, by_frame: dict[str, Pose], find_mount: FindMount | None, say: Callable[[str], object]
    ) -> None:
        """
        Args:
            by_frame: told of mounts that are known, by the frame of the images.
            find_mount: asks tf; None where tf2 is not installed.
            say: takes one line of warning.
        """
        self.problem = ""
        cameras = settings.cameras
        self.mounts_from = ["" if camera.mount is None else camera.mount_parameter for camera in cameras]
        self._mounts = [camera.mount for camera in cameras]
        self._settings, self._by_frame, self._find_mount, self._say = settings, by_frame, find_mount, say
        self._asked_s: list[float | None] = [None] * len(cameras)  # for the mount; infinity once it was said

    def has_mounts(self, localizer: Localizer, frame: Frame, now_s: float, camera: int = 0) -> bool:
        """Whether an image can be answered by what is known of the cameras' mounts; tf may yet tell.

        One camera's always can: the map's has a mount, too. Of several all have to be known, and its own has to be one
        that sees what is in the map.
        """
        self.problem = ""
        if self._mounts[camera] is None:
            self._ask_for_mount(frame, now_s, camera)
        if (mount := self._mounts[camera]) is not None:
            self._by_frame[self._settings.camera_frame or frame.camera.lstrip("/")] = mount
        if len(self._mounts) == 1:
            if localizer.cameras.mounts[0] is None and self._mounts[0] is not None:
                localizer.use_mount(self._mounts[0])
            return True
        names = [camera.name for camera in self._settings.cameras]
        missing = [name for name, mount in zip(names, self._mounts, strict=True) if mount is None]
        if missing:
            self.problem = f"the mount of {', '.join(missing)} on {self._settings.base_frame} is unknown"
            return False
        if len(localizer.cameras.mounts) == 1:
            localizer.use_mounts(self._mounts)
        if localizer.cameras.sees_map(camera):
            self.mounts_from[camera] = self.mounts_from[camera].removesuffix(_NOT_COVERED)  # of another map
            return True
        if not self.mounts_from[camera].endswith(_NOT_COVERED):
            self.mounts_from[camera] += _NOT_COVERED
            share = localizer.cameras.coverage[camera]
            self._say(
                f"camera {names[camera]} sees what was mapped at {share:.0%} of the map's places, so its images are "
                "not answered; add a drive with that camera with d2vpr map append, or correct its mount"
            )
        return False

    def _ask_for_mount(self, frame: Frame, now_s: float, camera: int) -> None:
        base, optical = self._settings.base_frame, self._settings.camera_frame or frame.camera
        mount = None if self._find_mount is None else self._find_mount(base, optical)
        if mount is not None:
            self._mounts[camera] = mount
            self.mounts_from[camera] = f"tf: {base} -> {one_line(optical)}"
            return
        why = f"tf does not know {base} -> {one_line(optical)}" if self._find_mount else "tf2_ros is not installed"
        alone, cameras = len(self._mounts) == 1, self._settings.cameras
        self.mounts_from[camera] = f"as the camera of the map: {why}" if alone else why
        asked_s = self._asked_s[camera]
        asked_s = self._asked_s[camera] = now_s if asked_s is None else asked_s
        if asked_s < now_s - _WAIT_FOR_MOUNT_S and (self._find_mount or self._settings.camera_frame):
            instead = f"is assumed: {self.mounts_from[camera]}" if alone else f"is unknown: {why}"
            self._say(
                f"the mount of {cameras[camera].name or 'the camera'} {instead}; publish it or set "
                f"{cameras[camera].mount_parameter}"
            )
            self._asked_s[camera] = float("inf")  # said
