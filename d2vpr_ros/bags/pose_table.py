"""The table of poses beside a folder of images: CSV with a column `filename` and, as known, the others below."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path

from d2vpr_ros.errors import UserError
from d2vpr_ros.fields import NANOSECONDS
from d2vpr_ros.geometry import Pose

POSE_COLUMNS = ("x", "y", "z", "qx", "qy", "qz", "qw")
GEO_COLUMNS = ("lat", "lon", "alt")


@dataclass(frozen=True, eq=False)
class Row:
    """One image of the table.

    Attributes:
        line: of the file, for messages.
        filename: as written.
        stamp_ns: nanoseconds.
        pose: of the body that the table is about, metres; None where the columns are empty.
        geo: latitude, longitude (degrees), altitude (metres, NaN where empty); None where empty.
        labels: every other column with something in it, such as `place`; the file name too.
    """

    line: int
    filename: str
    stamp_ns: int
    pose: Pose | None
    geo: tuple[float, float, float] | None
    labels: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class PoseTable:
    """The rows asked for, in order of their stamps, and what there is to say about them."""

    rows: Sequence[Row]
    notes: tuple[str, ...]


def read_pose_table(path: Path, where: Mapping[str, str], every: int = 1, offset: int = 0) -> PoseTable:
    """Read a table of poses.

    Stamps (`timestamp`, seconds) are used where every row has one of its own, else images are 1 s apart in the order
    of the file. Both are settled after `where` and before `every`.

    Args:
        where: keeps the rows whose columns have exactly these values.
        every, offset: of those, keeps the rows offset, offset + every, ...

    Raises:
        UserError: no such file, no such column, no row left, or a cell that is not what its column says.
    """
    if every < 1 or offset < 0:
        raise UserError(f"--every {every} --offset {offset}: expected every >= 1 and offset >= 0")
    cells = _read_cells(path, "filename")
    chosen = _choose(path, cells, where)
    rows = [_read_row(path, line, row) for line, row in chosen]
    unnamed = next((row for row in rows if not row.filename), None)
    if unnamed is not None:
        raise UserError(f"{path}:{unnamed.line}: the file name is empty")
    rows, notes = _settle_stamps(path, rows, [row.get("timestamp", "") for _, row in chosen])
    kept = rows[offset::every]
    if not kept:
        raise UserError(f"{path}: no row left of {len(rows)} with --every {every} --offset {offset}")
    return PoseTable(kept, notes)


def read_stamped_rows(path: Path) -> list[Row]:
    """The rows of a table without images, in the order of the file: `timestamp` and what else `pose_table` has.

    Raises:
        UserError: no such file, no column `timestamp`, or a cell that is not what its column says.
    """
    return [
        replace(_read_row(path, line, row), stamp_ns=read_stamp(f"{path}:{line}", row.get("timestamp", "")))
        for line, row in _read_cells(path, "timestamp")
    ]


def _read_cells(path: Path, required: str) -> list[tuple[int, dict[str, str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file)
            header = [name.strip() for name in next(lines, [])]
            if required not in header:
                example = dict.fromkeys((required, "timestamp", *POSE_COLUMNS))
                raise UserError(
                    f"{path}: no column `{required}`; expected a CSV file with a header line such as "
                    f"{','.join(example)}, found {','.join(header)[:200] or 'nothing'}"
                )
            cells = []
            for values in lines:
                if len(values) > len(header):
                    counts = f"{len(values)} cells under {len(header)} columns"
                    raise UserError(f"{path}:{lines.line_num}: {counts}; quote cells with commas")
                if any(values):
                    cells.append((lines.line_num, dict(zip(header, (v.strip() for v in values), strict=False))))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; expected a CSV table of poses") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a CSV table: {error}") from error
    if not cells:
        raise UserError(f"{path}: a header line but no rows")
    return cells


def _choose(
    path: Path, cells: list[tuple[int, dict[str, str]]], where: Mapping[str, str]
) -> list[tuple[int, dict[str, str]]]:
    columns = cells[0][1]
    for column, value in where.items():
        if column not in columns:
            raise UserError(f"{path}: no column {column} for --where; it has {', '.join(columns)}")
        remaining = [(line, row) for line, row in cells if row.get(column) == value]
        if not remaining:
            values = list(dict.fromkeys(row.get(column, "") for _, row in cells))
            shown = ", ".join(values[:12]) + (f" and {len(values) - 12} more" if len(values) > 12 else "")
            raise UserError(f"{path}: no row with {column}={value}; that column has {shown}")
        cells = remaining
    return cells


def _read_row(path: Path, line: int, row: dict[str, str]) -> Row:
    place = f"{path}:{line}"
    pose = None
    numbers = _read_numbers(place, row, POSE_COLUMNS, optional=())
    if numbers is not None:
        try:
            pose = Pose.of(*numbers)
        except ValueError as error:
            raise UserError(f"{place}: {error}; expected seven finite numbers with a quaternion") from error
    geo = _read_numbers(place, row, GEO_COLUMNS, optional=("alt",))
    if geo is not None and not (-90 <= geo[0] <= 90 and -180 <= geo[1] <= 180):
        raise UserError(f"{place}: lat {geo[0]}, lon {geo[1]} is not on the earth; expected WGS-84 degrees")
    known = {"timestamp", *POSE_COLUMNS, *GEO_COLUMNS}
    labels = {name: value for name, value in row.items() if name not in known and value}
    return Row(line, row.get("filename", ""), 0, pose, None if geo is None else (geo[0], geo[1], geo[2]), labels)


def _read_numbers(
    place: str, row: dict[str, str], columns: Sequence[str], optional: Sequence[str]
) -> list[float] | None:
    """The numbers of some columns, NaN for empty optional ones; None where all the others are empty or not there."""
    needed = [column for column in columns if column not in optional]
    empty = [column for column in needed if not row.get(column)]
    if len(empty) == len(needed):
        return None
    if empty:
        raise UserError(
            f"{place}: {', '.join(empty)} empty beside the others; fill in all of {', '.join(needed)} or none"
        )
    numbers = []
    for column in columns:
        text = row.get(column) or "nan"
        try:
            numbers.append(float(text))
        except ValueError as error:
            raise UserError(f"{place}: {column} is {text!r}, expected a number") from error
    return numbers


def _settle_stamps(path: Path, rows: list[Row], texts: Sequence[str]) -> tuple[list[Row], tuple[str, ...]]:
    missing = sum(not text for text in texts)
    if missing:
        found = "no row has a timestamp" if missing == len(rows) else f"{missing} of {len(rows)} rows have no timestamp"
        return _one_hertz(rows), (f"{found}: images are stamped 1 s apart, in the order of the file",)
    stamps = [read_stamp(f"{path}:{row.line}", text) for row, text in zip(rows, texts, strict=True)]
    if len(set(stamps)) < len(stamps):
        doubled = len(stamps) - len(set(stamps))
        found = f"{doubled} of {len(rows)} timestamps repeat an earlier one"
        return _one_hertz(rows), (f"{found}: images are stamped 1 s apart, in the order of the file",)
    stamped = [replace(row, stamp_ns=stamp) for row, stamp in zip(rows, stamps, strict=True)]
    if stamps == sorted(stamps):
        return stamped, ()
    return sorted(stamped, key=lambda row: row.stamp_ns), (
        "the timestamps are out of order: images are sorted by them",
    )


def _one_hertz(rows: Sequence[Row]) -> list[Row]:
    return [replace(row, stamp_ns=i * NANOSECONDS) for i, row in enumerate(rows)]


def read_stamp(place: str, text: str) -> int:
    """Seconds, as written, in nanoseconds, exactly.

    Args:
        place: file and line, for the message.

    Raises:
        UserError: it is none, or none that a ROS message could hold.
    """
    try:
        seconds = Decimal(text)
    except InvalidOperation as error:
        raise UserError(f"{place}: timestamp is {text!r}, expected seconds") from error
    if not seconds.is_finite() or not 0 <= seconds < 2**31:  # builtin_interfaces/Time counts seconds in int32
        raise UserError(f"{place}: timestamp is {text}, expected seconds from 0 to 2147483647")
    return int(seconds * NANOSECONDS)
