"""Reading a map: a file from a stranger, opened read-only and checked before it is used."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from d2vpr_ros.bags.covariance import usable
from d2vpr_ros.describe import ModelIdentity
from d2vpr_ros.errors import UserError
from d2vpr_ros.geodesy import LocalFrame
from d2vpr_ros.geometry import Pose
from d2vpr_ros.images.deep import check_range
from d2vpr_ros.mapping.database import connect
from d2vpr_ros.mapping.header import FORMAT_VERSION, Camera, MapHeader, Session
from d2vpr_ros.mapping.schema import APPLICATION_ID, CALIBRATION_KEY, IMAGE_RANGE_KEY

_MAX_DESCRIPTOR = 65536
_AT_ONE_SPOT_M = 1e-3
_AT_ONCE = 1024  # descriptors
MAX_JPEG = 4 * 1024 * 1024


@dataclass(frozen=True, eq=False)
class PlaceMap:
    """All places of a map in memory (pictures stay in the file). Rows are in the order of the ids.

    Attributes:
        ids: (N,) int64 place ids.
        sessions, cameras: (N,) int64, keys of `session_table` and `camera_table`.
        stamps_ns: (N,) int64.
        positions, quaternions: (N, 3), (N, 4) float64: T_map_cameraOptical, metres, (x, y, z, w).
        geo: (N, 3) float64 latitude, longitude (degrees), altitude (metres above the ellipsoid); NaN where unknown.
        descriptors: (N, D) float32, unit length.
    """

    path: Path
    header: MapHeader
    session_table: Mapping[int, Session]
    camera_table: Mapping[int, Camera]
    ids: npt.NDArray[np.int64]
    sessions: npt.NDArray[np.int64]
    cameras: npt.NDArray[np.int64]
    stamps_ns: npt.NDArray[np.int64]
    positions: npt.NDArray[np.float64]
    quaternions: npt.NDArray[np.float64]
    geo: npt.NDArray[np.float64]
    descriptors: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def steps(self) -> npt.NDArray[np.int64]:
        """(M, 2) pairs of rows that follow each other in one camera's images of one session."""
        order = np.lexsort((self.ids, self.cameras, self.sessions))
        before, after = order[:-1], order[1:]
        same = (self.sessions[before] == self.sessions[after]) & (self.cameras[before] == self.cameras[after])
        return np.column_stack([before[same], after[same]])

    @cached_property
    def spacing_m(self) -> float:
        """How far apart neighbouring places really are: the median distance along the drives, metres.

        Places at one spot, where a robot turned or stood, have no distance and do not count; a map that has only such
        ones has the spacing it was built with, so that it is never 0.
        """
        lengths = np.linalg.norm(self.positions[self.steps[:, 1]] - self.positions[self.steps[:, 0]], axis=1)
        apart = lengths[lengths >= _AT_ONE_SPOT_M]
        return float(np.median(apart)) if len(apart) else self.header.keyframe_spacing_m

    @cached_property
    def interval_s(self) -> float:
        """How long it took from one place to the next: the median along the drives, seconds."""
        before, after = self.steps.T
        seconds = np.abs(self.stamps_ns[after] - self.stamps_ns[before]) * 1e-9
        return max(float(np.median(seconds)), 1e-3) if len(seconds) else 1.0

    def camera_pose(self, row: int) -> Pose:
        """T_map_cameraOptical of a place."""
        return Pose(self.positions[row], self.quaternions[row])

    def mount(self, row: int) -> Pose:
        """T_base_cameraOptical of the camera that saw a place."""
        return self.camera_table[int(self.cameras[row])].mount

    def base_pose(self, row: int, mount: Pose | None = None) -> Pose:
        """T_map_base of a robot whose camera stands where the place's stood.

        Args:
            mount: the robot's T_base_cameraOptical; None takes that of the camera which saw the place. In a map without
                metres it plays no part.
        """
        if not self.header.metric:
            return self.camera_pose(row)
        return self.camera_pose(row) @ (mount or self.mount(row)).inverse()

    def base_poses(self, mount: Pose | None = None) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """`base_pose` of all places at once, as (N, 3) positions and (N, 3, 3) rotations."""
        turned = Rotation.from_quat(self.quaternions)
        positions, rotations = self.positions.copy(), turned.as_matrix()
        if self.header.metric:
            for camera in np.unique(self.cameras):
                rows = self.cameras == camera
                back = (mount or self.camera_table[int(camera)].mount).inverse()
                positions[rows] += turned[rows].apply(back.position)
                rotations[rows] = (turned[rows] * back.rotation).as_matrix()
        return positions, rotations

    def picture(self, row: int) -> bytes | None:
        """The stored JPEG of a place, or None."""
        with connect(self.path) as connection:
            found = connection.execute("SELECT jpeg FROM pictures WHERE place = ?", (int(self.ids[row]),)).fetchone()
        return found[0] if found and isinstance(found[0], bytes) and len(found[0]) <= MAX_JPEG else None

    def picture_sizes(self) -> npt.NDArray[np.int64]:
        """(N,) bytes of each place's picture; 0 where there is none."""
        sizes = np.zeros(len(self), np.int64)
        with connect(self.path) as connection:
            found = connection.execute("SELECT place, length(jpeg) FROM pictures WHERE typeof(jpeg) = 'blob'")
            places, lengths = np.array(found.fetchall(), np.int64).reshape(-1, 2).T
        known = np.isin(places, self.ids) & (lengths <= MAX_JPEG)
        sizes[np.searchsorted(self.ids, places[known])] = lengths[known]
        return sizes

    @cached_property
    def covariances(self) -> npt.NDArray[np.float32]:
        """(N, 6, 6) of the places' poses (of the camera) in the map frame, in the order of geometry_msgs; NaN where not
        known. Read from the file when first asked for."""
        found = np.full((len(self), 6, 6), np.nan, np.float32)
        with connect(self.path) as connection:
            known = connection.execute(
                "SELECT id, covariance FROM places WHERE length(covariance) = 288 AND id BETWEEN ? AND ?",
                (int(self.ids[0]), int(self.ids[-1])),
            )
            for number, stored in known:
                row = int(np.searchsorted(self.ids, number))
                if row < len(self) and self.ids[row] == number and isinstance(stored, bytes):
                    found[row] = np.frombuffer(stored, "<f8").reshape(6, 6)
        return found

    def covariance(self, row: int) -> npt.NDArray[np.float64] | None:
        """(6, 6) of a place's pose in the map frame, in the order of geometry_msgs; None where not known, or where
        what is stored is no covariance."""
        return usable(self.covariances[row])


