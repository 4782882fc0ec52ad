"""A file that appears whole or not at all, and never in place of another without leave."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from d2vpr_ros.errors import UserError


@contextmanager
def new_file(path: Path, force: bool, source: Path | None = None) -> Iterator[Path]:
    """A path beside `path` to write to, which takes that name when the block ends well, else is removed.

    Args:
        force: whether a file of that name may be replaced.
        source: a file that is read meanwhile, and never replaced.

    Raises:
        UserError: the name is taken, is that of the source, or cannot be written.
    """
    if source is not None and path.exists() and path.samefile(source):
        raise UserError(f"{path} is an input; choose another name with -o")
    if path.is_dir():
        raise UserError(f"{path} is a folder; expected the name of a file to write")
    if not path.parent.is_dir():
        raise UserError(f"{path} cannot be written: no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):  # said now, not after all the work
        raise UserError(f"{path} cannot be written: the folder {path.parent.resolve()} gives no write permission")
    if path.exists() and not force:
        raise UserError(f"{path} exists already; choose another name, or replace it with --force")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror or error})") from None
    finally:
        partial.unlink(missing_ok=True)
