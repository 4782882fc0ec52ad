"""Writing a map: one SQLite file, a place a transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from d2vpr_ros import __version__
from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import Pose
from d2vpr_ros.mapping.database import connect, transaction
from d2vpr_ros.mapping.header import FORMAT_VERSION, Camera, MapHeader, Session
from d2vpr_ros.mapping.place_map import read_header
from d2vpr_ros.mapping.schema import CALIBRATION_KEY, IMAGE_RANGE_KEY, TABLES, layer_rows, point

_BUSY_S = 2.0


@dataclass(frozen=True, eq=False)
class NewPlace:
    """What is stored of a place.

    Attributes:
        stamp_ns: of the image.
        pose: T_map_cameraOptical.
        descriptor: (D,) float32 of unit length; kept as float16.
        jpeg: the picture, for people and for landmarks; or None.
        geo: latitude, longitude (degrees), altitude (metres above the ellipsoid, NaN if not known), or None.
        covariance: (6, 6) float64 of the pose in the map frame, in the order of geometry_msgs (x y z, turns about
            x y z), or None.
    """

    stamp_ns: int
    pose: Pose
    descriptor: npt.NDArray[np.float32]
    jpeg: bytes | None = None
    geo: tuple[float, float, float] | None = None
    covariance: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class LastPlace:
    """The newest place of one camera of a session: where an interrupted build goes on."""

    stamp_ns: int
    pose: Pose
    descriptor: npt.NDArray[np.float32]


@dataclass(eq=False)
class MapWriter:
    """Adds to a map that `create_map` or `open_writable` opened. Every call is whole on disk when it returns."""

    connection: sqlite3.Connection
    header: MapHeader
    stored: int = 0
    _cameras: dict[tuple[int, str], int] = field(default_factory=dict)

    def begin_session(self, session: Session) -> int:
        """Store a session; its id."""
        with transaction(self.connection):
            cursor = self.connection.execute(
                "INSERT INTO sessions VALUES (NULL, ?, ?, ?)", (session.name, session.source, session.complete)
            )
        return int(cursor.lastrowid or 0)

    def finish_session(self, session: int) -> None:
        """Mark a session as built to its end."""
        with transaction(self.connection):
            self.connection.execute("UPDATE sessions SET complete = 1 WHERE id = ?", (session,))

    def has_sessions(self) -> bool:
        """Whether any session was begun."""
        return self.connection.execute("SELECT 1 FROM sessions LIMIT 1").fetchone() is not None

    def find_session(self, source: str) -> tuple[int, Session] | None:
        """The session built from a recording, if the map has it."""
        row = self.connection.execute(
            "SELECT id, name, source, complete FROM sessions WHERE source = ? AND source <> ''", (source,)
        ).fetchone()
        return (int(row[0]), Session(str(row[1]), str(row[2]), bool(row[3]))) if row else None

    def last_places(self, session: int) -> dict[str, LastPlace]:
        """The newest place of each camera of a session, by the camera's name."""
        rows = self.connection.execute(
            "SELECT name, stamp_ns, p.x, p.y, p.z, p.qx, p.qy, p.qz, p.qw, descriptor, max(p.id) "
            "FROM places AS p "
            "JOIN cameras AS c ON c.id = p.camera JOIN descriptors ON place = p.id WHERE p.session = ? GROUP BY camera",
            (session,),
        )
        return {
            str(row[0]): LastPlace(int(row[1]), Pose.of(*row[2:9]), np.frombuffer(row[9], "<f2").astype(np.float32))
            for row in rows
        }

    def add_camera(self, session: int, camera: Camera) -> int:
        """Store a session's camera once; its id. One that is stored already keeps what was stored first."""
        key = (session, camera.name)
        if key not in self._cameras:
            k = None if camera.k is None else np.asarray(camera.k, "<f8").tobytes()
            numbers = (camera.distortion_model, k, np.asarray(camera.d, "<f8").tobytes(), *camera.mount.numbers)
            with transaction(self.connection):
                self.connection.execute(
                    "INSERT OR IGNORE INTO cameras VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (session, camera.name, camera.width, camera.height, *numbers),
                )
            found = self.connection.execute("SELECT id FROM cameras WHERE session = ? AND name = ?", key).fetchone()
            self._cameras[key] = int(found[0])
        return self._cameras[key]

    def add_place(self, session: int, camera: int, place: NewPlace) -> int:
        """Store one place, whole or not at all; its id.

        Raises:
            ValueError: the descriptor has another length than the map's, or a number is not finite.
        """
        descriptor = np.asarray(place.descriptor, "<f2")
        if descriptor.shape != (self.header.descriptor_width,):
            raise ValueError(f"a descriptor of shape {descriptor.shape}, not ({self.header.descriptor_width},)")
        if not (np.isfinite(descriptor).all() and np.isfinite(place.pose.numbers).all()):
            raise ValueError("a descriptor or a pose is not finite")
        row = (session, camera, iso(place.stamp_ns), place.stamp_ns, *place.pose.numbers, *self._geography(place))
        is_known = place.covariance is not None and np.isfinite(place.covariance).all()
        covariance = np.asarray(place.covariance, "<f8").tobytes() if is_known else None
        with transaction(self.connection):
            cursor = self.connection.execute(
                "INSERT INTO places VALUES (NULL, ?15, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?16, "
                "?12, ?13, ?14, ?17)",
                (*row, self._geometry(place), self.header.heading_deg(place.pose), covariance),
            )
            number = int(cursor.lastrowid or 0)
            self.connection.execute("INSERT INTO descriptors VALUES (?, ?)", (number, descriptor.tobytes()))
            if place.jpeg is not None:
                self.connection.execute("INSERT INTO pictures VALUES (?, ?)", (number, place.jpeg))
        self.stored += 1
        return number

    def set_calibration(self, name: str, weights: Mapping[str, float]) -> None:
        """Store what a localizer of this map is calibrated with, in place of all that was stored before.

        Raises:
            ValueError: a weight is not finite.
        """
        row = (f"{CALIBRATION_KEY}{name}", json.dumps(dict(weights), allow_nan=False))
        with transaction(self.connection):
            self.connection.execute("DELETE FROM d2vpr_meta WHERE key GLOB ?", (f"{CALIBRATION_KEY}*",))
            self.connection.execute("INSERT OR REPLACE INTO d2vpr_meta VALUES (?, ?)", row)

    def checkpoint(self) -> None:
        """Fold the log into the map file, so that a copy of that one file has every place."""
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def set_extent(self) -> None:
        """Tell readers of the layer how far its points reach; done at the end of writing, too."""
        x, y = ("longitude", "latitude") if self.header.geo_tagged else ("x", "y")
        self.connection.execute(
            "UPDATE gpkg_contents SET last_change = strftime('%Y-%m-%dT%H:%M:%fZ','now'), "
            f"(min_x, min_y, max_x, max_y) = (SELECT min({x}), min({y}), max({x}), max({y}) FROM places) "
            "WHERE table_name = 'places'"
        )

    def _geography(self, place: NewPlace) -> list[float | None]:
        """Latitude, longitude, altitude; from the map's own origin where the place brings none."""
        geo = place.geo
        if geo is None and self.header.origin is not None:
            latitude, longitude, altitude = self.header.origin.to_geo(place.pose.position[None])[0]
            geo = (latitude, longitude, altitude)
        return [None if value is None or not np.isfinite(value) else float(value) for value in geo or (None,) * 3]

    def _geometry(self, place: NewPlace) -> bytes | None:
        if not self.header.geo_tagged:
            return point(float(place.pose.position[0]), float(place.pose.position[1]), geo_tagged=False)
        latitude, longitude, _ = self._geography(place)
        return None if latitude is None or longitude is None else point(longitude, latitude, geo_tagged=True)


