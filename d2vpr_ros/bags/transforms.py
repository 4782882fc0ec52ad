"""The tf tree of a recorded drive: /tf_static and /tf, looked up at a time."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from d2vpr_ros.bags.order import RunWatch
from d2vpr_ros.bags.reader import Bag
from d2vpr_ros.bags.trajectory import Array, Geo, PoseColumns, Trajectory
from d2vpr_ros.fields import read_transform, stamp_ns
from d2vpr_ros.geodesy import LocalFrame
from d2vpr_ros.geometry import Pose

log = logging.getLogger(__name__)

TF = "tf"
TF_STATIC = "tf_static"
_TFMESSAGE = "tf2_msgs/msg/TFMessage"
BASE_FRAME = "base_link"

Edge = Pose | Trajectory
"""T_parent_child: fixed, or over time."""


@dataclass(frozen=True, eq=False)
class TfTree:
    """Transforms by their child frame: the parent's name and T_parent_child."""

    edges: Mapping[str, tuple[str, Edge]]

    @property
    def frames(self) -> list[str]:
        """Every frame's name, sorted."""
        return sorted({*self.edges, *(parent for parent, _ in self.edges.values())})

    def chain(self, parent: str, child: str) -> TfPoses | None:
        """T_parent_child over time; None where the tree does not connect the two frames.

        A frame without a prefix stands for the only one of that name with one: base_link for robot1/base_link.
        """
        to_parent, to_child = self._way_up(self._named(parent)), self._way_up(self._named(child))
        common = next((frame for frame in to_child if frame in to_parent), None)
        if common is None:
            return None
        return TfPoses(plain(parent), tuple(to_parent[common]), tuple(to_child[common]))

    def fixed(self, parent: str, child: str) -> Pose | None:
        """T_parent_child if it never changes, else None."""
        chain = self.chain(parent, child)
        return None if chain is None else chain.fixed

    def _named(self, frame: str) -> str:
        frame = plain(frame)
        if frame in self.frames:
            return frame
        prefixed = [name for name in self.frames if name.endswith(f"/{frame}")]
        return prefixed[0] if len(prefixed) == 1 else frame

    def _way_up(self, frame: str) -> dict[str, list[Edge]]:
        """The edges from each ancestor down to a frame by ancestor, nearest first, itself included; ends at a cycle."""
        way: dict[str, list[Edge]] = {frame: []}
        edges: list[Edge] = []
        while frame in self.edges:
            frame, edge = self.edges[frame]
            if frame in way:
                break
            edges = [edge, *edges]
            way[frame] = edges
        return way


@dataclass(frozen=True, eq=False)
class TfPoses:
    """T_parent_child over time along a chain of transforms, each interpolated by itself as tf2 does.

    Attributes:
        frame_id: the parent frame.
        up, down: the edges from the frames' common ancestor to the parent, and to the child.
    """

    frame_id: str
    up: tuple[Edge, ...]
    down: tuple[Edge, ...]

    @property
    def origin(self) -> LocalFrame | None:
        return None

    @property
    def span_ns(self) -> tuple[int, int]:
        """While every transform is known; of fixed ones only, always."""
        spans = [edge.span_ns for edge in (*self.up, *self.down) if isinstance(edge, Trajectory)]
        return max((s[0] for s in spans), default=-(2**63)), min((s[1] for s in spans), default=2**63 - 1)

    @property
    def fixed(self) -> Pose | None:
        """T_parent_child, if no transform on the way changes (ROS 1 sends the fixed ones again and again)."""
        moving = [edge for edge in (*self.up, *self.down) if isinstance(edge, Trajectory)]
        return self.first if all(map(_is_still, moving)) else None

    @property
    def first(self) -> Pose | None:
        """T_parent_child when all of the way is known first."""
        return self.at(self.span_ns[0], math.inf)

    def at(self, stamp_ns: int, max_gap_s: float) -> Pose | None:
        """T_parent_child at a time; None where one of the transforms is not known then (see `Trajectory.at`)."""
        ways = []
        for edges in (self.up, self.down):
            poses = [edge if isinstance(edge, Pose) else edge.at(stamp_ns, max_gap_s) for edge in edges]
            known = [pose for pose in poses if pose is not None]
            if len(known) < len(poses):
                return None
            ways.append(_compose(known))
        return ways[0].inverse() @ ways[1]

    def covariance_at(self, stamp_ns: int) -> Array | None:
        """None: tf carries no covariance."""
        return None

    def geo(self, position: Array) -> Geo | None:
        """None: tf is not tied to the earth."""
        return None


