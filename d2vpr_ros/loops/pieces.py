"""Parts of a map that odometry holds together, and how closures join them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from d2vpr_ros.geometry import Array, Pose
from d2vpr_ros.loops.closure import KINDS, Closure, Edge
from d2vpr_ros.mapping import PlaceMap

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Pieces:
    """Drives, and parts of drives between which the odometry began anew.

    Attributes:
        place_map: whose rows are meant.
        closures: between its places.
        labels: (N,) of each row, the piece that odometry's steps join it to; places that stay are one piece.
        held: (N,) rows that stay where they are: those that were asked to, and the first of each part that nothing
            joins to another.
        count: parts that nothing joins to one another.
    """

    place_map: PlaceMap
    closures: Sequence[Closure]
    labels: Rows
    held: npt.NDArray[np.bool_]
    count: int

    @staticmethod
    def of(
        place_map: PlaceMap, edges: Sequence[Edge], closures: Sequence[Closure], stays: npt.NDArray[np.bool_]
    ) -> Pieces:
        """
        Args:
            stays: (N,) rows whose poses were asked to stay.
        """
        steps = _rows(place_map, [(edge.old, edge.new) for edge in edges])
        unmoved = np.flatnonzero(stays)
        together = np.column_stack([unmoved[:-1], unmoved[1:]])
        _, labels = _components(np.concatenate([steps, together]), len(place_map))
        seen = _rows(place_map, [(closure.old, closure.new) for closure in closures])
        count, parts = _components(np.concatenate([steps, together, seen]), len(place_map))
        held = stays.copy()
        for part in range(count):
            rows = np.flatnonzero(parts == part)
            if not held[rows].any():
                held[rows[0]] = True
        return Pieces(place_map, closures, labels, held, count)

    def start(self, measured: Mapping[int, Pose]) -> tuple[Array, Array]:
        """(N, 3), (N, 3, 3) T_map_base to start the solver from: each piece as odometry has it, where the map has its
        first place, or where the longest run of closures puts it against those that are placed already.

        Args:
            measured: T_odom_cameraOptical by place.
        """
        ids = self.place_map.ids.tolist()
        by_odometry = [
            measured[number] @ self.place_map.camera_table[int(camera)].mount.inverse()
            for number, camera in zip(ids, self.place_map.cameras, strict=True)
        ]
        moves: dict[int, Pose] = {}
        for row in np.flatnonzero(self.held).tolist():
            moves.setdefault(int(self.labels[row]), self._by_map(row, by_odometry))
        links = sorted(self.closures, key=lambda one: (KINDS.index(one.kind), -self._length(one.run)))
        row_of = {number: row for row, number in enumerate(ids)}
        while link := next((one for one in links if self._joins(one, row_of, moves)), None):
            old, new = row_of[link.old], row_of[link.new]
            old_piece, new_piece = int(self.labels[old]), int(self.labels[new])
            if old_piece in moves:
                moves[new_piece] = moves[old_piece] @ by_odometry[old] @ link.pose @ by_odometry[new].inverse()
            else:
                at_old = moves[new_piece] @ by_odometry[new] @ link.pose.inverse()
                moves[old_piece] = at_old @ by_odometry[old].inverse()
        placed = [moves[int(piece)] @ pose for piece, pose in zip(self.labels, by_odometry, strict=True)]
        return np.stack([pose.position for pose in placed]), np.stack([pose.rotation.as_matrix() for pose in placed])

    def _by_map(self, row: int, by_odometry: Sequence[Pose]) -> Pose:
        return self.place_map.base_pose(row) @ by_odometry[row].inverse()

    def _length(self, run: int) -> int:
        return sum(closure.run == run for closure in self.closures)

    def _joins(self, closure: Closure, row_of: Mapping[int, int], moves: Mapping[int, Pose]) -> bool:
        """Whether a closure leads from a piece that is placed to one that is not."""
        ends = [int(self.labels[row_of[place]]) in moves for place in (closure.old, closure.new)]
        return ends[0] != ends[1]


def _rows(place_map: PlaceMap, pairs: Sequence[tuple[int, int]]) -> Rows:
    """(M, 2) rows of pairs of places."""
    return np.searchsorted(place_map.ids, np.array(pairs, np.int64).reshape(-1, 2))


def _components(pairs: Rows, count: int) -> tuple[int, Rows]:
    joined = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    found, labels = connected_components(joined, directed=False)
    return int(found), labels.astype(np.int64)
