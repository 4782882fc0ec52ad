"""What `d2vpr doctor` observes of a living system, as plain values (no ROS is imported here)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from d2vpr_ros.geometry import Pose
from d2vpr_ros.localize.gps import GpsFix


@dataclass(frozen=True)
class Sender:
    """One publisher of a topic.

    Attributes:
        node: its full name.
        refused: why the middleware does not connect it with the localizer's subscription; empty if it does.
    """

    node: str
    refused: str = ""


@dataclass(frozen=True)
class Stream:
    """Messages with a header, as they came in on one topic.

    Attributes:
        topic: its full name.
        types: as ROS has them, such as sensor_msgs/msg/Image; none if nobody publishes.
        stamps_ns: of the headers, in order of arrival; nanoseconds.
        ages_s: seconds between stamp and arrival, by the clock that the localizer would go by.
        arrivals_s: by a steady clock.
        frame_id: of the newest header.
    """

    topic: str
    types: tuple[str, ...] = ()
    senders: tuple[Sender, ...] = ()
    stamps_ns: tuple[int, ...] = ()
    ages_s: tuple[float, ...] = ()
    arrivals_s: tuple[float, ...] = ()
    frame_id: str = ""

    @property
    def rate_hz(self) -> float:
        """Messages a second; 0 where fewer than two came."""
        span_s = self.arrivals_s[-1] - self.arrivals_s[0] if len(self.arrivals_s) > 1 else 0.0
        return (len(self.arrivals_s) - 1) / span_s if span_s > 0 else 0.0


@dataclass(frozen=True)
class SimTime:
    """The parameter use_sim_time, and whether /clock is there."""

    wanted: bool
    published: bool


@dataclass(frozen=True)
class ImageFacts:
    """One image topic.

    Attributes:
        message_bytes: of the newest message's pixels or file.
        size: its (width, height) decoded; None where it could not be.
        encoding: as its message says.
        trouble: why it could not be decoded.
    """

    stream: Stream
    message_bytes: int = 0
    size: tuple[int, int] | None = None
    encoding: str = ""
    trouble: str = ""


@dataclass(frozen=True)
class CameraInfoFacts:
    """The camera_info beside an image topic.

    Attributes:
        heard: whether a message came.
        size: the (width, height) it is for; None where the camera is not calibrated.
    """

    topic: str
    heard: bool = False
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class OdometryFacts:
    """One odometry topic.

    Attributes:
        child_frame_id: the frame it moves, and on_base: whether tf or a camera's mount says where that is on the base.
        mixed: other frames than those of the newest message, as `odom -> base_link`, that came on it, too.
        is_pose: whether the newest message holds a pose at all (finite, a quaternion).
        speed_mps: the highest over half a second.
    """

    stream: Stream
    child_frame_id: str = ""
    on_base: bool = False
    mixed: tuple[str, ...] = ()
    is_pose: bool = True
    speed_mps: float = 0.0


@dataclass(frozen=True)
class GpsFacts:
    """One topic of a GPS receiver.

    Attributes:
        fixes: in order; null_island: messages at 0 N 0 E, which is none; without: others that have none.
        jumps_m: the longest step between two fixes that no vehicle makes; 0 without such a step.
        to_map_m: from the newest fix to the nearest place of the map, metres; None where the map does not tell.
    """

    stream: Stream
    fixes: tuple[GpsFix, ...] = ()
    null_island: int = 0
    without: int = 0
    jumps_m: float = 0.0
    to_map_m: float | None = None


@dataclass(frozen=True)
class MountFacts:
    """Where the camera sits on the robot.

    Attributes:
        given: what the parameter says.
        in_tf: T_base_cameraOptical as tf has it; None where tf does not connect the two frames.
        tf_readable: whether tf could be listened to here (tf2_msgs).
        node_reads_tf: whether the localizer can (tf2_ros).
        parameter: its name; among_several: the robot has other cameras, so the map's mount will not do.
    """

    base_frame: str
    camera_frame: str
    given: Pose | None = None
    in_tf: Pose | None = None
    tf_readable: bool = True
    node_reads_tf: bool = True
    parameter: str = "camera_mount"
    among_several: bool = False


@dataclass(frozen=True)
class MapFacts:
    """A map file.

    Attributes:
        trouble: why it cannot be opened.
        mismatch: what is wrong between it and the weights; empty if they fit.
        pictures: places with a picture.
        features: why images cannot be compared with those; empty if they can, or none are to be.
    """

    path: str
    trouble: str = ""
    mismatch: str = ""
    places: int = 0
    metric: bool = True
    geo_tagged: bool = False
    pictures: int = 0
    features: str = ""


@dataclass(frozen=True)
class DeviceFacts:
    """Where the network runs.

    Attributes:
        trouble: why it does not.
        library: what runs it, and its version.
        has_gpu: whether there is an NVIDIA GPU, whatever the library says.
        describe_s: one image described, after warming up.
        one_thread_s: the same by a single thread; 0 where it was not tried.
    """

    trouble: str = ""
    library: str = ""
    device: str = ""
    threads: int = 0
    has_gpu: bool = False
    describe_s: float = 0.0
    one_thread_s: float = 0.0


@dataclass(frozen=True)
class MiddlewareFacts:
    """How messages travel.

    Attributes:
        trouble: why ROS cannot be imported; the rest says nothing then.
        rmw: such as rmw_fastrtps_cpp.
        profile: what the variable for Fast DDS's profiles names; empty if unset.
        profile_trouble: what is wrong with it.
        segment_bytes: of shared memory that the profile asks for; 0 if it does not say.
        free_bytes: on /dev/shm; None where there is none.
    """

    trouble: str = ""
    distribution: str = ""
    rmw: str = ""
    domain: str = "0"
    variable: str = ""
    profile: str = ""
    profile_trouble: str = ""
    segment_bytes: int = 0
    free_bytes: int | None = None


@dataclass(frozen=True)
class SystemFacts:
    """What was heard from the ROS system.

    Attributes:
        image_topics: every image topic there is and its type.
        odometry_topics: every odometry topic.
        clock: whether someone publishes /clock.
        tf_readable: whether /tf could be listened to here (tf2_msgs).
        odom_parent: what tf has as the parent of odom_frame; empty if nothing.
        tf_senders: the nodes that publish /tf, without this one.
        tf_elsewhere: topics tf_static in namespaces, where nobody publishes /tf_static.
    """

    image_topics: Mapping[str, str] = field(default_factory=dict)
    odometry_topics: tuple[str, ...] = ()
    clock: bool = False
    images: tuple[ImageFacts, ...] = ()
    camera_infos: tuple[CameraInfoFacts, ...] = ()
    odometry: OdometryFacts | None = None
    gps: GpsFacts | None = None
    mounts: tuple[MountFacts, ...] = ()
    tf_readable: bool = True
    odom_parent: str = ""
    tf_senders: tuple[str, ...] = ()
    tf_elsewhere: tuple[str, ...] = ()
