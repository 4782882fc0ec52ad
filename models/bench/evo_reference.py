"""evo's errors of a trajectory, by another Python: evo is under the GPL and no requirement.

    python3 -m venv /tmp/evo && /tmp/evo/bin/pip install evo==1.38.1
    /tmp/evo/bin/python models/bench/evo_reference.py trajectories.npz    # prints JSON

Imports nothing of the package. trajectories.npz holds positions (N, 3) and rotations (N, 3, 3) of `estimate_` and
`truth_`.
"""

from __future__ import annotations

import copy
import json
import sys
from typing import Any

import numpy as np
from evo.core import metrics
from evo.core.trajectory import PosePath3D


def _path(stored: Any, name: str) -> Any:
    poses = np.tile(np.eye(4), (len(stored[f"{name}_positions"]), 1, 1))
    poses[:, :3, :3], poses[:, :3, 3] = stored[f"{name}_rotations"], stored[f"{name}_positions"]
    return PosePath3D(poses_se3=list(poses))


def main() -> None:
    stored = np.load(sys.argv[1])
    estimate, truth = _path(stored, "estimate"), _path(stored, "truth")
    found = {}
    for name, with_scale in (("rigid_m", False), ("scaled_m", True)):
        aligned = copy.deepcopy(estimate)
        aligned.align(truth, correct_scale=with_scale)
        absolute = metrics.APE(metrics.PoseRelation.translation_part)
        absolute.process_data((truth, aligned))
        found[name] = absolute.get_statistic(metrics.StatisticsType.rmse)
    for name, relation in (
        ("step_m", metrics.PoseRelation.translation_part),
        ("step_deg", metrics.PoseRelation.rotation_angle_deg),
    ):
        relative = metrics.RPE(relation, delta=1, delta_unit=metrics.Unit.frames, all_pairs=False)
        relative.process_data((truth, estimate))
        found[name] = relative.get_statistic(metrics.StatisticsType.rmse)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
