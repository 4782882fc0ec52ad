"""Corrected poses into a map, in one transaction: it has all of them or none."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from d2vpr_ros.geometry import Array, Pose
from d2vpr_ros.loops.closure import Closure
from d2vpr_ros.mapping import PlaceMap
from d2vpr_ros.mapping.database import transaction
from d2vpr_ros.mapping.frames import ODOMETRY_FRAME
from d2vpr_ros.mapping.landmark_table import has_landmarks
from d2vpr_ros.mapping.loop_table import StoredOdometry, has_table, write_closures, write_odometry
from d2vpr_ros.mapping.schema import point
from d2vpr_ros.mapping.store import MapWriter, open_writable

MAP_FRAME = "map"
"""REP-105: the frame of poses that do not drift."""


@dataclass(frozen=True, eq=False)
class Correction:
    """What changes in a map.

    Attributes:
        rows: (M,) of the places whose poses change.
        positions, rotations: (M, 3), (M, 3, 3): T_map_base.
        odometry: by place, as measured; all that the corrected poses were made from.
        closures: with their weights; those of earlier closings of the same places are replaced.
    """

    rows: npt.NDArray[np.int64]
    positions: Array
    rotations: Array
    odometry: Mapping[int, StoredOdometry]
    closures: Sequence[Closure]


def write_correction(
    place_map: PlaceMap, correction: Correction, on_place: Callable[[], object] = lambda: None
) -> None:
    """Write a correction to the map's file.

    The stated covariances of corrected poses are dropped: they were the odometry's drift, which is gone. Landmarks that
    the map holds are dropped, too, for they were made from poses that have changed. A map in the frame of odometry is
    in one of its own from then on: no odometry has these poses.

    Args:
        on_place: called for each place, within the transaction.

    Raises:
        UserError: the map cannot be written, such as on a full disk; it is as it was then.
    """
    with open_writable(Path(place_map.path)) as writer:
        connection = writer.connection
        with transaction(connection):
            write_odometry(connection, correction.odometry)
            _replace_closures(connection, place_map.ids[correction.rows], correction.closures)
            for number, row in enumerate(correction.rows.tolist()):
                turned = Rotation.from_matrix(correction.rotations[number]).as_quat()
                _move(
                    writer, int(place_map.ids[row]), Pose(correction.positions[number], turned) @ place_map.mount(row)
                )
                on_place()
            if has_landmarks(connection):
                connection.execute("DELETE FROM landmarks")
            if place_map.header.frame == ODOMETRY_FRAME:
                connection.execute("UPDATE d2vpr_meta SET value = ? WHERE key = 'frame'", (MAP_FRAME,))
            writer.set_extent()


def _replace_closures(connection: sqlite3.Connection, ids: npt.NDArray[np.int64], closures: Sequence[Closure]) -> None:
    if has_table(connection, "closures"):
        moved = set(ids.tolist())
        earlier = connection.execute("SELECT id, old, new FROM closures").fetchall()
        gone = [(number,) for number, old, new in earlier if new in moved or old in moved]
        connection.executemany("DELETE FROM closures WHERE id = ?", gone)
    write_closures(connection, closures)


def _move(writer: MapWriter, place: int, pose: Pose) -> None:
    header = writer.header
    writer.connection.execute(
        "UPDATE places SET (x, y, z, qx, qy, qz, qw, heading, covariance) = (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, NULL) "
        "WHERE id = ?9",
        (*pose.numbers, header.heading_deg(pose), place),
    )
    if not header.geo_tagged:
        geometry = point(float(pose.position[0]), float(pose.position[1]), geo_tagged=False)
        writer.connection.execute("UPDATE places SET geom = ? WHERE id = ?", (geometry, place))
