"""Closures between the nodes of RTAB-Map's graph, which are not exactly where the images of the closures are."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from d2vpr_ros.geometry import Array, Pose
from d2vpr_ros.multiview.adjustment import skew

_KEPT = 200_000  # nodes; RTAB-Map makes one a second


@dataclass(frozen=True, eq=False)
class Link:
    """What RTAB-Map's service add_link takes.

    Attributes:
        from_id, to_id: of its nodes, the new one and the old one.
        pose: T_from_to of the base.
        information: (6, 6) over (x, y, z, rotation about x, y, z) in the axes of the node `from_id`.
    """

    from_id: int
    to_id: int
    pose: Pose
    information: Array


@dataclass(frozen=True, eq=False)
class Node:
    """A node of RTAB-Map's graph, and T_odom_base at its stamp."""

    id: int
    stamp_ns: int
    odometry: Pose


class Nodes:
    """The nodes of RTAB-Map's graph by their stamps, in the order they were made."""

    def __init__(self, farthest_s: float) -> None:
        """
        Args:
            farthest_s: from an image to a node; half of RTAB-Map's detection period.
        """
        self._farthest_ns = round(farthest_s * 1e9)
        self._nodes: deque[Node] = deque(maxlen=_KEPT)

    def __len__(self) -> int:
        return len(self._nodes)

    def add(self, node: Node) -> None:
        """One with a stamp that went back is of another run: those before are dropped."""
        if self._nodes and node.stamp_ns < self._nodes[-1].stamp_ns:
            self._nodes.clear()
        self._nodes.append(node)

    def reaches(self, stamp_ns: int) -> bool:
        """Whether no nearer node to a time is to be waited for."""
        return bool(self._nodes) and self._nodes[-1].stamp_ns >= stamp_ns

    def nearest(self, stamp_ns: int) -> Node | None:
        """The node nearest to a time; None where none is near enough."""
        node = min(self._nodes, key=lambda one: abs(one.stamp_ns - stamp_ns), default=None)
        return None if node is None or abs(node.stamp_ns - stamp_ns) > self._farthest_ns else node


def link_between(old: Node, new: Node, at_old: Pose, at_new: Pose, closure: Pose, covariance: Array) -> Link:
    """A closure moved to the nodes beside its images by odometry, and turned round.

    Args:
        at_old, at_new: T_odom_base at the images' stamps.
        closure, covariance: T_old_new of the images and its (6, 6), as `~/loop_closure` has them.
    """
    old_image = old.odometry.inverse() @ at_old  # T_oldNode_oldImage; a moment's odometry is exact
    pose = old_image @ closure @ at_new.inverse() @ new.odometry
    turned = np.kron(np.eye(2), old_image.rotation.as_matrix())
    of_pose = turned @ covariance @ turned.T
    arm = pose.position - (old_image @ closure).position
    lever = np.eye(6)
    lever[:3, 3:] = -skew(arm)
    information = np.linalg.inv(_inverted(lever @ of_pose @ lever.T, pose))
    return Link(new.id, old.id, pose.inverse(), np.asarray(information, np.float64))


def _inverted(covariance: Array, pose: Pose) -> Array:
    """(6, 6) of T_b_a in the axes of b, of that of T_a_b in those of a."""
    back = pose.rotation.as_matrix().T
    jacobian = np.zeros((6, 6))
    jacobian[:3, :3] = jacobian[3:, 3:] = -back
    jacobian[:3, 3:] = -back @ skew(pose.position)
    return np.asarray(jacobian @ covariance @ jacobian.T)
