"""What the last images say together about where the robot is.

One image is weak evidence: under other light most images of a street resemble many places. But if the robot is at a
place now, its odometry says where it was at each earlier image, and that image must have resembled *that* place. A
hypothesis is scored by how well all remembered images fit it, so a dozen weak images make one strong answer, and a
look-alike street fails at its first difference. (Sequence matching as in SeqSLAM, along the robot's own motion.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from d2vpr_ros.geometry import Pose

Array = npt.NDArray[np.float64]

_SAMPLE = 1000


@dataclass(frozen=True, eq=False)
class Background:
    """How similar an image is to places in general: what makes its similarity to one place stand out.

    Attributes:
        sample: (M, D) float32 descriptors spread evenly over the map.
    """

    sample: npt.NDArray[np.float32]

    @staticmethod
    def of(descriptors: npt.NDArray[np.float32]) -> Background:
        return Background(descriptors[:: max(1, len(descriptors) // _SAMPLE)])

    def standardise(self, descriptor: npt.NDArray[np.float32], similarities: npt.NDArray[np.float32]) -> Array:
        """Similarities of one query in standard deviations above its mean similarity to the map's places.

        Light and weather change all similarities of a query alike; this takes that out.
        """
        ordinary = self.sample @ descriptor
        return (similarities.astype(np.float64) - ordinary.mean()) / max(float(ordinary.std()), 1e-6)


@dataclass(frozen=True, eq=False)
class Query:
    """One remembered image.

    Attributes:
        stamp_ns: of the image.
        positions: (K, 3) metres, where the base would have been for each of its candidates.
        scores: (K,) standardised similarities of its candidates.
        odometry: T_odom_base at the stamp, or None without odometry.
        descriptor: (D,) float32 of the image.
    """

    stamp_ns: int
    descriptor: npt.NDArray[np.float32]
    positions: Array
    scores: Array
    odometry: Pose | None


@dataclass(frozen=True, eq=False)
class Hypotheses:
    """Places the robot may be at now: base positions (H, 3) and rotations (H, 3, 3) in the map."""

    positions: Array
    rotations: Array


def support(
    hypotheses: Hypotheses,
    stamp_ns: int,
    odometry: Pose | None,
    earlier: Iterable[Query],
    tolerance_m: float,
    top_speed_mps: float,
    widest_reach_m: float,
) -> tuple[Array, int]:
    """How well the earlier images fit each hypothesis.

    With odometry at both times an earlier position follows from the motion between. Without, the robot may have come
    from anywhere within reach at `top_speed_mps`; images so long ago that this exceeds `widest_reach_m` are left out.

    Args:
        stamp_ns, odometry: of the present image.
        tolerance_m: how far a candidate may lie from where it is expected.

    Returns:
        (H,) summed scores of the earlier images, each giving its best candidate near the expected position (0, the
        score of an ordinary place, where it has none), and the number of images that took part.
    """
    total, used = np.zeros(len(hypotheses.positions)), 0
    for query in earlier:
        if odometry is not None and query.odometry is not None:
            back = odometry.inverse() @ query.odometry  # T_baseNow_baseThen
            expected, reach = hypotheses.positions + hypotheses.rotations @ back.position, tolerance_m
        else:
            expected = hypotheses.positions
            reach = tolerance_m + top_speed_mps * abs(stamp_ns - query.stamp_ns) * 1e-9
            if reach > widest_reach_m:
                continue
        near = cdist(expected, query.positions) <= reach
        total += np.where(near, query.scores, 0.0).max(axis=1)
        used += 1
    return total, used
