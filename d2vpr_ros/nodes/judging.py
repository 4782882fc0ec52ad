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

FindMount = Callable[[str, str], "Pose | None"]
"""T_base_cameraOptical by the names of the two frames; None as long as it is not known."""


class Judging:
    """Judges images one after the other.

    Attributes:
        age_s: of the newest image; negative where its stamp is in the future.
        problem: why the newest image was not looked at, in words; empty if it was.
        mount_status: where the camera's mount is from.
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
        self.mount_status = ""
        self._settings, self._inputs, self._find_mount, self._say = settings, inputs, find_mount, say
        self._watch = StampWatch()
        self._calibration: Calibration | None = None
        self._mount_asked_s: float | None = None
        self._still: StillWatch | None = None

    def forget_map(self) -> None:
        """The next image is answered from another map."""
        self._calibration = self._still = None

    def estimate(self, loaded: Loaded, frame: Frame, arrived_s: float, now_ns: int, now_s: float) -> Estimate:
        """The answer to an image.

        Args:
            arrived_s: when it came, and now_s the time now, by a steady clock.
            now_ns: the node's clock; 0 as long as simulated time has not begun.
        """
        self._ask_for_mount(loaded.localizer, frame, now_s)
        self._tell_calibration(loaded.localizer)
        was_undecided = self._watch.clocks_differ is None
        self.age_s = self._watch.age_s(frame.stamp_ns, now_ns, now_s - arrived_s)
        if was_undecided and self._watch.clocks_differ:
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
        if self._watch.jumped_back(frame.stamp_ns):
            self._say("the images' stamps jumped back: starting anew")
            loaded.localizer.reset()
        # First described, then looked up: odometry and GPS of the image's time often come a little after it.
        descriptor = loaded.localizer.extractor.describe([frame.rgb])[0]
        odometry = self._moving(loaded, descriptor, self._inputs.odometry_at(frame.stamp_ns), now_s)
        restriction = self._inputs.restriction_at(frame.stamp_ns, loaded.earth)
        return loaded.localizer.match(descriptor, frame.stamp_ns, odometry, restriction, frame.rgb)

    def _moving(
        self, loaded: Loaded, descriptor: npt.NDArray[np.float32], odometry: Pose | None, now_s: float
    ) -> Pose | None:
        """The odometry, unless it stands still while the pictures move on; what was believed by it is dropped then."""
        if self._still is None:
            self._still = StillWatch(loaded.alike)
        was_contradicted = self._still.contradicts
        self._still.see(descriptor, odometry)
        if not self._still.contradicts:
            return odometry
        self._inputs.report("stands still while the images move on", now_s)
        if not was_contradicted:
            loaded.localizer.reset()
        return None

    def _ask_for_mount(self, localizer: Localizer, frame: Frame, now_s: float) -> None:
        if self._settings.mount is not None:
            self.mount_status = "camera_mount"
        if localizer.mount is not None:
            return
        base, camera = self._settings.base_frame, self._settings.camera_frame or frame.camera
        mount = None if self._find_mount is None else self._find_mount(base, camera)
        if mount is not None:
            localizer.use_mount(mount)
            self.mount_status = f"tf: {base} -> {one_line(camera)}"
            return
        why = f"tf does not know {base} -> {one_line(camera)}" if self._find_mount else "tf2_ros is not installed"
        self.mount_status = f"that of the map's camera: {why}"
        self._mount_asked_s = now_s if self._mount_asked_s is None else self._mount_asked_s
        if self._mount_asked_s < now_s - _WAIT_FOR_MOUNT_S and (self._find_mount or self._settings.camera_frame):
            self._say(f"the camera's mount is taken to be {self.mount_status}; publish it or set camera_mount")
            self._mount_asked_s = float("inf")  # said

    def _tell_calibration(self, localizer: Localizer) -> None:
        calibration = self._inputs.calibration
        if calibration is not None and calibration != self._calibration:
            self._calibration = calibration
            localizer.use_camera_matrix(np.array(calibration.k).reshape(3, 3), calibration.width, calibration.height)
