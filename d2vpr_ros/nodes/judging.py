"""From an image to an estimate, in the light of everything else that came in. No topic or thread is known here."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from d2vpr_ros.bags.calibration import Calibration
from d2vpr_ros.fields import one_line
from d2vpr_ros.geometry import Pose
from d2vpr_ros.images.frame import Frame
from d2vpr_ros.localize import Estimate, Localizer, RejectReason, State
from d2vpr_ros.localize.freshness import StampWatch
from d2vpr_ros.localize.still import StillWatch
from d2vpr_ros.nodes.loading import Loaded
from d2vpr_ros.nodes.settings import Settings
from d2vpr_ros.nodes.side_inputs import SideInputs

_WAIT_FOR_MOUNT_S = 5.0
_NOT_COVERED = "; the map has nothing that it sees"

FindMount = Callable[[str, str], "Pose | None"]
"""T_base_cameraOptical by the names of the two frames; None as long as it is not known."""


class Judging:
    """Judges images one after the other.

    Attributes:
        age_s: of the newest image; negative where its stamp is in the future.
        problem: why the newest image was not looked at, in words; empty if it was.
        mounts_from: where each camera's mount is from, and whether its images are of use.
    """

    def __init__(
        self, settings: Settings, inputs: SideInputs, find_mount: FindMount | None, say: Callable[[str], object]
    ) -> None:
        """
        Args:
            find_mount: asks tf; None where tf2 is not installed.
            say: takes one line of warning.
        """
        self.age_s = float("nan")
        self.problem = ""
        cameras = settings.cameras
        self.mounts_from = ["" if camera.mount is None else camera.mount_parameter for camera in cameras]
        self._mounts = [camera.mount for camera in cameras]
        self._settings, self._inputs, self._find_mount, self._say = settings, inputs, find_mount, say
        self._watches = [StampWatch() for _ in cameras]
        self._told: tuple[int, Calibration | None] | None = None
        self._asked_s: list[float | None] = [None] * len(cameras)  # for the mount; infinity once it was said
        self._stills: dict[int, StillWatch] = {}

    def forget_map(self) -> None:
        """The next image is answered from another map."""
        self._told = None
        self._stills.clear()

    def has_mounts(self, localizer: Localizer, frame: Frame, now_s: float, camera: int = 0) -> bool:
        """Whether an image can be answered by what is known of the cameras' mounts; tf may yet tell.

        One camera's always can: the map's has a mount, too. Of several all have to be known, and its own has to be one
        that sees what is in the map.
        """
        if self._mounts[camera] is None:
            self._ask_for_mount(frame, now_s, camera)
        if (mount := self._mounts[camera]) is not None:
            self._inputs.mounts[self._settings.camera_frame or frame.camera.lstrip("/")] = mount
        if len(self._mounts) == 1:
            if localizer.cameras.mounts[0] is None and self._mounts[0] is not None:
                localizer.use_mount(self._mounts[0])
            return True
        names = [camera.name for camera in self._settings.cameras]
        missing = [name for name, mount in zip(names, self._mounts, strict=True) if mount is None]
        if missing:
            self.problem = f"it is not known where {', '.join(missing)} sits on {self._settings.base_frame}"
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
                "not answered; add a drive with that camera by d2vpr map append, or correct its mount"
            )
        return False

    def estimate(
        self,
        loaded: Loaded,
        frame: Frame,
        arrived_s: float,
        now_ns: int,
        now_s: float,
        camera: int = 0,
        descriptor: npt.NDArray[np.float32] | None = None,
    ) -> Estimate:
        """The answer to an image of a camera.

        Args:
            arrived_s: when it came, and now_s the time now, by a steady clock.
            now_ns: the node's clock; 0 as long as simulated time has not begun.
            descriptor: of the image, where it is described already.
        """
        self._tell_calibration(loaded.localizer, camera)
        watch = self._watches[camera]
        was_undecided = watch.clocks_differ is None
        self.age_s = watch.age_s(frame.stamp_ns, now_ns, now_s - arrived_s)
        if was_undecided and watch.clocks_differ:
            self._say(
                "the images' stamps are over 60 s off this node's clock, so their age is taken from their arrival; "
                "for a recording, play it with --clock and set use_sim_time:=true"
            )
        most = self._settings.max_age_s
        self.problem = ""
        if not -most <= self.age_s <= most:
            off = f"{self.age_s:.1f} s old" if self.age_s > 0 else f"{-self.age_s:.1f} s in the future"
            self.problem = f"{RejectReason.STALE_IMAGE.value}: its stamp is {off} by this node's clock"
            return Estimate(frame.stamp_ns, State.LOST, RejectReason.STALE_IMAGE, ())
        if watch.jumped_back_for(frame.stamp_ns, self._watches):
            self._say("the images' stamps jumped back: starting anew")
            loaded.localizer.reset()
        # First described, then looked up: odometry and GPS of the image's time often come a little after it.
        if descriptor is None:
            (descriptor,) = loaded.localizer.extractor.describe([frame.rgb])
        odometry = self._moving(loaded, camera, descriptor, self._inputs.odometry_at(frame.stamp_ns), now_s)
        restriction = self._inputs.restriction_at(frame.stamp_ns, loaded.earth)
        estimate = loaded.localizer.match(descriptor, frame.stamp_ns, odometry, restriction, frame.rgb, camera)
        self._inputs.report_far_fix(estimate)
        return estimate

    def _moving(
        self, loaded: Loaded, camera: int, descriptor: npt.NDArray[np.float32], odometry: Pose | None, now_s: float
    ) -> Pose | None:
        """The odometry, unless it stands still while the pictures move on; what was believed by it is dropped then."""
        still = self._stills.setdefault(camera, StillWatch(loaded.alike))
        was_contradicted = any(one.contradicts for one in self._stills.values())
        still.see(descriptor, odometry)
        if not still.contradicts:  # by its own pictures: those of a camera that fell silent say nothing any more
            return odometry
        self._inputs.report("stands still while the images move on", now_s)
        if not was_contradicted:
            loaded.localizer.reset()
        return None

    def _ask_for_mount(self, frame: Frame, now_s: float, camera: int) -> None:
        base, optical = self._settings.base_frame, self._settings.camera_frame or frame.camera
        mount = None if self._find_mount is None else self._find_mount(base, optical)
        if mount is not None:
            self._mounts[camera] = mount
            self.mounts_from[camera] = f"tf: {base} -> {one_line(optical)}"
            return
        why = f"tf does not know {base} -> {one_line(optical)}" if self._find_mount else "tf2_ros is not installed"
        alone, cameras = len(self._mounts) == 1, self._settings.cameras
        self.mounts_from[camera] = f"that of the map's camera: {why}" if alone else why
        asked_s = self._asked_s[camera]
        asked_s = self._asked_s[camera] = now_s if asked_s is None else asked_s
        if asked_s < now_s - _WAIT_FOR_MOUNT_S and (self._find_mount or self._settings.camera_frame):
            instead = f"is taken to be {self.mounts_from[camera]}" if alone else f"is not known: {why}"
            self._say(
                f"the mount of {cameras[camera].name or 'the camera'} {instead}; publish it or set "
                f"{cameras[camera].mount_parameter}"
            )
            self._asked_s[camera] = float("inf")  # said

    def _tell_calibration(self, localizer: Localizer, camera: int) -> None:
        known = self._inputs.calibrations.get(camera)
        if self._told == (camera, known) or (self._told is None and known is None):
            return
        self._told = camera, known
        localizer.use_calibration(known)
