"""What the launch files make of their arguments for cameras. Nothing of ROS is imported here."""

from __future__ import annotations

from collections.abc import Sequence

from d2vpr_ros.errors import UserError


def listed(text: str) -> list[str]:
    """The parts of an argument like front,left."""
    return [part.strip() for part in text.split(",") if part.strip()]


def camera_remappings(names: Sequence[str], image_topics: Sequence[str], image_topic: str) -> list[tuple[str, str]]:
    """From the node's topics to the robot's, for images, compressed ones, and camera_info beside them.

    Args:
        names: of the cameras; none is one camera without a name.
        image_topics: theirs, in that order; none leaves the node's.
        image_topic: of the camera without a name.

    Raises:
        UserError: not every camera has a topic.
    """
    if image_topics and len(image_topics) != len(names):
        raise UserError(
            f"image_topics names {len(image_topics)} topics, and cameras {len(names)}; give each camera one: "
            "cameras:=front,left image_topics:=/front/image_raw,/left/image_raw"
        )
    # A parameter file may name the cameras: image_topic is then nobody's, and does no harm.
    topics = {f"{name}/": topic for name, topic in zip(names, image_topics, strict=False)} or {"": image_topic}
    return [
        remapping
        for prefix, topic in topics.items()
        for remapping in (
            (f"{prefix}image", topic),
            (f"{prefix}image/compressed", f"{topic}/compressed"),
            (f"{prefix}camera_info", f"{topic.rpartition('/')[0]}/camera_info"),
        )
    ]
