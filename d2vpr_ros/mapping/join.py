"""Take the places of one map into another: in its frame, and all of them or none."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import Pose
from d2vpr_ros.mapping.database import connect, transaction
from d2vpr_ros.mapping.header import MapHeader
from d2vpr_ros.mapping.landmark_table import blob_problem, prepare, read_blob, store, stored_note
from d2vpr_ros.mapping.loop_table import take_over
from d2vpr_ros.mapping.place_map import MAX_JPEG, PlaceMap
from d2vpr_ros.mapping.store import MapWriter, NewPlace, open_writable


@dataclass(frozen=True)
class Joined:
    """Attributes:
    sessions: names of those taken over.
    places: their ids in the map they came to.
    held: names of those left out, because the map has the same recording.
    """

    sessions: tuple[str, ...]
    places: tuple[int, ...]
    held: tuple[str, ...]


def check_model_of(header: MapHeader, other: MapHeader, named: str) -> None:
    """Raise UserError, saying what differs, if two maps were not made by one model, preprocessing and projection."""
    differences = header.model.differences(other.model)
    if header.descriptor_width != other.descriptor_width:
        differences = differences or f"{header.descriptor_width} against {other.descriptor_width} numbers"
    if differences:
        raise UserError(
            f"{named} are of different models ({differences}): their descriptors cannot be compared; build one of them "
            "again with the other's weights and projection"
        )


def merge_maps(
    place_map: PlaceMap, other: PlaceMap, transform: Pose, out: Path, on_place: Callable[[], object] = lambda: None
) -> Joined:
    """Write a new map of all sessions of both; ids of the first one's places stay as they are.

    Args:
        transform: T_map_other.
        out: must not exist.

    Raises:
        UserError: other models; `out` cannot be written; nothing to add.
    """
    check_model_of(place_map.header, other.header, f"{place_map.path} and {other.path}")
    copy_map(place_map.path, out)
    with open_writable(out) as writer:
        return join_places(writer, other, transform, on_place)


def copy_map(path: Path, out: Path) -> None:
    """A copy of a map, with what is still in its writer's log.

    Raises:
        UserError: it cannot be read, or `out` not written.
    """
    with connect(path) as source:
        try:
            with closing(sqlite3.connect(out)) as copy:
                source.backup(copy)
        except sqlite3.OperationalError as error:
            raise UserError(f"{path} cannot be copied to {out.parent} ({error}); free some space") from None


def join_places(
    writer: MapWriter, other: PlaceMap, transform: Pose, on_place: Callable[[], object] = lambda: None
) -> Joined:
    """Add the sessions of `other` to a map that is open for writing, in one transaction.

    Args:
        transform: T_map_other.
        on_place: called for each place.

    Raises:
        UserError: the map holds all these recordings already.
    """
    held = {key: session.name for key, session in other.session_table.items() if writer.find_session(session.source)}
    if len(held) == len(other.session_table):
        raise UserError(f"the map already holds all of {other.path} ({', '.join(held.values())}): nothing to add")
    taken: dict[int, int] = {}  # ids in the map, by those in the other
    try:
        with transaction(writer.connection):
            sessions = {
                key: writer.begin_session(session)
                for key, session in sorted(other.session_table.items())
                if key not in held
            }
            for row, place in _places(writer.header, other, transform):
                key, camera = int(other.sessions[row]), other.camera_table[int(other.cameras[row])]
                if key in sessions:
                    number = writer.add_camera(sessions[key], camera)
                    taken[int(other.ids[row])] = writer.add_place(sessions[key], number, place)
                    on_place()
            _take_landmarks(writer.connection, other, taken)
            with connect(other.path) as reading:
                take_over(reading, other.path, writer.connection, taken)
    except BaseException:
        writer.stored = 0
        raise
    return Joined(tuple(other.session_table[key].name for key in sessions), tuple(taken.values()), tuple(held.values()))


def _places(header: MapHeader, other: PlaceMap, transform: Pose) -> Iterator[tuple[int, NewPlace]]:
    """Every row of a map as a new place of another one, with T_map_other = `transform`."""
    geo = _geography(header, other, transform)
    turned = np.kron(np.eye(2), transform.rotation.as_matrix())
    with connect(other.path) as connection:
        stored = connection.execute(
            "SELECT descriptor, CASE WHEN typeof(jpeg) = 'blob' AND length(jpeg) <= ? THEN jpeg END, covariance "
            "FROM places JOIN descriptors ON descriptors.place = id LEFT JOIN pictures ON pictures.place = id "
            "ORDER BY id",
            (MAX_JPEG,),
        )
        for row, (descriptor, jpeg, covariance) in enumerate(stored):
            numbers = np.frombuffer(descriptor, "<f2").astype(np.float32)  # as stored: not rounded a second time
            is_whole = isinstance(covariance, bytes) and len(covariance) == 36 * 8
            known = np.frombuffer(covariance, "<f8").reshape(6, 6) if is_whole else None
            yield (
                row,
                NewPlace(
                    int(other.stamps_ns[row]),
                    transform @ other.camera_pose(row),
                    numbers,
                    jpeg,
                    None if np.isnan(geo[row, 0]) else (float(geo[row, 0]), float(geo[row, 1]), float(geo[row, 2])),
                    None if known is None else turned @ known @ turned.T,
                ),
            )


def _take_landmarks(connection: sqlite3.Connection, other: PlaceMap, taken: Mapping[int, int]) -> None:
    """Places keep their landmarks, which stand relative to them, where both maps' were made alike."""
    with connect(other.path) as reading:
        made = stored_note(reading)
        if not made or stored_note(connection) not in (None, made):
            return
        prepare(connection, made)
        for theirs, ours in taken.items():
            blob = read_blob(reading, theirs)
            if isinstance(blob, bytes) and not blob_problem(blob):
                store(connection, ours, blob)


def _geography(header: MapHeader, other: PlaceMap, transform: Pose) -> npt.NDArray[np.float64]:
    """(N, 3) latitude, longitude, altitude: where the poses are, if the map stands on the earth; else as known."""
    if header.origin is None:
        return other.geo
    geo = header.origin.to_geo(transform.rotation.apply(other.positions) + transform.position)
    # GPS without altitudes has its places at height 0: that is no knowledge.
    geo[np.isfinite(other.geo[:, 0]) & np.isnan(other.geo[:, 2]), 2] = np.nan
    return geo
