"""A recorded drive put to a localizer image by image, as the node would, without ROS."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from d2vpr_ros.bags.calibration import Calibration
from d2vpr_ros.bags.reader import Bag
from d2vpr_ros.bags.stream import Drive
from d2vpr_ros.bags.topics import NAVSATFIX, full_name
from d2vpr_ros.describe import Extractor
from d2vpr_ros.errors import UserError
from d2vpr_ros.evaluation.scoring import ScoredQuery
from d2vpr_ros.evaluation.truth import Judge
from d2vpr_ros.fields import NANOSECONDS, stamp_ns
from d2vpr_ros.geometry import Pose
from d2vpr_ros.images.decode import read_frame
from d2vpr_ros.images.deep import Range
from d2vpr_ros.images.frame import Frame
from d2vpr_ros.localize import Estimate, Localizer
from d2vpr_ros.localize.gps import GpsFix, GpsGate, read_fix
from d2vpr_ros.localize.odometry import BaseOdometry
from d2vpr_ros.localize.session import LocalizerSession, SessionOptions
from d2vpr_ros.mapping.earth import Earth

log = logging.getLogger(__name__)

ODOMETRY = "nav_msgs/msg/Odometry"
_DEFAULT_ODOMETRY, _DEFAULT_GPS = "/odom", "/gps/fix"


@dataclass(frozen=True, eq=False)
class Gps:
    """A receiver's fixes: their topic, how far from one the robot may be, and where the map lies on the earth."""

    topic: str
    gate: GpsGate
    earth: Earth


@dataclass(frozen=True, eq=False)
class Moved:
    """T_odom_base at a time; `anew`: it does not go on from the last one."""

    stamp_ns: int
    pose: Pose
    anew: bool = False


@dataclass(frozen=True)
class Fixed:
    """A message of a GPS receiver; None without a fix."""

    fix: GpsFix | None


