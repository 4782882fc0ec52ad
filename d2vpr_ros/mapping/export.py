"""A map's places for other programs: GeoJSON, CSV, TUM, and as the GeoPackage that it is."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import numpy as np
import numpy.typing as npt

from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import Pose
from d2vpr_ros.mapping.database import connect
from d2vpr_ros.mapping.place_map import PlaceMap
from d2vpr_ros.mapping.store import iso

CSV_COLUMNS = (
    "filename", "timestamp", "x", "y", "z", "qx", "qy", "qz", "qw", "lat", "lon", "alt", "place", "session", "camera",
)  # fmt: skip
"""Those of the table of poses that maps and bags are built with, then labels."""

Rows = npt.NDArray[np.int64]


def choose_rows(place_map: PlaceMap, sessions: Sequence[str], cameras: Sequence[str]) -> Rows:
    """The rows of these sessions (names, or their numbers in the map) and cameras (names); of all where none is named.

    Raises:
        UserError: the map has no such session or camera, or no place of both.
    """
    chosen = np.ones(len(place_map), dtype=bool)
    if sessions:
        chosen &= np.isin(place_map.sessions, sessions_named(place_map, "session", sessions))
    if cameras:
        called = {key: (camera.name,) for key, camera in place_map.camera_table.items()}
        chosen &= np.isin(place_map.cameras, _matching(place_map, "camera", "camera", cameras, called))
    if not chosen.any():
        raise UserError(f"map {place_map.path} has no place of this session and camera together")
    return np.flatnonzero(chosen)


def sessions_named(place_map: PlaceMap, option: str, asked: Sequence[str]) -> list[int]:
    """The ids of sessions, by their names or numbers.

    Args:
        option: that they were asked for with.

    Raises:
        UserError: the map has no such session.
    """
    named = {key: (session.name, str(key)) for key, session in place_map.session_table.items()}
    return _matching(place_map, option, "session", asked, named)


def write_geojson(place_map: PlaceMap, rows: Rows, path: Path, of_base: bool) -> None:
    """RFC 7946: one point a place, WGS-84; a place without a position on the earth has no geometry.

    Raises:
        UserError: the map is not geo-tagged.
    """
    if not place_map.header.geo_tagged:
        raise UserError(
            f"map {place_map.path} has no latitude and longitude, which GeoJSON needs; use --format csv or tum, or "
            "gpkg for QGIS"
        )
    collection = {"type": "FeatureCollection", "features": [_feature(place_map, int(row), of_base) for row in rows]}
    with path.open("w", encoding="utf-8") as file:
        json.dump(collection, file, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def write_csv(place_map: PlaceMap, rows: Rows, path: Path, of_base: bool) -> None:
    """The columns CSV_COLUMNS; what is not known is empty, and so is the pose in a map without metres."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(CSV_COLUMNS)
        for row in map(int, rows):
            session, camera = _names(place_map, row)
            pose = _pose(place_map, row, of_base).numbers if place_map.header.metric else [None] * 7
            geo = [_known(value) for value in place_map.geo[row]]
            place = int(place_map.ids[row])
            table.writerow(
                [picture_name(place), _seconds(place_map, row), *pose, *geo, place, session, camera],
            )


def write_tum(place_map: PlaceMap, rows: Rows, path: Path, of_base: bool) -> None:
    """`stamp x y z qx qy qz qw` a line, in the order of the stamps: one trajectory, as evo and others read it.

    Raises:
        UserError: the map has no metres, or these are places of several sessions or cameras.
    """
    if not place_map.header.metric:
        raise UserError(f"map {place_map.path} has no metres, so no trajectory; use --format csv")
    sessions, cameras = (np.unique(keys[rows]) for keys in (place_map.sessions, place_map.cameras))
    if len(cameras) > 1:  # each is of one session
        several = "--session" if len(sessions) > 1 else "--camera"
        names = (
            [f"{key} ({place_map.session_table[int(key)].name!r})" for key in sessions]
            if len(sessions) > 1
            else [repr(place_map.camera_table[int(key)].name) for key in cameras]
        )
        raise UserError(f"a TUM file is one trajectory; choose with {several} one of {_few(names)}")
    with path.open("w", encoding="utf-8") as file:
        for row in map(int, rows[np.argsort(place_map.stamps_ns[rows], kind="stable")]):
            numbers = " ".join(map(repr, _pose(place_map, row, of_base).numbers))
            file.write(f"{_seconds(place_map, row)} {numbers}\n")


