"""What comes in beside the images; each sharpens the answer, and none has to come or to make sense."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from d2vpr_ros.bags.calibration import Calibration, calibration_of
from d2vpr_ros.fields import NANOSECONDS, one_line
from d2vpr_ros.geometry import Pose
from d2vpr_ros.localize import Estimate, State
from d2vpr_ros.localize.base_odometry import BaseOdometry
from d2vpr_ros.localize.gps_gate import GpsFix, GpsGate, read_fix
from d2vpr_ros.mapping.earth import Earth
from d2vpr_ros.mapping.restriction import Restriction

_REPORTED_S = 5.0  # so that /diagnostics, once a second, misses no passing problem
_MOST_PIXELS = 1e6  # a focal length of more is none


class SideInputs:
    """Filled by callbacks, read by the worker.

    Attributes:
        motion: the odometry.
        mounts: T_base_camera of cameras whose mount is known, by the frame of their images.
        calibrations: of the cameras, by number, as far as they are known.
    """

    def __init__(
        self,
        gate: GpsGate,
        say: Callable[[str], object],
        base_frame: str = "base_link",
        find: Callable[[str, str], Pose | None] | None = None,
    ) -> None:
        """
        Args:
            say: takes one line about input that is left out; may be called often.
            find: asks tf for the transform between two frames on the robot; None where tf2 is not installed.
        """
        self.mounts: dict[str, Pose] = {}
        self._odometry = BaseOdometry(
            base_frame, lambda frame: (find and find(base_frame, frame)) or self.mounts.get(frame)
        )
        self.motion = self._odometry.motion
        self.calibrations: dict[int, Calibration] = {}
        self._gate, self._base_frame = gate, base_frame
        self._fix: GpsFix | None = None
        self._has_fix = True
        self._say = say
        self._epoch = 0
        self._problem, self._problem_s = "", float("-inf")
        self._fastest_mps = gate.top_speed_mps

    @property
    def odometry_frames(self) -> tuple[str, str]:
        """The frame that `motion` is in, and the frame it moves: the base, where it was moved to that."""
        frame, moved = self._odometry.frames
        return frame, self._base_frame if self._odometry.moved else moved

    def take_odometry(self, message: Any, now_s: float) -> None:
        """A nav_msgs/Odometry, and the steady clock's time."""
        if problem := self._odometry.take(message, now_s):
            self.report(problem, now_s)
        elif (speed_mps := self.motion.speed_mps) > self._fastest_mps:
            if self._fastest_mps == self._gate.top_speed_mps:
                self._say(f"odometry: {too_fast(speed_mps, self._gate.top_speed_mps)}")
            self._fastest_mps = speed_mps

    def report(self, problem: str, now_s: float) -> None:
        """What is wrong with the odometry, for the log and for 5 s of /diagnostics; now_s as above."""
        self._problem, self._problem_s = problem, now_s
        self._say(f"odometry: {problem}")

    def take_fix(self, message: Any) -> None:
        """A sensor_msgs/NavSatFix; one without a fix leaves the last as it is, which grows old."""
        fix = read_fix(message)
        self._has_fix = fix is not None
        self._fix = fix or self._fix

    def take_camera_info(self, message: Any, image_topic: str, camera: int = 0) -> None:
        """A sensor_msgs/CameraInfo of a camera; one that says nothing leaves the last as it is."""
        found = calibration_of(message, image_topic)
        if found is not None and max(map(abs, found.k)) < _MOST_PIXELS:
            self.calibrations[camera] = found

    def restriction_at(self, stamp: int, earth: Earth | None) -> Restriction:
        """The places that come into question by GPS for an image."""
        return self._gate.restriction(self._fix, stamp, earth)

    def report_far_fix(self, estimate: Estimate) -> None:
        """Say that images contradict the receiver, where they do."""
        if estimate.far_fix_m is not None and estimate.state is State.LOCALIZED:
            self._say(f"GPS: {_far(estimate.far_fix_m)}, and the images know the place: the fix is not obeyed")

    def gps_status(self, newest: Estimate | None, earth: Earth | None) -> str:
        """For /diagnostics: none, no fix, stale, within how many metres is searched, or how far from the map it is.

        Args:
            newest: the estimate of the newest image.
        """
        fix = self._fix
        if fix is None:
            return "none" if self._has_fix else "no fix"
        if earth is None:
            return "not used: the map does not say where it lies on the earth"
        if newest is not None and newest.far_fix_m is not None:
            contradicted = newest.state is State.LOCALIZED
            return f"{_far(newest.far_fix_m)}{': contradicted by the images' if contradicted else ''}"
        region = self._gate.region(fix, fix.stamp_ns if newest is None else newest.stamp_ns, earth)
        if region is not None:
            return f"within {region.radius_m:.0f} m"
        return "stale" if self._has_fix else "no fix"

    def odometry_at(self, stamp: int) -> Pose | None:
        """T_odom_base at an image's stamp; None where it is not known, and once where the odometry began anew.

        The motion since the last image is then not known, which to the belief is an image without odometry.
        """
        epoch, pose = self.motion.epoch, self.motion.at(stamp)
        continues, self._epoch = epoch == self._epoch, epoch
        return pose if continues else None

    def odometry_status(self, image_ns: int | None, now_s: float) -> str:
        """For /diagnostics: ok, none, or what is wrong.

        Args:
            image_ns: the newest image's stamp.
            now_s: as above.
        """
        newest = self.motion.newest
        if now_s - self._problem_s < _REPORTED_S:
            return self._problem
        if newest is None:
            return "none"
        if image_ns is not None and self.motion.at(image_ns) is None:
            return f"stale: the newest is {(image_ns - newest[0]) / NANOSECONDS:.1f} s older than the image"
        top_mps = self._gate.top_speed_mps
        if self._odometry.moved and self._fastest_mps <= top_mps:
            return f"ok; that of {one_line(self._odometry.frames[1])}, moved to {self._base_frame}"
        return "ok" if self._fastest_mps <= top_mps else f"ok; {too_fast(self._fastest_mps, top_mps)}"


def _far(metres: float) -> str:
    shown = f"{metres / 1000:.1f} km" if metres >= 1000 else f"{metres:.0f} m"
    return f"the fix is {shown} from the nearest place of the map"


def too_fast(speed_mps: float, top_speed_mps: float) -> str:
    """What it means that a robot drove faster than it is said to."""
    return (
        f"has driven {speed_mps:.1f} m/s, more than top_speed_mps ({top_speed_mps:g}): set that higher, or the robot "
        "is lost wherever odometry fails"
    )