def read_map(path: str | Path) -> PlaceMap:
    """Open a map read-only.

    Raises:
        UserError: no such file, not a map, a newer format, damaged, or without places.
    """
    path = Path(path).expanduser()
    with connect(path) as connection:
        found = _read(path, connection)
    if found is None:
        raise UserError(f"map {path} holds no places; build it again from a drive with images and poses")
    return found


def read_new_places(path: Path, after: int) -> PlaceMap | None:
    """The places of a map that is being built whose ids are above `after`; None if there are none.

    Raises:
        UserError: as `read_map`.
    """
    with connect(path) as connection:
        return _read(path, connection, after)


def check_model(place_map: PlaceMap, model: ModelIdentity) -> None:
    """Raise UserError if the map was made by another model than the one at hand."""
    differences = place_map.header.model.differences(model)
    if differences:
        raise UserError(
            f"map {place_map.path} was made by another model than the one in use ({differences}); "
            "use the weights and the projection it was made with, or build the map again"
        )


def read_header(path: Path, connection: sqlite3.Connection) -> MapHeader:
    """What an open map says about itself.

    Raises:
        UserError: it is not a map, or of another format.
    """
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if not {"d2vpr_meta", "places", "descriptors", "cameras", "sessions"} <= tables:
        is_other_layer = connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
        kind = "a GeoPackage" if is_other_layer else "an SQLite file"
        raise UserError(f"{path} is {kind} but not a d2vpr map; build one with: d2vpr map build BAG -o NAME.d2map")
    return _header(path, dict(connection.execute("SELECT key, value FROM d2vpr_meta")))


def _read(path: Path, connection: sqlite3.Connection, after: int = -(2**63)) -> PlaceMap | None:
    header = read_header(path, connection)
    sessions = {
        int(row[0]): Session(str(row[1]), str(row[2]), bool(row[3]))
        for row in connection.execute("SELECT id, name, source, complete FROM sessions")
    }
    columns = "id, name, width, height, distortion_model, k, d, x, y, z, qx, qy, qz, qw"
    cameras = {int(row[0]): _camera(path, row[1:]) for row in connection.execute(f"SELECT {columns} FROM cameras")}
    rows = connection.execute(
        "SELECT id, session, camera, stamp_ns, x, y, z, qx, qy, qz, qw, latitude, longitude, altitude, descriptor "
        "FROM places JOIN descriptors ON place = id WHERE id > ? ORDER BY id",
        (after,),
    ).fetchall()
    if not rows:
        return None
    if any(row[1] not in sessions or row[2] not in cameras for row in rows):
        raise UserError(f"map {path} is damaged (the session or camera of a place is missing); build it again")
    numbers = np.array([row[4:14] for row in rows], dtype=np.float64)  # NULL becomes NaN
    if not np.isfinite(numbers[:, :7]).all() or (np.linalg.norm(numbers[:, 3:7], axis=1) < 1e-6).any():
        raise UserError(f"map {path} is damaged (a place has no valid pose); build it again")
    whole = np.array([row[:4] for row in rows], dtype=np.int64)
    return PlaceMap(
        path=path,
        header=header,
        session_table=sessions,
        camera_table=cameras,
        ids=whole[:, 0].copy(),
        sessions=whole[:, 1].copy(),
        cameras=whole[:, 2].copy(),
        stamps_ns=whole[:, 3].copy(),
        positions=numbers[:, :3],
        quaternions=numbers[:, 3:7] / np.linalg.norm(numbers[:, 3:7], axis=1, keepdims=True),
        geo=numbers[:, 7:],
        descriptors=_descriptors(path, [row[14] for row in rows], header.descriptor_width),
    )


