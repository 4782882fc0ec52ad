"""A recorded drive as its images with their poses: what a map builder or an evaluation reads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from d2vpr_ros.bags.reader import Bag
from d2vpr_ros.bags.topics import choose_topic
from d2vpr_ros.bags.trajectory import Trajectory, trajectory_from_bag
from d2vpr_ros.bags.transforms import plain, static_transform
from d2vpr_ros.errors import UserError
from d2vpr_ros.fields import NANOSECONDS, stamp_ns
from d2vpr_ros.geodesy import LocalFrame
from d2vpr_ros.geometry import FORWARD_MOUNT, Pose
from d2vpr_ros.images.decode import read_frame
from d2vpr_ros.images.frame import PosedFrame

log = logging.getLogger(__name__)

MAX_GAP_S = 1.0
BASE_FRAME = "base_link"

PoseOf = Literal["base", "camera_optical"]


@dataclass(eq=False)
class Drive:
    """The images of one camera with their poses, made by `open_drive`.

    Attributes:
        trajectory: of the base or of the camera, as `pose_of` says.
        mount: T_base_cameraOptical.
        images, unposed, unreadable, skipped: counted by `frames`: images seen, without a pose at their stamp,
            undecodable, and not wanted by `keep`.
    """

    bag: Bag
    image_topic: str
    pose_topic: str
    trajectory: Trajectory
    mount: Pose
    pose_of: PoseOf
    max_gap_s: float
    images: int = 0
    unposed: int = 0
    unreadable: int = 0
    skipped: int = 0
    _first_ns: int = field(default=2**63 - 1, repr=False)
    _last_ns: int = field(default=-(2**63), repr=False)

    @property
    def frame_id(self) -> str:
        """The map frame the poses are in."""
        return self.trajectory.frame_id

    @property
    def origin(self) -> LocalFrame | None:
        """Where that frame stands on the earth, if the poses come from NavSatFix."""
        return self.trajectory.origin

    def frames(self, keep: Callable[[Pose], bool] | None = None) -> Iterator[PosedFrame]:
        """The images that have a pose, in the bag's order, each with T_map_cameraOptical at its stamp.

        Args:
            keep: asked with that pose before an image is decoded; False leaves the image out.

        Raises:
            UserError: at the end, when the poses cover none of the images or none could be decoded.
        """
        self.images = self.unposed = self.unreadable = self.skipped = 0
        reason = ""
        for _, _, message in self.bag.messages([self.image_topic]):
            self.images += 1
            stamp = stamp_ns(message.header)
            self._first_ns, self._last_ns = min(stamp, self._first_ns), max(stamp, self._last_ns)
            body = self.trajectory.at(stamp, self.max_gap_s)
            if body is None:
                self.unposed += 1
                continue
            pose = body @ self.mount if self.pose_of == "base" else body
            if keep is not None and not keep(pose):
                self.skipped += 1
                continue
            try:
                frame = read_frame(message)
            except UserError as error:
                self.unreadable += 1
                if self.unreadable == 1:
                    log.warning("%s: %s at %s: %s", self.bag.path, self.image_topic, seconds(stamp), error)
                reason = str(error)
                continue
            yield PosedFrame(frame, pose, self.trajectory.geo(pose.position))
        if self.images and self.unposed == self.images:
            raise self._uncovered()
        if self.unreadable and self.unreadable == self.images - self.unposed - self.skipped:
            raise UserError(f"{self.bag.path}: none of the images on {self.image_topic} can be decoded: {reason}")

    def _uncovered(self) -> UserError:
        stamps = self.trajectory.stamps_ns
        return UserError(
            f"{self.bag.path}: no image has a pose: {self.image_topic} runs from {seconds(self._first_ns)} to "
            f"{seconds(self._last_ns)}, {self.pose_topic} from {seconds(stamps[0])} to {seconds(stamps[-1])} with gaps "
            f"over {self.max_gap_s:g} s left out; choose another --pose-topic or check the clocks of the recording"
        )


def seconds(ns: int) -> str:
    return f"{int(ns) / NANOSECONDS:.3f} s"


def open_drive(
    bag: Bag,
    image_topic: str | None = None,
    pose_topic: str | None = None,
    mount: Pose | None = None,
    pose_of: PoseOf = "base",
    max_gap_s: float = MAX_GAP_S,
) -> Drive:
    """The drive in a bag.

    Args:
        image_topic, pose_topic: None where the bag leaves no choice (`choose_topic`).
        mount: T_base_cameraOptical; None takes it from /tf_static, from the frame the poses are of (Odometry's
            child_frame_id, else base_link) to the frame of the image's header, and at last a level, forward-looking
            camera, which is logged.
        pose_of: whose poses the pose topic has. An Odometry whose child_frame_id is the image's own frame has the
            camera's, whatever is said here.
        max_gap_s: poses further apart are not interpolated between.

    Raises:
        UserError: a topic is missing, ambiguous or of another type; no usable pose; no image.
    """
    image_topic = choose_topic(bag, image_topic, "image")
    pose_topic = choose_topic(bag, pose_topic, "pose")
    trajectory = trajectory_from_bag(bag, pose_topic)
    first = next(bag.messages([image_topic]), None)
    if first is None:
        raise UserError(f"{bag.path}: {image_topic} has no messages; choose another topic with --image-topic")
    camera, base = plain(first[2].header.frame_id), plain(trajectory.child_frame_id or BASE_FRAME)
    if base == camera:
        pose_of, base = "camera_optical", BASE_FRAME
    return Drive(bag, image_topic, pose_topic, trajectory, mount or find_mount(bag, base, camera), pose_of, max_gap_s)


def find_mount(bag: Bag, base: str, camera: str) -> Pose:
    """T_base_cameraOptical from /tf_static, or FORWARD_MOUNT with a warning."""
    mount = static_transform(bag, base, camera)
    if mount is None:
        log.warning(
            "%s: /tf_static does not say how %s is mounted on %s: taken as level and looking forward, at its origin "
            "(give --mount to change that)",
            bag.path,
            camera or "the camera",
            base,
        )
        return FORWARD_MOUNT
    return mount
