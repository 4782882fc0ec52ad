"""The cameras of a drive: their topics, where they are mounted, and where they are at an image's stamp."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from d2vpr_ros.bags.calibration import Calibration, camera_namespace, read_calibration
from d2vpr_ros.bags.covariance import moved
from d2vpr_ros.bags.reader import Bag
from d2vpr_ros.bags.topics import choose_topic
from d2vpr_ros.bags.trajectory import Array, Poses
from d2vpr_ros.bags.transforms import TfTree, plain
from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import FORWARD_MOUNT, Pose

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ImageTopic:
    """A camera before anything is known of its poses: its name, its topic, its frame and intrinsics."""

    name: str
    topic: str
    frame_id: str
    calibration: Calibration | None


@dataclass(frozen=True, eq=False)
class DriveCamera:
    """One camera of a drive.

    Attributes:
        name: the namespace of its topic (/front/image -> front), or its frame where that is empty.
        topic: its images.
        frame_id: of the images' headers.
        mount: T_base_cameraOptical.
        calibration: from the camera_info beside the topic, if the bag has it.
        poses: of the body that the camera is fixed to; None in a drive without poses.
        on_body: T_body_cameraOptical.
    """

    name: str
    topic: str
    frame_id: str
    mount: Pose
    calibration: Calibration | None
    poses: Poses | None
    on_body: Pose

    def pose_at(self, stamp_ns: int, max_gap_s: float) -> Pose | None:
        """T_map_cameraOptical at a time, None where the poses do not say it (`Poses.at`)."""
        body = None if self.poses is None else self.poses.at(stamp_ns, max_gap_s)
        return None if body is None else body @ self.on_body

    def covariance_at(self, stamp_ns: int, pose: Pose) -> Array | None:
        """(6, 6) float64 of the camera's pose in the map frame (`bags.covariance`), None where it is not known.

        Args:
            pose: what `pose_at` said of that time.
        """
        covariance = None if self.poses is None else self.poses.covariance_at(stamp_ns)
        if covariance is None:
            return None
        return moved(covariance, pose.position - (pose @ self.on_body.inverse()).position)


def find_image_topics(bag: Bag, wanted: Sequence[str]) -> list[ImageTopic]:
    """The image topics asked for, or the only one there is.

    Raises:
        UserError: a topic is missing, ambiguous, of another type or without messages.
    """
    topics = list(dict.fromkeys(choose_topic(bag, topic, "image") for topic in wanted or (None,)))
    frames = {}
    for topic in topics:
        first = next(bag.messages([topic]), None)
        if first is None:
            raise UserError(f"{bag.path}: {topic} has no messages; choose another topic with --image-topic")
        frames[topic] = plain(first[2].header.frame_id)
    names = [camera_namespace(topic) or frames[topic] or topic.strip("/") for topic in topics]
    # Two topics of one namespace, such as /stereo/left_image and /stereo/right_image, go by their whole name.
    unique = [name if names.count(name) == 1 else topic.strip("/") for name, topic in zip(names, topics, strict=True)]
    return [
        ImageTopic(name, topic, frames[topic], read_calibration(bag, topic))
        for name, topic in zip(unique, topics, strict=True)
    ]


def given_mounts(images: Sequence[ImageTopic], mount: Pose | None, mounts: Mapping[str, Pose]) -> dict[str, Pose]:
    """The mounts that were given, by the camera's name.

    Raises:
        UserError: a single mount for several cameras, or one for a camera that there is not.
    """
    names = [image.name for image in images]
    if mount is not None and len(images) > 1:
        raise UserError(
            f"--mount with {len(images)} cameras; use --mount-of NAME=x,y,z,qx,qy,qz,qw; the cameras are "
            f"{', '.join(names)}"
        )
    unknown = [name for name in mounts if name not in names]
    if unknown:
        raise UserError(f"--mount-of {unknown[0]}: no such camera; the cameras are {', '.join(names)}")
    return dict(mounts) if mount is None else {names[0]: mount, **mounts}


def cameras_on_body(
    bag: Bag,
    images: Sequence[ImageTopic],
    poses: Poses | None,
    tree: TfTree,
    given: Mapping[str, Pose],
    base_frame: str,
    body: str | None,
) -> list[DriveCamera]:
    """The cameras on the body that the poses are of.

    Args:
        tree: the fixed transforms, where mounts that are not given are looked up; else a level, forward-looking camera,
            and it is logged.
        body: its frame; None if it is the first camera.
    """
    own = images[0] if body is None else next((i for i in images if i.frame_id == plain(body) != base_frame), None)
    base = base_frame if own is not None or body is None else plain(body)
    standing = {image.name: given.get(image.name) or _find_mount(bag, tree, base, image) for image in images}
    cameras = []
    for image in images:
        mount = on_body = standing[image.name]
        if own is not None:  # the body is a camera
            direct = None if own.name in given or image.name in given else tree.fixed(own.frame_id, image.frame_id)
            on_body = Pose.identity() if image is own else direct or standing[own.name].inverse() @ mount
        elif image.name not in given and base != base_frame:
            mount = tree.fixed(base_frame, image.frame_id) or on_body
        cameras.append(DriveCamera(image.name, image.topic, image.frame_id, mount, image.calibration, poses, on_body))
    return cameras


def cameras_in_tree(
    bag: Bag, images: Sequence[ImageTopic], tree: TfTree, given: Mapping[str, Pose], base_frame: str, map_frame: str
) -> list[DriveCamera]:
    """The cameras in a tf tree: each at its own frame, or, if that is not in the tree or its mount is given, on the
    base.

    Raises:
        UserError: the tree does not connect the map frame to the cameras or the base.
    """
    cameras = []
    for image in images:
        mount = given.get(image.name)
        # Whoever stamps images with the base's frame does not mean that the camera looks up.
        direct = mount is None and image.frame_id != base_frame
        poses = tree.chain(map_frame, image.frame_id) if direct else None
        if poses is None:
            poses = tree.chain(map_frame, base_frame)
            mount = on_body = mount or _find_mount(bag, tree, base_frame, image)
        else:
            on_body = Pose.identity()
            on_base = tree.chain(base_frame, image.frame_id)
            # A camera that pans has its mount of one moment in the map.
            mount = (None if on_base is None else on_base.first) or _find_mount(bag, tree, base_frame, image)
        if poses is None:
            raise UserError(
                f"{bag.path}: tf does not connect {map_frame} to {image.frame_id or 'the camera'} or {base_frame}; "
                f"name others with --map-frame or --base-frame; its frames are {', '.join(tree.frames[:40]) or 'none'}"
            )
        cameras.append(DriveCamera(image.name, image.topic, image.frame_id, mount, image.calibration, poses, on_body))
    return cameras


def _find_mount(bag: Bag, tree: TfTree, base: str, image: ImageTopic) -> Pose:
    """T_base_cameraOptical from the fixed transforms, or FORWARD_MOUNT with a warning."""
    mount = None if image.frame_id == base else tree.fixed(base, image.frame_id)
    if mount is None:
        log.warning(
            "%s: tf_static has no mount of %s on %s; assumed: level, looking forward, at its origin (give --mount, or "
            "--base-frame: its frames are %s)",
            bag.path,
            image.frame_id or "the camera",
            base,
            ", ".join(tree.frames[:20]) or "none",
        )
        return FORWARD_MOUNT
    return mount