def _descriptors(path: Path, blobs: list[object], width: int) -> npt.NDArray[np.float32]:
    if not all(isinstance(blob, bytes) and len(blob) == 2 * width for blob in blobs):
        raise UserError(f"map {path} is damaged (a descriptor is not {width} numbers long); build it again")
    descriptors = np.empty((len(blobs), width), np.float32)
    # A part at a time: a large map would need several times its size for what lies between the steps.
    for first in range(0, len(blobs), _AT_ONCE):
        part = descriptors[first : first + _AT_ONCE]
        joined = b"".join(blob for blob in blobs[first : first + _AT_ONCE] if isinstance(blob, bytes))
        part[:] = np.frombuffer(joined, dtype="<f2").reshape(part.shape)
        norms = np.linalg.norm(part, axis=1, keepdims=True)  # float16 rounded them
        if not np.isfinite(norms).all() or (norms < 1e-3).any():
            raise UserError(f"map {path} is damaged (a descriptor has no length); build it again")
        part /= norms
    return descriptors


def _header(path: Path, meta: Mapping[str, str]) -> MapHeader:
    try:
        version = int(meta["format_version"])
        if version != FORMAT_VERSION:
            raise UserError(
                f"map {path} has format {version} and this d2vpr_ros reads {FORMAT_VERSION}; "
                + ("update d2vpr_ros" if version > FORMAT_VERSION else "build the map again")
            )
        named = ("architecture", "weights_sha256", "preprocessing", "projection", "projection_fitted_on")
        model = ModelIdentity(*(meta[key] for key in named))
        width, spacing = int(meta["descriptor_width"]), float(meta["keyframe_spacing_m"])
        if not (0 < width <= _MAX_DESCRIPTOR and 0 < spacing < 1e6):
            raise ValueError("a size out of bounds")
        origin = None
        if "origin_latitude" in meta:
            origin = LocalFrame(*(float(meta[f"origin_{part}"]) for part in ("latitude", "longitude", "altitude")))
        tagged, metric = meta["geo_tagged"] == "1", meta["metric"] == "1"
        image_range = None
        if IMAGE_RANGE_KEY in meta:
            low, high = (int(value) for value in meta[IMAGE_RANGE_KEY].split())
            image_range = check_range((low, high), IMAGE_RANGE_KEY)
        known = spacing, origin, tagged, metric, _calibrations(meta), image_range
        return MapHeader(model, width, meta["frame"], *known)
    except (KeyError, AttributeError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"map {path} has a damaged header ({error}); build it again") from None


def _calibrations(meta: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Weights by name, by the calibration's name.

    Raises:
        ValueError: something else is written there.
    """
    found = {}
    for key in (key for key in meta if str(key).startswith(CALIBRATION_KEY)):
        weights = json.loads(meta[key], parse_int=float)
        numbers = weights.values() if isinstance(weights, dict) else [None]
        if not all(isinstance(number, float) and math.isfinite(number) for number in numbers):
            raise ValueError(f"{key} holds no weights")
        found[key.removeprefix(CALIBRATION_KEY)] = weights
    return found


def _camera(path: Path, row: tuple[Any, ...]) -> Camera:
    name, width, height, distortion_model, k, d, *mount = row
    try:
        matrix = None if k is None else tuple(np.frombuffer(k, "<f8").tolist())
        distortion = tuple(np.frombuffer(d or b"", "<f8").tolist())
        if matrix is not None and len(matrix) != 9:
            raise ValueError("K has not nine numbers")
        return Camera(str(name), int(width), int(height), Pose.of(*mount), matrix, str(distortion_model), distortion)
    except (ValueError, TypeError) as error:
        raise UserError(f"map {path} is damaged (camera {name!r}: {error}); build it again") from None
