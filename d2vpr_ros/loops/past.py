"""All places so far, with the poses that odometry gave them, and which of them an image resembles."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from d2vpr_ros.geometry import Array, Pose, distance
from d2vpr_ros.localize.evidence import Background
from d2vpr_ros.localize.odometry import MotionBuffer
from d2vpr_ros.loops.params import DEFAULT_PARAMS, LoopParams
from d2vpr_ros.mapping import Camera, MapHeader, PlaceMap, Session
from d2vpr_ros.mapping.index import Index

_APART_M = 1e7  # added to the way where the odometry begins anew: nothing is near across that
_BACKGROUND = 1000  # places that tell how similar an image is to places elsewhere
_STEPS = 500  # last steps that tell how far apart places are
_FIRST_ROWS = 256
_COLUMNS: tuple[tuple[str, tuple[int, ...], type], ...] = (
    ("ids", (), np.int64),
    ("sessions", (), np.int64),
    ("cameras", (), np.int64),
    ("stamps_ns", (), np.int64),
    ("positions", (3,), np.float64),
    ("quaternions", (4,), np.float64),
    ("way", (), np.float64),
)


@dataclass(frozen=True, eq=False)
class Place:
    """A place as it is stored.

    Attributes:
        id: in the map.
        session: number of its session; poses of two sessions have no frame in common.
        camera_id, camera: what saw it.
        stamp_ns: of the image.
        pose: T_odom_cameraOptical, as odometry has it.
        descriptor: (D,) float32 of unit length.
        covariance: (6, 6) of the pose in its frame, in the order of geometry_msgs, as odometry states it, or None.
    """

    id: int
    session: int
    camera_id: int
    camera: Camera
    stamp_ns: int
    pose: Pose
    descriptor: npt.NDArray[np.float32]
    covariance: Array | None = None

    @property
    def base(self) -> Pose:
        """T_odom_base."""
        return self.pose @ self.camera.mount.inverse()


@dataclass(frozen=True, eq=False)
class Candidates:
    """Past places that an image resembles.

    Attributes:
        rows: the most similar first.
        similarities: (K,) cosines.
        z: by how many standard deviations the first stands out from what the image resembles elsewhere.
    """

    rows: npt.NDArray[np.int64]
    similarities: npt.NDArray[np.float32]
    z: float


class Past:
    """Grows by one row a place. A place can be found once the robot has gone `least_way_spacings` since, or once the
    odometry began anew, such as with the next session.

    Attributes:
        places: by row.
        begins: by row, whether the odometry began anew there: no step leads to it from the row before.
    """

    def __init__(self, path: Path, header: MapHeader, params: LoopParams = DEFAULT_PARAMS) -> None:
        """
        Args:
            path: of the map file, which holds the pictures.
            header: of that map.
        """
        self.path, self.header, self.params = path, header, params
        self.places: list[Place] = []
        self.begins: list[bool] = []
        self._columns: dict[str, npt.NDArray[Any]] = {
            name: np.empty((_FIRST_ROWS, *shape), kind)
            for name, shape, kind in (*_COLUMNS, ("descriptors", (header.descriptor_width,), np.float32))
        }
        self._sessions: dict[int, Session] = {}
        self._cameras: dict[int, Camera] = {}
        self._index: Index | None = None
        self._motion = MotionBuffer()
        self._steps_m: deque[float] = deque(maxlen=_STEPS)

    def __len__(self) -> int:
        return len(self.places)

    @property
    def way(self) -> Array:
        """(N,) metres along the drives at each place; where the odometry begins anew it goes on far beyond."""
        return self._columns["way"][: len(self)]

    @property
    def spacing_m(self) -> float:
        """How far apart places really are, metres: the median of the last steps, at least what was asked for. A robot
        that takes few images a second is faster than that."""
        asked_m = self.header.keyframe_spacing_m
        return max(asked_m, float(np.median(self._steps_m))) if self._steps_m else asked_m

    @property
    def positions(self) -> Array:
        """(N, 3) of the cameras, in the frames of their odometries."""
        return self._columns["positions"][: len(self)]

    @property
    def findable(self) -> int:
        """So many first rows can be found."""
        return 0 if self._index is None else int(self._index.searcher.ntotal)

    def add(self, place: Place) -> int:
        """Take a place; its row."""
        row, before = len(self.places), self.places[-1] if self.places else None
        begins = self._begins(place, before)
        step_m = 0.0 if before is None else _APART_M if begins else distance(before.base, place.base)
        if step_m and not begins:
            self._steps_m.append(step_m)
        way = step_m + (float(self.way[-1]) if row else 0.0)
        self.places.append(place)
        self.begins.append(begins)
        self._sessions.setdefault(place.session, Session(""))
        self._cameras.setdefault(place.camera_id, place.camera)
        self._write(
            row,
            ids=place.id, sessions=place.session, cameras=place.camera_id, stamps_ns=place.stamp_ns,
            positions=place.pose.position, quaternions=place.pose.quaternion, descriptors=place.descriptor, way=way,
        )  # fmt: skip
        self._let_find(way - self.params.least_way_spacings * self.header.keyframe_spacing_m)
        return row

    def candidates(self, descriptor: npt.NDArray[np.float32]) -> Candidates | None:
        """The past places that an image resembles most; None while there is no past."""
        if self._index is None:
            return None
        similarities, rows = self._index.search(descriptor[None], self.params.candidates)
        best = int(rows[0, 0])
        sample = slice(0, self.findable, max(1, self.findable // _BACKGROUND))
        near_m = self.params.own_spacings * self.header.keyframe_spacing_m
        background = Background(self._columns["descriptors"][sample], self.positions[sample], near_m)
        mean, deviation = background.of_image(descriptor, self.positions[best])
        return Candidates(rows[0], similarities[0], (float(similarities[0, 0]) - mean) / deviation)

    def map(self) -> PlaceMap:
        """All places so far as a map with the poses of odometry; pictures are read from the file."""
        count = len(self)
        columns = {name: column[:count] for name, column in self._columns.items() if name != "way"}
        geo = np.broadcast_to(np.nan, (count, 3))
        return PlaceMap(self.path, self.header, self._sessions, self._cameras, geo=geo, **columns)

    def _begins(self, place: Place, before: Place | None) -> bool:
        """Whether the odometry begins anew with a place."""
        if before is None or place.session != before.session:
            self._motion = MotionBuffer()
        epoch = self._motion.epoch
        self._motion.add(place.stamp_ns, place.base)
        return before is None or place.session != before.session or self._motion.epoch != epoch

    def _write(self, row: int, **values: object) -> None:
        if row == len(self._columns["way"]):
            self._columns = {name: np.concatenate([old, np.empty_like(old)]) for name, old in self._columns.items()}
        for name, value in values.items():
            self._columns[name][row] = value

    def _let_find(self, up_to_m: float) -> None:
        """Put the places with a way up to that into the index."""
        first, last = self.findable, int(np.searchsorted(self.way, up_to_m, side="right"))
        if last <= first:
            return
        descriptors = self._columns["descriptors"][first:last]
        if self._index is None:
            self._index = Index.of(descriptors)
        else:
            self._index.add(descriptors)
