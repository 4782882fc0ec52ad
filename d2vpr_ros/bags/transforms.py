"""The fixed transforms of a drive: what /tf_static says."""

from __future__ import annotations

import logging

from d2vpr_ros.bags.reader import Bag
from d2vpr_ros.fields import read_transform
from d2vpr_ros.geometry import Pose

log = logging.getLogger(__name__)

TF_STATIC = "/tf_static"


def static_transform(bag: Bag, parent: str, child: str) -> Pose | None:
    """T_parent_child composed from the bag's /tf_static; None where it does not connect the two frames."""
    if TF_STATIC not in bag.topics:
        return None
    edges: dict[str, tuple[str, Pose]] = {}
    for _, _, message in bag.messages([TF_STATIC]):
        for stamped in message.transforms:
            try:
                pose = read_transform(stamped.transform)
            except ValueError:
                log.warning(
                    "%s: the static transform of %s is not a pose and is left out", bag.path, stamped.child_frame_id
                )
                continue
            edges[plain(stamped.child_frame_id)] = (plain(stamped.header.frame_id), pose)
    up_parent, up_child = _way_up(edges, plain(parent)), _way_up(edges, plain(child))
    for ancestor, from_child in up_child.items():
        if ancestor in up_parent:
            return up_parent[ancestor].inverse() @ from_child
    return None


def plain(frame: str) -> str:
    """A frame's name without the leading slash of ROS 1."""
    return frame.lstrip("/")


def _way_up(edges: dict[str, tuple[str, Pose]], frame: str) -> dict[str, Pose]:
    """T_ancestor_frame by ancestor, nearest first, the frame itself included; ends at a cycle."""
    way, pose = {frame: Pose.identity()}, Pose.identity()
    while frame in edges:
        frame, step = edges[frame]
        if frame in way:
            break
        pose = step @ pose
        way[frame] = pose
    return way