@dataclass(frozen=True, eq=False)
class Described:
    """One image of a drive as a localizer gets it.

    Attributes:
        descriptor: (D,) float32 of unit length.
        before: what came in since the image before, in that order.
        seconds: that decoding and describing it took.
        topic, camera: of its camera, and the camera's number; calibration: that camera's, None where not known.
    """

    frame: Frame
    descriptor: npt.NDArray[np.float32]
    before: tuple[Moved | Fixed, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    topic: str = ""
    camera: int = 0
    calibration: Calibration | None = None


@dataclass(frozen=True, eq=False)
class Answered:
    """What a localizer said to one image.

    Attributes:
        by_odometry: whether the image came with odometry.
        query: None where the truth of the image is not known.
    """

    estimate: Estimate
    by_odometry: bool
    query: ScoredQuery | None


def choose_odometry(bag: Bag, wanted: str | None) -> str | None:
    """The odometry topic: the one asked for, /odom if the bag has it, or the only Odometry outside /ground_truth; None
    if there is no Odometry.

    Args:
        wanted: a topic's name, None to find it.

    Raises:
        UserError: it is not in the bag or of another type; several would do.
    """
    return _choose(bag, wanted, ODOMETRY, _DEFAULT_ODOMETRY, "odometry", "--odom-topic", "--no-odometry")


def choose_gps(bag: Bag, wanted: str | None) -> str | None:
    """The topic of a GPS receiver: as `choose_odometry`, with /gps/fix first.

    Raises:
        UserError: as `choose_odometry`.
    """
    return _choose(bag, wanted, NAVSATFIX, _DEFAULT_GPS, "NavSatFix", "--gps-topic", "--no-gps")


def _choose(
    bag: Bag, wanted: str | None, msgtype: str, default: str, kind: str, option: str, without: str
) -> str | None:
    fitting = [t.name for t in bag.topics.values() if t.msgtype == msgtype and "ground_truth" not in t.name]
    if wanted is not None:
        name = full_name(bag, wanted)
        if name not in bag.topics or bag.topics[name].msgtype != msgtype:
            have = ", ".join(fitting) or "none"
            raise UserError(f"{bag.path}: {name} is no topic of {msgtype}; those are: {have} (see {option})")
        return name
    if default in fitting or len(fitting) < 2:
        return default if default in fitting else next(iter(fitting), None)
    raise UserError(f"{bag.path}: several {kind} topics; choose one with {option}: {', '.join(fitting)}, or {without}")


def describe_drive(
    drive: Drive,
    odometry_topic: str | None,
    extractor: Extractor,
    gps: Gps | None = None,
    unseeing: Collection[str] = (),
) -> Iterator[Described]:
    """Every image of a drive that can be decoded, in the recorded order, with what came in before it.

    Args:
        unseeing: names of cameras that are left out.
    """
    numbers = {camera.topic: number for number, camera in enumerate(drive.cameras.values())}
    of_topic = {camera.topic: camera for camera in drive.cameras.values() if camera.name not in unseeing}
    by_odometry = BaseOdometry(drive.base_frame, drive.find_on_base)
    say = _once(f"{drive.bag.path}: odometry on {odometry_topic}: ")
    before: list[Moved | Fixed] = []
    topics = [*of_topic, *([odometry_topic] if odometry_topic else []), *([gps.topic] if gps else [])]
    runs = drive.watches()
    for topic, recorded_ns, message in drive.bag.messages(topics):
        if topic == odometry_topic:
            try:
                pose, anew = by_odometry.read(message, recorded_ns / NANOSECONDS)
            except ValueError as error:
                say(str(error))
            else:
                before.append(Moved(stamp_ns(message.header), pose, anew))
            continue
        if gps and topic == gps.topic:
            before.append(Fixed(read_fix(message)))
            continue
        began, camera = time.perf_counter(), of_topic[topic]
        if drive.poses is not None:  # the truth is looked up by stamps
            runs[topic].see(stamp_ns(message.header), recorded_ns)
        try:
            frame = read_frame(message, camera.name, drive.image_range)
        except UserError as error:
            drive.unreadable += 1
            log.warning("%s: an image on %s is left out: %s", drive.bag.path, topic, error)
            continue
        decoded = time.perf_counter()
        descriptor = extractor.describe([frame.rgb])[0]
        seconds = {"decode": decoded - began, "describe": time.perf_counter() - decoded}
        yield Described(frame, descriptor, tuple(before), seconds, topic, numbers[topic], camera.calibration)
        before.clear()


def open_session(
    localizer: Localizer, gps: Gps | None, say: Callable[[str], object] = lambda said: None
) -> LocalizerSession:
    """A session as the node has one, from nothing.

    Args:
        say: takes what it says of its inputs.
    """
    localizer.reset()
    options = SessionOptions(gps.gate if gps else None)
    cameras = len(localizer.cameras.mounts)
    return LocalizerSession(localizer, gps.earth if gps else None, options, cameras, say)


def ask(session: LocalizerSession, image: Described) -> Estimate:
    """What a session says to an image, after what came in before it."""
    for one in image.before:
        if isinstance(one, Moved):
            session.take_odometry(one.stamp_ns, one.pose, one.stamp_ns / NANOSECONDS, anew=one.anew)
        else:
            session.take_fix(one.fix)
    session.take_calibration(image.calibration, image.camera)
    return session.answer(image.frame, image.camera, image.descriptor)


def answer_drive(
    localizer: Localizer, images: Iterable[Described], judge: Judge, name: str, gps: Gps | None = None
) -> Iterator[Answered]:
    """Put the images of one drive to a localizer and judge what it says."""
    session = open_session(localizer, gps, _once(f"{name}: "))
    for image in images:
        began = time.perf_counter()
        estimate = ask(session, image)
        seconds = {**image.seconds, "match": time.perf_counter() - began}
        query = judge(image.frame.camera, estimate)
        query = query and replace(query, drive=name, image_topic=image.topic, seconds=seconds)
        yield Answered(estimate, session.by_odometry, query)


def _once(prefix: str) -> Callable[[str], None]:
    """Logs each line once."""
    said: set[str] = set()

    def say(line: str) -> None:
        if line not in said:
            said.add(line)
            log.warning("%s%s", prefix, line)

    return say


def pictures(
    bag: Bag, wanted: Collection[tuple[str, int]], image_range: Range | None = None
) -> dict[tuple[str, int], bytes]:
    """JPEGs of the images with these topics and stamps, as small as a map's."""
    from d2vpr_ros.mapping.picture import encode_picture

    return {
        (topic, stamp): encode_picture(read_frame(message, image_range=image_range).rgb)
        for topic, _, message in bag.messages(sorted({topic for topic, _ in wanted}))
        if (topic, stamp := stamp_ns(message.header)) in wanted
    }
