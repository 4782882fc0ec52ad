"""The SQLite file of a map: opened for reading without leaving a trace, changed in whole transactions."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from d2vpr_ros.errors import UserError


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Everything inside is stored, or nothing; inside another one it is part of that."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:  # a full disk has rolled back already
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


@contextmanager
def connect(path: Path) -> Iterator[sqlite3.Connection]:
    """A read-only connection to a map, for as long as the block runs.

    Raises:
        UserError: no such file; left open by its writer where its log cannot be read; or, from inside the block,
            bytes or numbers that make no sense.
    """
    if path.is_dir():
        raise UserError(f"map {path} is a folder; expected a file of d2vpr map build BAG -o NAME.d2map")
    if not path.is_file():
        raise UserError(f"map {path} does not exist; build one with: d2vpr map build BAG -o {path.name}")
    options = "mode=ro"
    # A read-only medium takes no lock files: there the file is declared immutable, but never beside a writer's log.
    if not os.access(path.parent, os.W_OK):
        log_file = path.with_name(path.name + "-wal")
        if log_file.exists() and log_file.stat().st_size:
            raise UserError(
                f"map {path} was not closed by its writer and its folder gives no write permission; copy it and "
                f"{log_file.name} to a folder with write permission and run there: d2vpr map check {path.name}"
            )
        options += "&immutable=1"
    try:
        connection = sqlite3.connect(f"file:{quote(str(path.resolve()))}?{options}", uri=True)
    except sqlite3.OperationalError as error:
        raise UserError(f"map {path} cannot be opened ({error}); check its permissions") from None
    try:
        connection.execute("PRAGMA trusted_schema=OFF")
        yield connection
    except sqlite3.OperationalError as error:
        raise UserError(f"map {path} cannot be read ({error}); {_way_out(path)}") from None
    except (sqlite3.DatabaseError, ValueError, TypeError, OverflowError, IndexError) as error:
        raise UserError(f"map {path} is damaged or not a map ({error}); restore a copy or build it again") from None
    finally:
        connection.close()


def _way_out(path: Path) -> str:
    if not os.access(path, os.R_OK):
        return "no read permission"
    return "if a builder writes to it, wait until it has finished; else restore a copy or build it again"
