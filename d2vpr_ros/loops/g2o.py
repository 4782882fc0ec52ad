"""A map's pose graph as a g2o file, which GTSAM, g2o, Ceres examples and SLAM tools read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import Array
from d2vpr_ros.loops.closing import in_order, odometry_of, place_of
from d2vpr_ros.loops.closure import BELIEVED, Closure, Edge
from d2vpr_ros.loops.graph import information_of
from d2vpr_ros.loops.odometry import edges_of
from d2vpr_ros.loops.past import Past
from d2vpr_ros.mapping import PlaceMap
from d2vpr_ros.mapping.database import connect
from d2vpr_ros.mapping.loop_table import read_closures


def write_g2o(place_map: PlaceMap, path: Path) -> tuple[int, int]:
    """Poses of the base as VERTEX_SE3:QUAT, odometry and closures as EDGE_SE3:QUAT, numbered as the places.

    Closures that the pose graph refused are left out. The information of an edge is of (x, y, z, rotation vector) in
    the axes of the second vertex, as GTSAM reads it; g2o itself takes half the rotation's angle there.

    Returns:
        How many steps of odometry and how many closures were written.

    Raises:
        UserError: a map without metres; its odometry or closures cannot be read.
    """
    if not place_map.header.metric:
        raise UserError(f"map {place_map.path} has no metres, so no pose graph; use --format csv")
    with connect(place_map.path) as connection:
        closures = [one for one in read_closures(connection, place_map.path) if one.weight >= BELIEVED]
    odometry = odometry_of(place_map, np.zeros(len(place_map), np.bool_))
    past = Past(place_map.path, place_map.header)
    for row in in_order(place_map):
        past.add(place_of(place_map, row, odometry[int(place_map.ids[row])]))
    edges, _ = edges_of(past)
    with path.open("w", encoding="utf-8") as file:
        for row, number in enumerate(place_map.ids.tolist()):
            numbers = place_map.base_pose(row).numbers
            file.write(f"VERTEX_SE3:QUAT {number} {' '.join(map(repr, numbers))}\n")
        file.write(f"FIX {int(place_map.ids[0])}\n")
        file.writelines(_edges(edges))
        file.writelines(_edges(closures))
    return len(edges), len(closures)


def _edges(edges: Iterable[Edge | Closure]) -> Iterable[str]:
    for edge in edges:
        information = _information(edge)
        upper = " ".join(repr(float(value)) for value in information[np.triu_indices(6)])
        yield f"EDGE_SE3:QUAT {edge.old} {edge.new} {' '.join(map(repr, edge.pose.numbers))} {upper}\n"


def _information(edge: Edge | Closure) -> Array:
    rotations = edge.pose.rotation.as_matrix()[None]
    return np.asarray(information_of(edge.covariance[None], rotations)[0])
