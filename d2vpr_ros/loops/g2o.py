"""A pose graph as a g2o file, for GTSAM, g2o, SE-Sync, Kimera-RPGO and whoever else solves one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from d2vpr_ros.geometry import Pose
from d2vpr_ros.loops.closure import Closure, Edge
from d2vpr_ros.loops.graph import information_of

_UPPER = np.triu_indices(6)


def write_g2o(path: Path, poses: Mapping[int, Pose], edges: Sequence[Edge | Closure]) -> None:
    """Write VERTEX_SE3:QUAT and EDGE_SE3:QUAT lines; the first place is fixed.

    Information is over (x, y, z, rotation about x, y, z) in the axes of the second pose, radians, as GTSAM reads and
    writes it. g2o itself takes the rotation as the vector part of a quaternion, half of that.

    Args:
        poses: T_map_base by place.
        edges: odometry, then closures.

    Raises:
        OSError: the file cannot be written.
    """
    with path.open("w", encoding="utf-8") as file:
        for place, pose in poses.items():
            file.write(f"VERTEX_SE3:QUAT {place} {_numbers(pose.numbers)}\n")
        file.write(f"FIX {next(iter(poses))}\n")
        for edge in edges:
            information = information_of(edge.covariance[None], edge.pose.rotation.as_matrix()[None])[0]
            numbers = *edge.pose.numbers, *information[_UPPER].tolist()
            file.write(f"EDGE_SE3:QUAT {edge.old} {edge.new} {_numbers(numbers)}\n")


def _numbers(numbers: Sequence[float]) -> str:
    return " ".join(f"{number:.9g}" for number in numbers)
