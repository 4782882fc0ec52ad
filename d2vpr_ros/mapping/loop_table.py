"""What loop closure keeps in a map: the poses as odometry measured them, and the closures that corrected them.

Two tables that only maps have on which loops were closed. Without them a second closing would start from poses that
are corrected already, and take the first one's errors for the odometry's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import Array, Pose

ODOMETRY_TABLE = "CREATE TABLE odometry (place INTEGER PRIMARY KEY NOT NULL, pose BLOB NOT NULL, covariance BLOB)"
"""T_odom_cameraOptical of a place, seven float64, and its (6, 6) covariance as stated, or NULL."""

CLOSURES_TABLE = (
    "CREATE TABLE closures (id INTEGER PRIMARY KEY NOT NULL, old INTEGER NOT NULL, new INTEGER NOT NULL, "
    "pose BLOB NOT NULL, covariance BLOB NOT NULL, kind TEXT NOT NULL, probability DOUBLE NOT NULL, "
    "inliers INTEGER NOT NULL, run INTEGER NOT NULL, weight DOUBLE NOT NULL)"
)
"""T_old_new of the base, seven float64, and its (6, 6) covariance."""

LOOP_TABLES: Mapping[str, str] = {"odometry": ODOMETRY_TABLE, "closures": CLOSURES_TABLE}

Kind = Literal["metric", "place"]
"""How much a closure knows: a metric pose from landmarks; or that both stand about one place, with a loose heading. The
second helps less, and its covariance says so."""

KINDS: tuple[Kind, ...] = ("metric", "place")

BELIEVED = 0.5
"""Weight below which the pose graph refused a closure."""

_POSE_BYTES, _COVARIANCE_BYTES = 7 * 8, 36 * 8
_FARTHEST_M = 1e8
_LARGEST_SIGMA = 1e4  # metres or radians; beyond, a covariance says nothing


@dataclass(frozen=True, eq=False)
class Closure:
    """A place that was seen before.

    Attributes:
        old, new: ids of the places; the new one was seen later.
        pose: T_old_new of the robot's base.
        covariance: (6, 6) over (x, y, z, rotation about x, y, z), metres and radians, in the axes of the old place's
            base (geometry_msgs/PoseWithCovariance with that base as its frame).
        kind: what it rests on.
        probability: that both are the same place, 0 to 1.
        inliers: points that fit the metric pose; 0 without one.
        run: number of the run of agreeing closures that it came with; a solver keeps or refuses a run as a whole.
        weight: 0 to 1, how much the last solution believed it; 1 before the first.
    """

    old: int
    new: int
    pose: Pose
    covariance: Array
    kind: Kind
    probability: float
    inliers: int
    run: int
    weight: float = 1.0


@dataclass(frozen=True, eq=False)
class StoredOdometry:
    """A row of the table `odometry`: T_odom_cameraOptical of a place, and its covariance in that frame if stated."""

    pose: Pose
    covariance: Array | None


def has_table(connection: sqlite3.Connection, name: str) -> bool:
    """Whether a map has one of the tables."""
    found = connection.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", (name,))
    return found.fetchone() is not None


def read_odometry(connection: sqlite3.Connection, named: object) -> dict[int, StoredOdometry]:
    """The odometry of each place that has any, by its id.

    Args:
        named: the map, for messages.

    Raises:
        UserError: a row holds something else.
    """
    if not has_table(connection, "odometry"):
        return {}
    found = {}
    for place, pose, covariance in connection.execute(_ODOMETRY_ROWS).fetchall():
        if problem := odometry_problem(pose, covariance):
            raise _damaged(named, f"the odometry of place {place}", problem)
        found[int(place)] = StoredOdometry(_pose(pose), None if covariance is None else _covariance(covariance))
    return found


def read_closures(connection: sqlite3.Connection, named: object) -> list[Closure]:
    """The closures of a map, in order.

    Raises:
        UserError: a row holds something else, or names a place that the map does not have.
    """
    if not has_table(connection, "closures"):
        return []
    places = {number for (number,) in connection.execute("SELECT id FROM places")}
    found = []
    for number, *row in connection.execute(_CLOSURE_ROWS).fetchall():
        if problem := closure_problem(row, places):
            raise _damaged(named, f"closure {number}", problem)
        old, new, pose, covariance, *rest = row
        found.append(Closure(int(old), int(new), _pose(pose), _covariance(covariance), *rest))
    return found


def write_odometry(connection: sqlite3.Connection, rows: Mapping[int, StoredOdometry]) -> None:
    """Keep the odometry of places, in place of what was kept of them; in a transaction."""
    _make(connection, "odometry")
    connection.executemany(
        "INSERT OR REPLACE INTO odometry VALUES (?, ?, ?)",
        (
            (place, _bytes(one.pose.numbers), None if one.covariance is None else _bytes(one.covariance))
            for place, one in rows.items()
        ),
    )


def write_closures(connection: sqlite3.Connection, closures: Iterable[Closure]) -> None:
    """Keep closures beside those that are there; in a transaction."""
    _make(connection, "closures")
    connection.executemany(
        "INSERT INTO closures VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            (one.old, one.new, _bytes(one.pose.numbers), _bytes(one.covariance), one.kind,
             float(one.probability), int(one.inliers), int(one.run), float(one.weight))
            for one in closures
        ),
    )  # fmt: skip


def odometry_problem(pose: Any, covariance: Any) -> str | None:
    """What is wrong with a row of `odometry`, in words; None if nothing is."""
    return _pose_problem(pose) or (None if covariance is None else _covariance_problem(covariance, strict=False))


def closure_problem(row: Any, places: set[int]) -> str | None:
    """What is wrong with a row of `closures` without its id, in words; None if nothing is."""
    old, new, pose, covariance, kind, probability, inliers, run, weight = row
    for name, place in (("old", old), ("new", new)):
        if place not in places:
            return f"its {name} place is {place!r}, which the map does not have"
    if old == new:
        return f"it closes place {old} with itself"
    if kind not in KINDS:
        return f"its kind is {kind!r}, expected one of {', '.join(KINDS)}"
    for name, value in (("probability", probability), ("weight", weight)):
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            return f"its {name} is {value!r}, expected 0 to 1"
    for name, value in (("number of inliers", inliers), ("run", run)):
        if not isinstance(value, int) or value < 0:
            return f"its {name} is {value!r}, expected 0 or more"
    return _pose_problem(pose) or _covariance_problem(covariance, strict=True)


def problems(connection: sqlite3.Connection) -> Iterator[tuple[str, int | None]]:
    """What is wrong with the rows of both tables, in words, and the place, if the map has it, that each is of."""
    places = {number for (number,) in connection.execute("SELECT id FROM places")}
    if has_table(connection, "odometry"):
        for place, pose, covariance in connection.execute(_ODOMETRY_ROWS):
            if place not in places:
                yield "odometry has a row for it, but the place is missing", place
            elif problem := odometry_problem(pose, covariance):
                yield f"its odometry: {problem}", place
    if has_table(connection, "closures"):
        for number, *row in connection.execute(_CLOSURE_ROWS):
            if problem := closure_problem(row, places):
                yield f"closure {number}: {problem}", row[1] if row[1] in places else None


# What is longer than it may be is not even read.
_ODOMETRY_ROWS = (
    f"SELECT place, CASE WHEN length(pose) = {_POSE_BYTES} THEN pose END, "
    f"CASE WHEN covariance IS NULL OR length(covariance) = {_COVARIANCE_BYTES} THEN covariance ELSE x'' END "
    "FROM odometry ORDER BY place"
)
_CLOSURE_ROWS = (
    f"SELECT id, old, new, CASE WHEN length(pose) = {_POSE_BYTES} THEN pose END, "
    f"CASE WHEN length(covariance) = {_COVARIANCE_BYTES} THEN covariance END, "
    "substr(kind, 1, 20), probability, inliers, run, weight FROM closures ORDER BY id"
)


def drop_places(connection: sqlite3.Connection, places: Iterable[int]) -> None:
    """Forget what is kept of places that the map loses; in a transaction."""
    gone = [(place,) for place in places]
    if has_table(connection, "odometry"):
        connection.executemany("DELETE FROM odometry WHERE place = ?", gone)
    if has_table(connection, "closures"):
        connection.executemany("DELETE FROM closures WHERE old = ?1 OR new = ?1", gone)


def take_over(
    reading: sqlite3.Connection, named: object, connection: sqlite3.Connection, taken: Mapping[int, int]
) -> None:
    """Copy what another map keeps of places that came from it; in a transaction.

    Args:
        named: the other map, for messages.
        taken: ids of the places in this map, by those in the other.

    Raises:
        UserError: a row of the other map holds something else.
    """
    odometry = {taken[place]: one for place, one in read_odometry(reading, named).items() if place in taken}
    if odometry:
        write_odometry(connection, odometry)
    closures = [one for one in read_closures(reading, named) if one.old in taken and one.new in taken]
    if closures:
        write_closures(connection, (replace(one, old=taken[one.old], new=taken[one.new]) for one in closures))


def _make(connection: sqlite3.Connection, name: str) -> None:
    if not has_table(connection, name):
        connection.execute(LOOP_TABLES[name])


def _pose_problem(blob: Any) -> str | None:
    if not isinstance(blob, bytes) or len(blob) != _POSE_BYTES:
        return "its pose is not seven numbers"
    numbers = np.frombuffer(blob, "<f8")
    if not np.isfinite(numbers).all() or (np.abs(numbers[:3]) > _FARTHEST_M).any():
        return f"its pose is {numbers[:3].tolist()}, which is nowhere"
    if not 0.5 < np.linalg.norm(numbers[3:]) < 2:
        return "its quaternion has not the length 1"
    return None


def _covariance_problem(blob: Any, strict: bool) -> str | None:
    """
    Args:
        strict: it has to be positive definite; what odometry states may be anything finite.
    """
    if not isinstance(blob, bytes) or len(blob) != _COVARIANCE_BYTES:
        return "its covariance is not 36 numbers"
    covariance = np.frombuffer(blob, "<f8").reshape(6, 6)
    if not np.isfinite(covariance).all():
        return "its covariance holds numbers that are not finite"
    if not strict:
        return None
    if not np.allclose(covariance, covariance.T, rtol=1e-6, atol=1e-12):
        return "its covariance is not symmetric"
    if np.diag(covariance).max() > _LARGEST_SIGMA**2:
        return f"its covariance says {float(np.sqrt(np.diag(covariance).max())):.3g} metres or radians"
    if np.linalg.eigvalsh(covariance)[0] <= 0:
        return "its covariance is not positive definite"
    return None


def _pose(blob: bytes) -> Pose:
    return Pose.of(*np.frombuffer(blob, "<f8").tolist())


def _covariance(blob: bytes) -> Array:
    return np.frombuffer(blob, "<f8").reshape(6, 6).copy()


def _bytes(numbers: Any) -> bytes:
    return np.asarray(numbers, "<f8").tobytes()


def _damaged(named: object, what: str, problem: str) -> UserError:
    return UserError(
        f"map {named}: {what} cannot be used: {problem}; `d2vpr map check` lists all such rows; restore a copy of the "
        "map, or build it again"
    )