def copy_geopackage(place_map: PlaceMap, path: Path) -> None:
    """The map itself, under another name, as it stands even while a builder adds to it.

    Raises:
        UserError: it cannot be read or written.
    """
    with connect(place_map.path) as source, closing(sqlite3.connect(path)) as copy:
        try:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
        except sqlite3.OperationalError as error:
            raise UserError(f"map {place_map.path} cannot be copied ({error}); is there space on the disk?") from None


def write_pictures(place_map: PlaceMap, rows: Rows, folder: Path) -> int:
    """Write the stored JPEGs of the places, named as in the CSV; how many there were.

    Raises:
        UserError: a file is there already, or cannot be written.
    """
    written = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for row in map(int, rows):
            jpeg = place_map.picture(row)
            if jpeg is not None:
                with (folder / picture_name(int(place_map.ids[row]))).open("xb") as file:
                    file.write(jpeg)
                written += 1
    except OSError as error:
        raise UserError(f"pictures cannot be written to {folder} ({error}); choose an empty folder") from None
    return written


def picture_name(place: int) -> str:
    """The file name of a place's picture."""
    return f"{place:08d}.jpg"


def _feature(place_map: PlaceMap, row: int, of_base: bool) -> dict[str, object]:
    latitude, longitude, altitude = (_known(value) for value in place_map.geo[row])
    session, camera = _names(place_map, row)
    properties: dict[str, object] = {
        "session": session,
        "camera": camera,
        "stamp": iso(int(place_map.stamps_ns[row])),
        "timestamp": _seconds(place_map, row),
        "heading": place_map.header.heading_deg(place_map.camera_pose(row)),
        "altitude": altitude,
    }
    if place_map.header.metric:
        properties |= dict(zip(CSV_COLUMNS[2:9], _pose(place_map, row, of_base).numbers, strict=True))
    geometry = None
    if latitude is not None and longitude is not None:
        height = [] if altitude is None else [round(altitude, 4)]
        # Nine decimals of a degree are a tenth of a millimetre.
        geometry = {"type": "Point", "coordinates": [round(longitude, 9), round(latitude, 9), *height]}
    return {"type": "Feature", "id": int(place_map.ids[row]), "geometry": geometry, "properties": properties}


def _pose(place_map: PlaceMap, row: int, of_base: bool) -> Pose:
    return place_map.base_pose(row) if of_base else place_map.camera_pose(row)


def _names(place_map: PlaceMap, row: int) -> tuple[str, str]:
    """The session and the camera of a place."""
    session = place_map.session_table[int(place_map.sessions[row])]
    return session.name, place_map.camera_table[int(place_map.cameras[row])].name


def _known(value: np.float64) -> float | None:
    return float(value) if np.isfinite(value) else None


def _seconds(place_map: PlaceMap, row: int) -> str:
    """The stamp to the nanosecond, which a float would not hold."""
    return f"{Decimal(int(place_map.stamps_ns[row])).scaleb(-9):.9f}"


def _matching(
    place_map: PlaceMap, option: str, kind: str, asked: Sequence[str], table: Mapping[int, tuple[str, ...]]
) -> list[int]:
    """The keys of what was asked for; a name goes before a number that reads the same."""
    keys: list[int] = []
    for text in asked:
        matches = [key for key, names in table.items() if text == names[0]]
        matches = matches or [key for key, names in table.items() if text in names]
        if not matches:
            known = _few(list(dict.fromkeys(repr(names[0]) for names in table.values())))
            raise UserError(f"--{option} {text!r}: map {place_map.path} has no such {kind}; it has {known}")
        keys += matches
    return keys


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