@contextmanager
def create_map(path: Path, header: MapHeader) -> Iterator[MapWriter]:
    """Open a new map for writing.

    It is written in WAL mode with full synchronisation, so a killed builder loses at most the place in hand; at the
    end it becomes a single file again. If nothing was stored, nothing is left behind.

    Raises:
        UserError: the path is taken, or cannot be written.
    """
    if path.exists() and not is_blank(path):
        raise UserError(f"map {path} exists already; choose another name or remove it")
    log_file = path.with_name(path.name + "-wal")
    if log_file.exists() and not path.exists():
        raise UserError(f"{log_file} belongs to the map {path.name}, which is missing; restore it, or remove the log")
    with _writing(path, header) as writer:
        try:
            # Not executescript, which commits one by one: a kill would leave half a schema.
            with transaction(writer.connection):
                for statement in TABLES.split(";\n"):
                    writer.connection.execute(statement)
                for statement, values in layer_rows(header.geo_tagged):
                    writer.connection.execute(statement, values)
                writer.connection.executemany("INSERT INTO d2vpr_meta VALUES (?, ?)", _meta_rows(header))
            yield writer
        finally:
            empty = writer.stored == 0
    if empty:
        path.unlink(missing_ok=True)


@contextmanager
def open_writable(path: Path) -> Iterator[MapWriter]:
    """Open a map that is there, to add to it; what a killed builder left is recovered.

    Raises:
        UserError: it is no map of this format, or cannot be written.
    """
    with connect(path) as reading:
        header = read_header(path, reading)
    with _writing(path, header) as writer:
        yield writer


