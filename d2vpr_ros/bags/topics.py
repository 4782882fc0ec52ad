"""Which topic of a bag is meant, where nobody said it."""

from __future__ import annotations

import logging
from typing import Literal

from d2vpr_ros.bags.reader import Bag, TopicInfo, list_topics, require_topic
from d2vpr_ros.errors import UserError

log = logging.getLogger(__name__)

Kind = Literal["image", "pose", "geo"]

NAVSATFIX = "sensor_msgs/msg/NavSatFix"
IMU = "sensor_msgs/msg/Imu"
PATH = "nav_msgs/msg/Path"
TFMESSAGE = "tf2_msgs/msg/TFMessage"

# By kind the types in order of preference, best first; those of one group are equally good. For poses: a topic in
# the map frame (PoseStamped) before odometry, which drifts, before GPS, which has no orientation and metres of noise,
# before tf, which has to be read to know whether it holds a map frame.
TYPES: dict[Kind, tuple[tuple[str, ...], ...]] = {
    "image": (("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"),),
    "pose": (
        ("geometry_msgs/msg/PoseStamped", "geometry_msgs/msg/PoseWithCovarianceStamped"),
        ("nav_msgs/msg/Odometry",),
        (NAVSATFIX,),
        (TFMESSAGE,),
        (PATH,),
    ),
    "geo": ((NAVSATFIX,),),
}
# Poses that say where the robot shall go or was told it is, not where it went; transforms that never change; depth.
NEVER_MEANT = ("goal", "goal_pose", "initialpose", "tf_static", "compressedDepth")


def choose_topic(bag: Bag, wanted: str | None, kind: Kind) -> str:
    """The topic asked for, or the only one that fits.

    Found by itself only among topics that have messages, never under /ground_truth/, never a command such as /goal_pose
    and never a Path (a planner's look the same as a SLAM system's). Poses are preferred in the order PoseStamped and
    PoseWithCovarianceStamped, Odometry, NavSatFix, tf.

    Args:
        wanted: a topic's name, or None to find it.

    Raises:
        UserError: the topic is not in the bag or of another type; none fits; several fit equally well.
    """
    groups = TYPES[kind]
    every_type = [name for group in groups for name in group]
    option = f"--{kind}-topic"
    if wanted is not None:
        topic = require_topic(bag, full_name(bag, wanted))
        if topic.msgtype not in every_type:
            raise UserError(
                f"{bag.path}: {topic.name} is {topic.msgtype}, no {kind}; expected {' or '.join(every_type)}"
            )
        return topic.name
    for group in groups:
        fitting = [t for t in bag.topics.values() if t.msgtype in group and may_be_chosen(t)]
        if len(fitting) == 1:
            log.info("%s: %ss from %s (%s)", bag.path, kind, fitting[0].name, fitting[0].msgtype)
            return fitting[0].name
        if fitting:
            choices = ", ".join(f"{t.name} ({t.msgtype}, {t.count})" for t in fitting)
            raise UserError(f"{bag.path}: several {kind} topics; choose one with {option}: {choices}")
    raise UserError(f"{bag.path}: no {kind} topic was found; name one with {option}; the bag has {list_topics(bag)}")


def full_name(bag: Bag, topic: str) -> str:
    """A topic's name with its leading slash, unless the bag has it without."""
    return topic if topic.startswith("/") or topic in bag.topics else f"/{topic}"


def may_be_chosen(topic: TopicInfo) -> bool:
    """Whether a topic can be meant without being named: the truth is for scoring, never for mapping or localizing."""
    parts = topic.name.strip("/").split("/")
    truth = "ground_truth" in parts[:-1]
    return topic.count > 0 and not truth and parts[-1] not in NEVER_MEANT and topic.msgtype != PATH
