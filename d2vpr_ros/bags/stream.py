"""A recorded drive as its images with their poses: what a map builder or an evaluation reads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from d2vpr_ros.bags.cameras import DriveCamera
from d2vpr_ros.bags.gps import GpsTrack
from d2vpr_ros.bags.order import RunWatch
from d2vpr_ros.bags.reader import Bag
from d2vpr_ros.bags.trajectory import Poses
from d2vpr_ros.bags.transforms import BASE_FRAME
from d2vpr_ros.errors import UserError
from d2vpr_ros.fields import NANOSECONDS, stamp_ns
from d2vpr_ros.geodesy import LocalFrame
from d2vpr_ros.geometry import Pose
from d2vpr_ros.images.decode import read_frame
from d2vpr_ros.images.deep import Range
from d2vpr_ros.images.frame import PosedFrame

log = logging.getLogger(__name__)

Keep = Callable[[str, Pose, int], bool]
"""Asked with a camera's name, T_map_cameraOptical and the stamp in nanoseconds, before an image is decoded."""


@dataclass(eq=False)
class Drive:
    """The images of a drive's cameras with their poses, made by `open_drive`.

    Attributes:
        cameras: by name, in the order they were asked for.
        pose_source: the topic or file of the poses.
        poses: of a body of the robot; None without poses: every frame's is then the identity.
        frame_id: the map frame the poses are in.
        fixes: of a GPS receiver that only tags the images.
        max_gap_s: images between poses further apart are left out.
        find_on_base: T_base_frame of a frame on the robot, by the fixed transforms or a camera's given mount.
        base_frame: the robot's.
        image_range: of 16-bit images, the values that become black and white (`images.deep`).
        images, skipped, unreadable: counted by `frames`: images seen, not wanted by `keep`, undecodable.
        outside, in_gaps: images left out before the first or after the last pose, and in a gap of the poses.
        out_of_order: images (used all the same) whose stamp is not later than their camera's image before.
    """

    bag: Bag
    cameras: Mapping[str, DriveCamera]
    pose_source: str
    poses: Poses | None
    frame_id: str
    fixes: GpsTrack | None
    max_gap_s: float
    find_on_base: Callable[[str], Pose | None] = lambda frame: None
    base_frame: str = BASE_FRAME
    image_range: Range | None = None
    images: int = 0
    outside: int = 0
    in_gaps: int = 0
    unreadable: int = 0
    skipped: int = 0
    out_of_order: int = 0
    _first_ns: int = field(default=2**63 - 1, repr=False)
    _last_ns: int = field(default=-(2**63), repr=False)

    @property
    def unposed(self) -> int:
        """Images without a pose at their stamp."""
        return self.outside + self.in_gaps

    @property
    def image_topics(self) -> list[str]:
        return [camera.topic for camera in self.cameras.values()]

    @property
    def image_topic(self) -> str:
        """The first camera's."""
        return self.image_topics[0]

    @property
    def mount(self) -> Pose:
        """The first camera's T_base_cameraOptical."""
        return next(iter(self.cameras.values())).mount

    @property
    def total(self) -> int:
        """Images in the bag."""
        return sum(self.bag.topics[topic].count for topic in self.image_topics)

    @property
    def origin(self) -> LocalFrame | None:
        """Where the map frame stands on the earth, if the poses come from GPS."""
        return None if self.poses is None else self.poses.origin

    @property
    def geo_tagged(self) -> bool:
        """Whether images get a latitude and longitude: from GPS poses, or from fixes beside other poses."""
        return self.origin is not None or self.fixes is not None

    def watches(self) -> dict[str, RunWatch]:
        """For each image topic, what refuses stamps that begin anew: poses are looked up by them."""
        return {topic: RunWatch(self.bag, topic) for topic in self.image_topics}

    def frames(self, keep: Keep | None = None) -> Iterator[PosedFrame]:
        """The images that have a pose, in the bag's order, each with T_map_cameraOptical at its stamp.

        Args:
            keep: see `Keep`; False leaves the image out.

        Raises:
            UserError: time begins anew; at the end, when the poses cover none of the images or none could be decoded.
        """
        self.images = self.outside = self.in_gaps = self.unreadable = self.skipped = self.out_of_order = 0
        of_topic = {camera.topic: camera for camera in self.cameras.values()}
        newest = dict.fromkeys(self.cameras, -(2**63))
        watches = self.watches()
        reason = ""
        for topic, recorded_ns, message in self.bag.messages(self.image_topics):
            camera = of_topic[topic]
            self.images += 1
            stamp = stamp_ns(message.header)
            if self.poses is not None:
                watches[topic].see(stamp, recorded_ns)
            self.out_of_order += stamp <= newest[camera.name]
            newest[camera.name] = stamp
            self._first_ns, self._last_ns = min(stamp, self._first_ns), max(stamp, self._last_ns)
            pose = self._pose(camera, stamp)
            if pose is None:
                continue
            if keep is not None and not keep(camera.name, pose, stamp):
                self.skipped += 1
                continue
            try:
                frame = read_frame(message, camera.name, self.image_range)
            except UserError as error:
                self.unreadable += 1
                if self.unreadable == 1:
                    log.warning("%s: %s at %s: %s", self.bag.path, topic, seconds(stamp), error)
                reason = str(error)
                continue
            yield PosedFrame(frame, pose, self._geo(stamp, pose), camera.covariance_at(stamp, pose))
        if self.images and self.unposed == self.images:
            raise self._uncovered()
        if self.unreadable and self.unreadable == self.images - self.unposed - self.skipped:
            topics = " and ".join(self.image_topics)
            raise UserError(f"{self.bag.path}: none of the images on {topics} can be decoded: {reason}")

    def _pose(self, camera: DriveCamera, stamp: int) -> Pose | None:
        """T_map_cameraOptical, or None, counted."""
        if camera.poses is None:
            return Pose.identity()
        pose = camera.pose_at(stamp, self.max_gap_s)
        if pose is None:
            first, last = camera.poses.span_ns
            if first <= stamp <= last:
                self.in_gaps += 1
            else:
                self.outside += 1
        return pose

    def _geo(self, stamp: int, pose: Pose) -> tuple[float, float, float] | None:
        if self.poses is not None and self.poses.origin is not None:
            return self.poses.geo(pose.position)
        return None if self.fixes is None else self.fixes.at(stamp, self.max_gap_s)

    def _uncovered(self) -> UserError:
        first, last = (0, 0) if self.poses is None else self.poses.span_ns
        return UserError(
            f"{self.bag.path}: no image has a pose: {' and '.join(self.image_topics)} runs from "
            f"{seconds(self._first_ns)} to {seconds(self._last_ns)}, {self.pose_source} from {seconds(first)} to "
            f"{seconds(last)}, gaps over {self.max_gap_s:g} s left out; choose other poses, raise --max-gap, or "
            "check the clocks of the recording"
        )


def seconds(ns: int) -> str:
    return f"{int(ns) / NANOSECONDS:.3f} s"
