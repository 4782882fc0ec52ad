"""One robot's session with a localizer: what comes in, in the order it comes, and estimates out.

The node, the offline evaluation and the benchmarks drive this one object, so that odometry that begins anew or stands
still, GPS, the age of images and time that jumps back are handled in one place. Nothing of ROS is known here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from d2vpr_ros.bags.calibration import Calibration
from d2vpr_ros.fields import NANOSECONDS
from d2vpr_ros.geometry import Pose, distance
from d2vpr_ros.images.frame import Frame
from d2vpr_ros.localize.clock import StampWatch
from d2vpr_ros.localize.gps import GpsFix, GpsGate
from d2vpr_ros.localize.localizer import Localizer
from d2vpr_ros.localize.odometry import MotionBuffer, StillWatch, neighbour_similarity
from d2vpr_ros.localize.types import Estimate, RejectReason, State
from d2vpr_ros.mapping.earth import Earth
from d2vpr_ros.mapping.restriction import UNRESTRICTED

_REPORTED_S = 5.0  # so that /diagnostics, once a second, misses no passing problem
_SIGMAS = 3.0  # an answer further from where the one before leads does not go on from it
_INFINITE = float("inf")
_MOST_INFLATION, _TINY = 1e4, 1e-9  # of a robot that stands: it tells nothing new, and a filter wants a number


@dataclass(frozen=True)
class Arrival:
    """Attributes:
    arrived_s: when an image came, and `now_s` the time now, by a steady clock.
    now_ns: the clock of the stamps; 0 as long as simulated time has not begun.
    """

    arrived_s: float
    now_s: float
    now_ns: int


@dataclass(frozen=True)
class SessionOptions:
    """Attributes:
    gate: how far from a fix the robot may be; None leaves GPS out.
    max_age_s: older images are not answered.
    top_speed_mps: that the robot is said to drive at most.
    """

    gate: GpsGate | None = None
    max_age_s: float = _INFINITE
    top_speed_mps: float = _INFINITE


class LocalizerSession:
    """Odometry may come from another thread; all else is called by one at a time.

    Attributes:
        localizer: answers the images; earth: where its map lies, None where it does not say.
        motion: T_odom_base of the last seconds.
        age_s: of the newest image; negative where its stamp is in the future.
        problem: why the newest image was not looked at, in words; empty if it was.
        fix: the newest of the receiver; has_fix: whether its last message had one.
        by_odometry: whether the newest image was answered with odometry.
        calibrations: of the cameras by number, as far as they are known.
    """

    def __init__(
        self,
        localizer: Localizer,
        earth: Earth | None = None,
        options: SessionOptions = SessionOptions(),
        cameras: int = 1,
        say: Callable[[str], object] = lambda said: None,
    ) -> None:
        """
        Args:
            say: takes one line about what is wrong with an input; may be called often.
        """
        self.options, self.motion = options, MotionBuffer()
        self.age_s, self.problem = float("nan"), ""
        self.fix: GpsFix | None = None
        self.has_fix = True
        self.by_odometry = False
        self._say = say
        self._watches = [StampWatch() for _ in range(cameras)]
        self.calibrations: dict[int, Calibration] = {}
        self._epoch = 0
        self._odometry_problem, self._odometry_problem_s = "", -_INFINITE
        self._fastest_mps = 0.0
        self.use_map(localizer, earth)

    def use_map(self, localizer: Localizer, earth: Earth | None) -> None:
        """Answer the next images from this map; what was believed by another does not count."""
        self.localizer, self.earth = localizer, earth
        self._alike = neighbour_similarity(localizer.map)
        for camera, known in self.calibrations.items():
            localizer.use_calibration(known, camera)
        self.forget()

    def forget(self) -> None:
        """Drop what was believed so far; inputs and clocks go on."""
        self.localizer.reset()
        self._stills: dict[int, StillWatch] = {}
        self._broke_off = True
        self._answered: tuple[Estimate, Pose | None] | None = None

    def take_odometry(self, stamp_ns: int, pose: Pose, now_s: float, *, anew: bool = False) -> str:
        """T_odom_base at a time.

        Args:
            now_s: by a steady clock.
            anew: it does not go on from the last one.

        Returns:
            What is wrong with it, in words, empty if nothing is: it jumped, or began anew.
        """
        if anew and self.motion.newest is not None:
            self.motion.begin_anew()
        if problem := self.motion.add(stamp_ns, pose):
            self.report_odometry(problem, now_s)
        elif (speed_mps := self.motion.speed_mps) > max(self._fastest_mps, self.options.top_speed_mps):
            if self._fastest_mps == 0:
                self._say(f"odometry: {too_fast(speed_mps, self.options.top_speed_mps)}")
            self._fastest_mps = speed_mps
        return problem

    def report_odometry(self, problem: str, now_s: float) -> None:
        """What is wrong with it, for the log and for 5 s of `odometry_problem`; now_s by a steady clock."""
        self._odometry_problem, self._odometry_problem_s = problem, now_s
        self._say(f"odometry: {problem}")

    def take_fix(self, fix: GpsFix | None) -> None:
        """Of a message of the receiver; None, without a fix, leaves the last as it is, which grows old."""
        self.has_fix = fix is not None
        self.fix = fix or self.fix

    def take_calibration(self, calibration: Calibration | None, camera: int = 0) -> None:
        """The intrinsics of a camera; None leaves the last as they are."""
        if calibration is not None:
            self.calibrations[camera] = calibration
            self.localizer.use_calibration(calibration, camera)

    def answer(
        self,
        frame: Frame,
        camera: int = 0,
        descriptor: npt.NDArray[np.float32] | None = None,
        arrival: Arrival | None = None,
    ) -> Estimate:
        """The answer to an image of a camera.

        Args:
            descriptor: (D,) of the image, where it is described already.
            arrival: where its age counts.
        """
        watch = self._watches[camera]
        self.problem = "" if arrival is None else self._too_old(watch, frame, arrival)
        if self.problem:
            return Estimate(frame.stamp_ns, State.LOST, RejectReason.STALE_IMAGE, ())
        if watch.jumped_back_for(frame.stamp_ns, self._watches):
            self._say("the images' stamps jumped back: starting anew")
            self.forget()
        # First described, then looked up: odometry and GPS of the image's time often come a little after it.
        if descriptor is None:
            (descriptor,) = self.localizer.extractor.describe([frame.rgb])
        odometry = self._moving(camera, descriptor, frame.stamp_ns, 0.0 if arrival is None else arrival.now_s)
        gate = self.options.gate
        restriction = gate.restriction(self.fix, frame.stamp_ns, self.earth) if gate else UNRESTRICTED
        self.by_odometry = odometry is not None
        estimate = self.localizer.match(descriptor, frame.stamp_ns, odometry, restriction, frame.rgb, camera)
        return self._placed(estimate, odometry)

    def odometry_at(self, stamp_ns: int) -> Pose | None:
        """T_odom_base at the stamp of the next image; None where it is not known, and once where it began anew.

        The motion since the last image is then not known, which to the belief is an image without odometry.
        """
        began_anew, self._epoch = self.motion.epoch != self._epoch, self.motion.epoch
        self._broke_off |= began_anew
        return None if began_anew else self.motion.at(stamp_ns)

    def odometry_problem(self, now_s: float) -> str:
        """What was wrong with it in the last 5 s; empty if nothing was."""
        return self._odometry_problem if now_s - self._odometry_problem_s < _REPORTED_S else ""

    def odometry_status(self, image_ns: int | None, now_s: float) -> str:
        """For /diagnostics: ok, none, or what is wrong.

        Args:
            image_ns: the newest image's stamp.
            now_s: by the steady clock.
        """
        newest = self.motion.newest
        if problem := self.odometry_problem(now_s):
            return problem
        if newest is None:
            return "none"
        if image_ns is not None and self.motion.at(image_ns) is None:
            return f"stale: the newest is {(image_ns - newest[0]) / NANOSECONDS:.1f} s older than the image"
        return f"ok; {too_fast(self._fastest_mps, self.options.top_speed_mps)}" if self._fastest_mps else "ok"

    def gps_status(self, newest: Estimate | None) -> str:
        """For /diagnostics: none, no fix, stale, within how many metres is searched, or how far from the map it is.

        Args:
            newest: the estimate of the newest image.
        """
        fix, gate = self.fix, self.options.gate
        if gate is None:
            return "off"
        if fix is None:
            return "none" if self.has_fix else "no fix"
        if self.earth is None:
            return "not used: the map does not say where it lies on the earth"
        if newest is not None and newest.far_fix_m is not None:
            contradicted = newest.state is State.LOCALIZED
            return f"{far_words(newest.far_fix_m)}{': contradicted by the images' if contradicted else ''}"
        region = gate.region(fix, fix.stamp_ns if newest is None else newest.stamp_ns, self.earth)
        if region is not None:
            return f"within {region.radius_m:.0f} m"
        return "stale" if self.has_fix else "no fix"

    def _too_old(self, watch: StampWatch, frame: Frame, arrival: Arrival) -> str:
        was_undecided, most = watch.clocks_differ is None, self.options.max_age_s
        self.age_s = watch.age_s(frame.stamp_ns, arrival.now_ns, arrival.now_s - arrival.arrived_s)
        if was_undecided and watch.clocks_differ:
            self._say(
                "the images' stamps are over 60 s off this node's clock, so their age is taken from their arrival; "
                "for a recording, play it with --clock and set use_sim_time:=true"
            )
        if -most <= self.age_s <= most:
            return ""
        off = f"{self.age_s:.1f} s old" if self.age_s > 0 else f"{-self.age_s:.1f} s in the future"
        return f"{RejectReason.STALE_IMAGE.value}: its stamp is {off} by this node's clock"

    def _moving(self, camera: int, descriptor: npt.NDArray[np.float32], stamp_ns: int, now_s: float) -> Pose | None:
        """T_odom_base at an image.

        None as `odometry_at`, and where it stands still while the pictures move on: what was believed by it is dropped.
        """
        odometry = self.odometry_at(stamp_ns)
        still = self._stills.setdefault(camera, StillWatch(self._alike))
        was_contradicted = any(one.contradicts for one in self._stills.values())
        still.see(descriptor, odometry)
        if not still.contradicts:  # by its own pictures: those of a camera that fell silent say nothing any more
            return odometry
        self.report_odometry("stands still while the images move on", now_s)
        if not was_contradicted:
            self.localizer.reset()
            self._broke_off = True
        return None

    def _placed(self, estimate: Estimate, odometry: Pose | None) -> Estimate:
        """The estimate, told whether it goes on from the answer before."""
        self._broke_off |= estimate.carried or estimate.state is State.LOST
        if estimate.pose is None:
            return estimate
        if estimate.far_fix_m is not None:
            # Without the distance, which changes from fix to fix: diagnostics and `evaluate` have it.
            self._say("GPS: the fixes are far from every place of the map, and the images know the place: not obeyed")
        anew, before = self._broke_off or self._contradicts(estimate, odometry), self._answered
        self._broke_off, self._answered = False, (estimate, odometry)
        if anew or before is None or before[0].pose is None:
            return replace(estimate, anew=anew)
        localizer = self.localizer
        correlated_m = localizer.params.correlated_spacings * localizer.spacing_m
        return replace(estimate, inflation=inflation(distance(before[0].pose, estimate.pose) / correlated_m))

    def _contradicts(self, estimate: Estimate, odometry: Pose | None) -> bool:
        """Whether an answer is elsewhere than where the one before and the motion since lead."""
        if self._answered is None or odometry is None:
            return False
        before, then = self._answered
        if then is None or before.pose is None or estimate.pose is None:
            return False
        assert before.covariance is not None and estimate.covariance is not None
        led_to = before.pose @ then.inverse() @ odometry
        variances = (before.covariance + estimate.covariance)[:3, :3]
        off_m = float(np.linalg.norm(estimate.pose.position - led_to.position))
        return off_m > _SIGMAS * float(np.sqrt(np.linalg.eigvalsh(variances)[-1]))


def inflation(moved: float) -> float:
    """By how much to enlarge the covariance of an answer for a filter that takes answers for independent.

    The errors of two answers have the correlation rho = exp(-moved) (first-order Gauss-Markov process: they come from
    the same places and landmarks). A mean of many has (1 + rho) / (1 - rho) times the variance that independent ones
    would have.

    Args:
        moved: way between two answers, in correlation lengths.
    """
    return float(min(1 / np.tanh(max(moved, 0.0) / 2 + _TINY), _MOST_INFLATION))


def far_words(metres: float) -> str:
    """How far a fix is from the map."""
    shown = f"{metres / 1000:.1f} km" if metres >= 1000 else f"{metres:.0f} m"
    return f"the fix is {shown} from the nearest place of the map"


def too_fast(speed_mps: float, top_speed_mps: float) -> str:
    """What it means that a robot drove faster than it is said to."""
    return (
        f"has driven {speed_mps:.1f} m/s, more than top_speed_mps ({top_speed_mps:g}): set that higher, or the robot "
        "is lost wherever odometry fails"
    )
