"""Writing a map: one SQLite file, a place a transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from d2vpr_ros import __version__
from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import Pose
from d2vpr_ros.images.frame import PosedFrame
from d2vpr_ros.mapping.header import FORMAT_VERSION, Camera, MapHeader

SCHEMA = """
CREATE TABLE d2vpr_meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE sessions (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE cameras (id INTEGER PRIMARY KEY, session INTEGER NOT NULL, name TEXT NOT NULL,
  width INTEGER NOT NULL, height INTEGER NOT NULL,
  x REAL NOT NULL, y REAL NOT NULL, z REAL NOT NULL,
  qx REAL NOT NULL, qy REAL NOT NULL, qz REAL NOT NULL, qw REAL NOT NULL);
CREATE TABLE places (id INTEGER PRIMARY KEY, session INTEGER NOT NULL, camera INTEGER NOT NULL,
  stamp_ns INTEGER NOT NULL,
  x REAL NOT NULL, y REAL NOT NULL, z REAL NOT NULL,
  qx REAL NOT NULL, qy REAL NOT NULL, qz REAL NOT NULL, qw REAL NOT NULL,
  latitude REAL, longitude REAL, altitude REAL);
CREATE TABLE descriptors (place INTEGER PRIMARY KEY, descriptor BLOB NOT NULL);
CREATE TABLE pictures (place INTEGER PRIMARY KEY, jpeg BLOB NOT NULL);
"""
# Descriptors and pictures have tables of their own so that opening a map reads no JPEG.


@dataclass(eq=False)
class MapWriter:
    """Adds places to a map that `create_map` opened."""

    connection: sqlite3.Connection
    header: MapHeader
    stored: int = 0
    _cameras: dict[str, int] = field(default_factory=dict)

    def add_camera(self, camera: Camera) -> int:
        """Store a camera once; its id."""
        if camera.name not in self._cameras:
            with self.connection:
                cursor = self.connection.execute(
                    "INSERT INTO cameras VALUES (NULL, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (camera.name, camera.width, camera.height, *camera.mount.numbers),
                )
            self._cameras[camera.name] = int(cursor.lastrowid or 0)
        return self._cameras[camera.name]

    def add_place(self, place: PosedFrame, descriptor: npt.NDArray[np.float32], jpeg: bytes | None, mount: Pose) -> int:
        """Store one place, whole or not at all; its id.

        Args:
            descriptor: (D,) of unit length; kept as float16.
            jpeg: the picture for people and for verification, or None.
            mount: T_base_cameraOptical of the frame's camera.
        """
        height, width = place.frame.rgb.shape[:2]
        camera = self.add_camera(Camera(place.frame.camera, width, height, mount))
        geo = [None if value is None or np.isnan(value) else float(value) for value in place.geo or (None,) * 3]
        with self.connection:
            cursor = self.connection.execute(
                "INSERT INTO places VALUES (NULL, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (camera, place.frame.stamp_ns, *place.pose.numbers, *geo),
            )
            number = int(cursor.lastrowid or 0)
            blob = descriptor.astype("<f2").tobytes()
            self.connection.execute("INSERT INTO descriptors VALUES (?, ?)", (number, blob))
            if jpeg is not None:
                self.connection.execute("INSERT INTO pictures VALUES (?, ?)", (number, jpeg))
        self.stored += 1
        return number


@contextmanager
def create_map(path: Path, header: MapHeader, session: str) -> Iterator[MapWriter]:
    """Open a new map for writing.

    It is written in WAL mode with full synchronisation, so a killed builder loses at most the place in hand; at the
    end it becomes a single file again. If nothing was stored, nothing is left behind.

    Raises:
        UserError: the path is taken, or cannot be written.
    """
    if path.exists():
        raise UserError(f"map {path} exists already and is left as it is; choose another name or remove it")
    try:
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA journal_mode=WAL")
    except sqlite3.OperationalError as error:
        raise UserError(
            f"map {path} cannot be written ({error}); check that the folder exists and is writable"
        ) from None
    writer = MapWriter(connection, header)
    try:
        connection.execute("PRAGMA synchronous=FULL")
        connection.executescript(SCHEMA)
        with connection:
            connection.executemany("INSERT INTO d2vpr_meta VALUES (?, ?)", _meta_rows(header))
            connection.execute("INSERT INTO sessions VALUES (1, ?)", (session,))
        yield writer
    except sqlite3.OperationalError as error:
        raise UserError(
            f"map {path} could not be written on ({error}); {writer.stored} places are safe in it, free some space"
        ) from None
    finally:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.close()
        if writer.stored == 0:
            path.unlink(missing_ok=True)


def _meta_rows(header: MapHeader) -> list[tuple[str, str]]:
    model = header.model
    rows = {
        "format_version": str(FORMAT_VERSION),
        "written_by": f"d2vpr_ros {__version__}",
        "architecture": model.architecture,
        "weights_sha256": model.weights_sha256,
        "preprocessing": model.preprocessing,
        "projection": model.projection,
        "descriptor_width": str(header.descriptor_width),
        "frame": header.frame,
        "keyframe_spacing_m": repr(header.keyframe_spacing_m),
    }
    if header.origin:
        rows["origin_latitude"] = repr(header.origin.latitude)
        rows["origin_longitude"] = repr(header.origin.longitude)
        rows["origin_altitude"] = repr(header.origin.altitude)
    return list(rows.items())
