"""Do the last few queries tell one story? Each remembered query votes for the places its own candidates agree with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from d2vpr_ros.geometry import Pose

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Query:
    """One remembered query.

    Attributes:
        stamp_ns: of its image.
        rows: (K,) map rows of its candidates, best first.
        similarities: (K,) cosines.
        base_positions: (K, 3) metres, where the base would be in the map if the candidate is right.
        odometry: T_odom_base at the stamp, or None without odometry.
    """

    stamp_ns: int
    rows: npt.NDArray[np.int64]
    similarities: Array
    base_positions: Array
    odometry: Pose | None


def agreement(
    current: Query, base_poses: Sequence[Pose], earlier: Sequence[Query], tolerance_m: float, top_speed_mps: float
) -> Array:
    """For each candidate of `current`, how many of the earlier queries had a candidate where the robot then was.

    With odometry on both queries the earlier position follows from the candidate's pose and the motion between;
    without, the robot may be anywhere it could have come from at `top_speed_mps`.

    Args:
        base_poses: T_map_base for each of the K candidates of `current`.
        tolerance_m: how far a candidate may lie from where it is expected.

    Returns:
        (K,) float64 counts, 0..len(earlier).
    """
    votes = np.zeros(len(base_poses))
    for query in earlier:
        expected, reach = _expected(current, query, base_poses, tolerance_m, top_speed_mps)
        gaps = np.linalg.norm(expected[:, None] - query.base_positions[None], axis=-1)
        votes += (gaps.min(axis=1) <= reach).astype(np.float64)
    return votes


def _expected(
    current: Query, earlier: Query, base_poses: Sequence[Pose], tolerance_m: float, top_speed_mps: float
) -> tuple[Array, float]:
    if current.odometry is not None and earlier.odometry is not None:
        back = current.odometry.inverse() @ earlier.odometry  # T_baseNow_baseThen
        return np.array([(pose @ back).position for pose in base_poses]), tolerance_m
    seconds = abs(current.stamp_ns - earlier.stamp_ns) * 1e-9
    return np.array([pose.position for pose in base_poses]), tolerance_m + top_speed_mps * seconds
