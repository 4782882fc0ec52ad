"""A map built from odometry whose loops are closed, beside the true poses of the same drive."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from d2vpr_ros.bags.stream import Drive
from d2vpr_ros.describe.features import FeatureExtractor
from d2vpr_ros.errors import UserError
from d2vpr_ros.evaluation.loop_scoring import LoopScores, score
from d2vpr_ros.loops.closing import Closing, close_map
from d2vpr_ros.loops.elimination import Rows
from d2vpr_ros.loops.graph import Poses
from d2vpr_ros.loops.params import DEFAULT_PARAMS, LoopParams
from d2vpr_ros.mapping import PlaceMap, read_map

_LEAST_PLACES = 3  # that an alignment takes


def close_and_score(
    path: Path,
    true_drive: Drive,
    features: FeatureExtractor,
    on_place: Callable[[], object] = lambda: None,
    params: LoopParams = DEFAULT_PARAMS,
) -> tuple[LoopScores, Closing]:
    """Close the loops of a map in place, and judge what came of it.

    Args:
        path: of a map with one session, built by the odometry of the drive.
        true_drive: the same images with the true poses.
        on_place: called for each place that was looked at.

    Raises:
        UserError: as `close_map`; the truth of hardly any place is known.
    """
    built = read_map(path)
    truth = true_poses(built, true_drive)
    known = np.flatnonzero(np.isfinite(truth.positions).all(axis=1))
    if len(known) < _LEAST_PLACES:
        raise UserError(
            f"{true_drive.bag.path}: {len(known)} of {len(built)} places have a true pose "
            f"({true_drive.pose_source}); choose another topic with --truth-topic, or raise --max-gap"
        )
    began_s = time.perf_counter()
    closing = close_map(path, features, params=params, on_place=on_place)
    seconds = time.perf_counter() - began_s
    corrected = read_map(path)
    mounts = np.array([built.camera_table[int(one)].mount.rotation.as_matrix() for one in built.cameras[known]])
    true = Poses(truth.positions[known], truth.rotations[known])
    scores = score(
        built.ids[known],
        true,
        true.rotations @ mounts,
        _bases(built, known),
        _bases(corrected, known),
        closing.closures,
        closing.closed,
        built.spacing_m,
        params.least_way_spacings * built.spacing_m,
        seconds,
    )
    return scores, closing


def _bases(place_map: PlaceMap, rows: Rows) -> Poses:
    positions, rotations = place_map.base_poses()
    return Poses(positions[rows], rotations[rows])


def true_poses(place_map: PlaceMap, drive: Drive) -> Poses:
    """T_frame_base of every place by the drive's poses; NaN where they do not say it."""
    positions, rotations = np.full((len(place_map), 3), np.nan), np.full((len(place_map), 3, 3), np.nan)
    for row, camera in enumerate(place_map.cameras):
        seen_by = drive.cameras[place_map.camera_table[int(camera)].name]
        at = seen_by.pose_at(int(place_map.stamps_ns[row]), drive.max_gap_s)
        if at is not None:
            base = at @ seen_by.mount.inverse()
            positions[row], rotations[row] = base.position, base.rotation.as_matrix()
    return Poses(positions, rotations)