@contextmanager
def _writing(path: Path, header: MapHeader) -> Iterator[MapWriter]:
    try:
        # A builder stores on a thread of its own; it sees to it that no other writes at the same time.
        connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
    except sqlite3.DatabaseError as error:
        raise UserError(
            f"map {path} cannot be written ({error}); check that the folder exists and is writable, that the disk has "
            "space, and that no other builder writes to it"
        ) from None
    writer = MapWriter(connection, header)
    try:
        yield writer
    except sqlite3.OperationalError as error:
        raise UserError(
            f"map {path} could not be written any more ({error}); stored places are safe ({writer.stored} new "
            "places): free some space, then run the same command again to continue"
        ) from None
    finally:
        # On a full disk this fails too, and the log stays beside the file: nothing is lost, the next writer goes on.
        with suppress(sqlite3.OperationalError):
            if writer.stored:
                writer.set_extent()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute("PRAGMA journal_mode=DELETE")
        connection.close()


def is_blank(path: Path) -> bool:
    """Whether a file is what a builder leaves that was killed before its map had any table."""
    try:
        connection = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True)
        try:
            return connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
        finally:
            connection.close()
    except sqlite3.DatabaseError:
        return False


def iso(stamp_ns: int) -> str:
    """The time as GeoPackage writes it: UTC, milliseconds."""
    moment = datetime.fromtimestamp(stamp_ns // 1_000_000_000, tz=timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{stamp_ns // 1_000_000 % 1000:03d}Z"


def _meta_rows(header: MapHeader) -> list[tuple[str, str]]:
    model = header.model
    rows = {
        "format_version": str(FORMAT_VERSION),
        "written_by": f"d2vpr_ros {__version__}",
        "architecture": model.architecture,
        "weights_sha256": model.weights_sha256,
        "preprocessing": model.preprocessing,
        "projection": model.projection,
        "projection_fitted_on": model.projection_fitted_on,
        "descriptor_width": str(header.descriptor_width),
        "frame": header.frame,
        "keyframe_spacing_m": repr(header.keyframe_spacing_m),
        "geo_tagged": str(int(header.geo_tagged)),
        "metric": str(int(header.metric)),
    }
    if header.origin:
        rows["origin_latitude"] = repr(header.origin.latitude)
        rows["origin_longitude"] = repr(header.origin.longitude)
        rows["origin_altitude"] = repr(header.origin.altitude)
    if header.image_range:
        rows[IMAGE_RANGE_KEY] = "{} {}".format(*header.image_range)
    return list(rows.items())
