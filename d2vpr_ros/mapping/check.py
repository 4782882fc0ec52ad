"""Go through a map file row by row and say what is wrong with it. Nothing is written."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from d2vpr_ros.bags.gps import is_jump, is_null_island
from d2vpr_ros.mapping.check_row import Context, StoredPlace, camera_problems, place_problems, session_problems
from d2vpr_ros.mapping.database import connect
from d2vpr_ros.mapping.header import MapHeader
from d2vpr_ros.mapping.landmark_table import blob_problem, has_landmarks, read_blob, stored_note
from d2vpr_ros.mapping.loop_table import LOOP_TABLES, has_table, problems
from d2vpr_ros.mapping.place_map import MAX_JPEG, read_header
from d2vpr_ros.mapping.schema import APPLICATION_ID, CARTESIAN, LANDMARKS_TABLE, TABLES, USER_VERSION, WGS84
from d2vpr_ros.mapping.store import open_writable

_CHUNK = 500
_FARTHEST_M = 1e8


@dataclass(frozen=True)
class Problem:
    """What is wrong, in words; with the id of the place if it is one's."""

    text: str
    place: int | None = None

    def __str__(self) -> str:
        return self.text if self.place is None else f"place {self.place}: {self.text}"


@dataclass(frozen=True)
class Checked:
    """How much was looked at."""

    places: int
    pictures: int


def recover_log(path: Path) -> bool:
    """Fold what a killed writer left beside a map into it; whether there was anything.

    Raises:
        UserError: it is no map, or cannot be written.
    """
    log_file = path.with_name(path.name + "-wal")
    if not path.is_file() or not log_file.exists():
        return False
    with open_writable(path) as writer:
        writer.set_extent()
    return not log_file.exists()


def check_map(
    path: Path, report: Callable[[Problem], object], on_place: Callable[[], object] = lambda: None
) -> Checked:
    """Check every table and row of a map; every problem is reported as it is found.

    Raises:
        UserError: it cannot be checked: no such file, no map, another format, a header that cannot be read.
    """
    places = pictures = 0

    def readable(what: str, stage: Iterator[Problem]) -> None:
        try:
            for problem in stage:
                report(problem)
        except sqlite3.DatabaseError as error:
            report(Problem(f"{what} cannot be read any further ({error})"))

    with connect(path) as connection:
        header = read_header(path, connection)
        readable("the file's pages", _pages(connection))
        readable("the schema", _schema(connection))
        readable("the GeoPackage's tables", _geopackage(connection, header))
        context = Context(header, _sessions_of_cameras(connection), _ids(connection, "sessions"))
        readable("sessions or cameras", _sessions_and_cameras(connection, context))

        def rows() -> Iterator[Problem]:
            nonlocal places, pictures
            ids = iter(connection.execute("SELECT id FROM places ORDER BY id"))
            while numbers := [int(number) for (number,) in islice(ids, _CHUNK)]:
                chunk, unreadable = _read(connection, numbers)
                yield from unreadable
                for place, texts in zip(chunk, place_problems(chunk, context), strict=True):
                    yield from (Problem(text, place.id) for text in texts)
                    places += 1
                    pictures += place.jpeg_bytes is not None
                    on_place()

        readable("places", rows())
        readable("places", _impossible_places(connection, header))
        readable("descriptors or pictures", _strays(connection))
        if has_landmarks(connection):
            readable("landmarks", _landmarks(connection))
        readable("odometry or closures", (Problem(text, place) for text, place in problems(connection)))
        if not places:
            report(Problem("the map holds no places"))
    return Checked(places, pictures)


# A picture too large to be one is not even read.
_PLACES = """
SELECT id, geom, session, camera, stamp, stamp_ns, x, y, z, qx, qy, qz, qw, heading, latitude, longitude, altitude,
  covariance, descriptor, CASE WHEN length(jpeg) <= ? THEN jpeg END, length(jpeg)
FROM places LEFT JOIN descriptors ON descriptors.place = id LEFT JOIN pictures ON pictures.place = id
WHERE id BETWEEN ? AND ? ORDER BY id
"""


def _read(connection: sqlite3.Connection, numbers: Sequence[int]) -> tuple[list[StoredPlace], list[Problem]]:
    """Some places that follow each other, and those of them that lie on damaged pages."""
    try:
        rows = connection.execute(_PLACES, (MAX_JPEG, numbers[0], numbers[-1]))
        return [StoredPlace(*row) for row in rows], []
    except sqlite3.DatabaseError as error:
        if len(numbers) == 1:
            return [], [Problem(f"cannot be read ({error})", numbers[0])]
    read = [_read(connection, [number]) for number in numbers]
    return [place for places, _ in read for place in places], [problem for _, found in read for problem in found]


def _pages(connection: sqlite3.Connection) -> Iterator[Problem]:
    for (text,) in connection.execute("PRAGMA integrity_check"):
        if text != "ok":
            yield Problem(f"the file is damaged: {' '.join(str(text).split())}")


def _schema(connection: sqlite3.Connection) -> Iterator[Problem]:
    """Tables are as they are made, and nothing is there that would act when the map is written."""
    with closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(TABLES)
        if has_landmarks(connection):
            fresh.execute(LANDMARKS_TABLE)
        for name, table in LOOP_TABLES.items():
            if has_table(connection, name):
                fresh.execute(table)
        expected = _definitions(fresh)
    found = _definitions(connection)
    for name, definition in expected.items():
        if found.get(name) != definition:
            yield Problem(f"table {name} is {'not as it should be' if name in found else 'missing'}")
    for kind, name in connection.execute("SELECT type, name FROM sqlite_schema WHERE type IN ('trigger', 'view')"):
        yield Problem(f"the {kind} {name!r} is not part of a d2vpr map and may change added places")