def tf_topic(bag: Bag, name: str, beside: str) -> str | None:
    """The topic `tf` or `tf_static` of the robot that another topic is of; None where the bag has none for it.

    Robots in namespaces have them there (/robot1/tf_static): of the namespaces around the other topic the innermost
    counts, else the only one there is. Several are named, and none is taken.

    Args:
        beside: a topic of that robot, such as its images.
    """
    found = [t.name for t in bag.topics.values() if t.msgtype == _TFMESSAGE and t.name.split("/")[-1] == name]
    around = [topic for topic in found if beside.startswith(topic.removesuffix(name))]
    if around:
        return max(around, key=len)
    if len(found) > 1:
        log.warning(
            "%s: %s are of several robots and none is in the namespace of %s; none is used", bag.path,
            " and ".join(sorted(found)), beside,
        )  # fmt: skip
    return found[0] if len(found) == 1 else None


def read_tf(bag: Bag, topic: str | None, beside: str) -> TfTree:
    """The tf tree of a bag.

    Args:
        topic: where moving transforms are, such as /tf; its fixed ones are on <topic>_static if the bag has that. None
            reads the fixed ones only.
        beside: a topic of the robot, in whose namespace the fixed ones are else (`tf_topic`).
    """
    static = f"{topic}_static" if f"{topic}_static" in bag.topics else tf_topic(bag, TF_STATIC, beside)
    edges: dict[str, tuple[str, Edge]] = {}
    if topic is not None:
        edges.update(_read_moving(bag, topic))
    if static is not None:
        for _, _, message in bag.messages([static], latched=True):
            for stamped in message.transforms:
                try:
                    pose = read_transform(stamped.transform)
                except ValueError:
                    log.warning(
                        "%s: the static transform of %s is not a pose and is left out", bag.path, stamped.child_frame_id
                    )
                    continue
                edges[plain(stamped.child_frame_id)] = (plain(stamped.header.frame_id), pose)
    return TfTree(edges)


def fixed_tree(bag: Bag, base: str, frames: Iterable[str], beside: str) -> TfTree:
    """The tree that says how frames are fixed to a base: /tf_static, and /tf where that does not connect them.

    Args:
        beside: a topic of the robot (`tf_topic`).
    """
    tree = read_tf(bag, None, beside)
    if any(tree.chain(base, frame) is None for frame in frames) and (moving := tf_topic(bag, TF, beside)):
        return read_tf(bag, moving, beside)
    return tree


def static_transform(bag: Bag, parent: str, child: str, beside: str) -> Pose | None:
    """T_parent_child composed from the bag's fixed transforms; None where they do not connect the two frames.

    Args:
        beside: a topic of the robot (`tf_topic`).
    """
    return fixed_tree(bag, parent, [child], beside).fixed(parent, child)


def plain(frame: str) -> str:
    """A frame's name without the leading slash of ROS 1."""
    return frame.lstrip("/")


def _read_moving(bag: Bag, topic: str) -> dict[str, tuple[str, Edge]]:
    columns: dict[tuple[str, str], PoseColumns] = {}
    runs: dict[tuple[str, str], RunWatch] = {}
    for _, recorded_ns, message in bag.messages([topic]):
        for stamped in message.transforms:
            key = (plain(stamped.child_frame_id), plain(stamped.header.frame_id))
            runs.setdefault(key, RunWatch(bag, f"{topic} ({key[1]} -> {key[0]})")).see(
                stamp_ns(stamped.header), recorded_ns
            )
            t, q = stamped.transform.translation, stamped.transform.rotation
            columns.setdefault(key, PoseColumns()).add(stamp_ns(stamped.header), (t.x, t.y, t.z, q.x, q.y, q.z, q.w))
    edges: dict[str, tuple[str, Edge]] = {}
    # A frame has one parent; where two nodes disagree, the one heard more often is believed.
    for (child, parent), heard in sorted(columns.items(), key=lambda item: len(item[1])):
        heard.check_one_way(f"{bag.path}: {topic} ({parent} -> {child})")
        trajectory = heard.trajectory(parent, child)
        if trajectory is None:
            continue
        if child in edges:
            log.warning("%s: %s has %s and %s as its parent: %s is left out", topic, child, edges[child][0], parent,
                        edges[child][0])  # fmt: skip
        edges[child] = (parent, trajectory)
    return edges


def _is_still(trajectory: Trajectory) -> bool:
    first = trajectory.quaternions[0]
    moved = float(np.ptp(trajectory.positions, axis=0).max())
    return moved < 1e-6 and float(np.abs(trajectory.quaternions @ first).min()) > 1 - 1e-12


def _compose(poses: Sequence[Pose]) -> Pose:
    whole = Pose.identity()
    for pose in poses:
        whole = whole @ pose
    return whole
