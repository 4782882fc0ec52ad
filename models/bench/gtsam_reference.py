"""GTSAM's answer to a pose graph, by another Python: GTSAM is no requirement (112 MB, no wheel for CPython 3.10).

    python3 -m venv /tmp/gtsam && /tmp/gtsam/bin/pip install gtsam==4.3.0 "numpy<2"
    /tmp/gtsam/bin/python models/bench/gtsam_reference.py graph.npz answer.npz

Imports nothing of the package: that Python does not have it. `models.bench.loops_solver` writes graph.npz.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import gtsam
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_ORDER = [3, 4, 5, 0, 1, 2]  # GTSAM's tangents begin with the rotation


def _pose(rotation: Array, position: Array) -> Any:
    return gtsam.Pose3(gtsam.Rot3(rotation), position)


def main() -> None:
    """Solve by Levenberg-Marquardt, and where `robust` is set by GNC-TLS over the closures."""
    graph = dict(np.load(sys.argv[1]))
    factors, start = gtsam.NonlinearFactorGraph(), gtsam.Values()
    for row, (rotation, position) in enumerate(zip(graph["rotations"], graph["positions"], strict=True)):
        start.insert(row, _pose(rotation, position))
    began = time.process_time()
    held = gtsam.noiseModel.Isotropic.Sigma(6, 1e-6)
    factors.add(gtsam.PriorFactorPose3(0, start.atPose3(0), held))
    for i, j, rotation, position, information in zip(
        graph["first"], graph["second"], graph["z_rotations"], graph["z_positions"], graph["information"], strict=True
    ):
        noise = gtsam.noiseModel.Gaussian.Information(information[np.ix_(_ORDER, _ORDER)])
        factors.add(gtsam.BetweenFactorPose3(int(i), int(j), _pose(rotation, position), noise))
    made = time.process_time()
    parameters = gtsam.LevenbergMarquardtParams()
    weights: Array = np.ones(len(graph["first"]))
    if graph["robust"]:
        gnc = gtsam.GncLMParams(parameters)
        gnc.setLossType(gtsam.GncLossType.TLS)
        gnc.setKnownInliers(list(range(1 + int(graph["odometry"]))))
        optimizer = gtsam.GncLMOptimizer(factors, start, gnc)
        optimizer.setInlierCostThresholdsAtProbability(0.99)
        solution = optimizer.optimize()
        weights = np.asarray(optimizer.getWeights())[1:]
    else:
        optimizer = gtsam.LevenbergMarquardtOptimizer(factors, start, parameters)
        solution = optimizer.optimize()
    seconds = time.process_time() - made
    poses = [solution.atPose3(row) for row in range(len(graph["positions"]))]
    np.savez(
        sys.argv[2],
        positions=np.array([pose.translation() for pose in poses]),
        rotations=np.array([pose.rotation().matrix() for pose in poses]),
        weights=weights,
        cost=factors.error(solution),
        seconds=seconds,
        building_seconds=made - began,
    )


if __name__ == "__main__":
    main()