def _definitions(connection: sqlite3.Connection) -> Mapping[str, str]:
    rows = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    return {str(name): " ".join(str(sql).split()) for name, sql in rows}


def _geopackage(connection: sqlite3.Connection, header: MapHeader) -> Iterator[Problem]:
    for pragma, expected in (("application_id", APPLICATION_ID), ("user_version", USER_VERSION)):
        (found,) = connection.execute(f"PRAGMA {pragma}").fetchone()
        if found != expected:
            yield Problem(f"{pragma} is {found}, {expected} for a GeoPackage 1.3")
    srs = WGS84 if header.geo_tagged else CARTESIAN
    systems = {row[0] for row in connection.execute("SELECT srs_id FROM gpkg_spatial_ref_sys")}
    if not {CARTESIAN, 0, WGS84} <= systems:
        yield Problem("gpkg_spatial_ref_sys lacks one of the systems -1, 0 and 4326")
    contents = connection.execute("SELECT table_name, data_type, srs_id FROM gpkg_contents").fetchall()
    for row in (("places", "features", srs), ("sessions", "attributes", None)):
        if row not in contents:
            yield Problem(f"gpkg_contents does not have {row[0]} as {row[1]}" + (f" in system {srs}" if row[2] else ""))
    columns = connection.execute("SELECT * FROM gpkg_geometry_columns").fetchall()
    if columns != [("places", "geom", "POINT", srs, 0, 0)]:
        yield Problem(f"gpkg_geometry_columns does not have places.geom, and it alone, as points in system {srs}")
    yield from _extent(connection, header)


def _extent(connection: sqlite3.Connection, header: MapHeader) -> Iterator[Problem]:
    x, y = ("longitude", "latitude") if header.geo_tagged else ("x", "y")
    row = connection.execute(
        "SELECT min_x, min_y, max_x, max_y FROM gpkg_contents WHERE table_name = 'places'"
    ).fetchone()
    true = connection.execute(f"SELECT min({x}), min({y}), max({x}), max({y}) FROM places").fetchone()
    if row and None not in row and row != true:
        yield Problem(f"gpkg_contents gives the extent {row}, the places have {true}")


def _sessions_and_cameras(connection: sqlite3.Connection, context: Context) -> Iterator[Problem]:
    for number, *row in connection.execute("SELECT id, name, source, complete FROM sessions"):
        yield from (Problem(f"session {number}: {text}") for text in session_problems(*row))
    columns = "id, session, name, width, height, distortion_model, k, d, x, y, z, qx, qy, qz, qw"
    for number, *row in connection.execute(f"SELECT {columns} FROM cameras"):
        yield from (Problem(f"camera {number}: {text}") for text in camera_problems(row, context))


def _sessions_of_cameras(connection: sqlite3.Connection) -> dict[int, object]:
    return dict(connection.execute("SELECT id, session FROM cameras"))


def _ids(connection: sqlite3.Connection, table: str) -> frozenset[int]:
    return frozenset(row[0] for row in connection.execute(f"SELECT id FROM {table}"))


def _impossible_places(connection: sqlite3.Connection, header: MapHeader) -> Iterator[Problem]:
    """Frames and steps that a broken receiver or a SLAM system that failed leaves behind."""
    cure = "build the map again: impossible fixes are left out now"
    if header.origin is not None and is_null_island(header.origin.latitude, header.origin.longitude):
        yield Problem(f"the origin of the map is 0 N 0 E, sent by receivers without a fix; {cure}")
    if not header.metric:
        return
    rows = connection.execute("SELECT id, session, camera, stamp_ns, x, y, z FROM places ORDER BY session, camera, id")
    before: tuple[Any, ...] | None = None
    for row in rows:
        if before is not None and row[1:3] == before[1:3] and all(isinstance(v, int | float) for v in row + before):
            metres, seconds = math.dist(before[4:], row[4:]), (row[3] - before[3]) * 1e-9
            if metres < _FARTHEST_M and is_jump(metres, seconds):  # what is no pose at all is said elsewhere
                text = f"is {metres:.0f} m from place {before[0]}, {abs(seconds):.2f} s later: too fast for a vehicle"
                yield Problem(f"{text}; {cure}" if header.origin else text, int(row[0]))
        before = row


def _strays(connection: sqlite3.Connection) -> Iterator[Problem]:
    tables = ("descriptors", "pictures", *(("landmarks",) if has_landmarks(connection) else ()))
    for table in tables:
        rows = connection.execute(f"SELECT place FROM {table} WHERE place NOT IN (SELECT id FROM places)")
        yield from (Problem(f"{table} has a row for it, but the place is missing", int(place)) for (place,) in rows)


def _landmarks(connection: sqlite3.Connection) -> Iterator[Problem]:
    if not stored_note(connection):
        yield Problem("d2vpr_meta does not say what its landmarks were made with")
    for (number,) in connection.execute("SELECT place FROM landmarks ORDER BY place").fetchall():
        if text := blob_problem(read_blob(connection, number)):
            yield Problem(text, int(number))
