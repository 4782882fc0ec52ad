"""The lines that `d2vpr doctor` prints."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Level(Enum):
    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Line:
    """One finding, and what to type where it is none to be content with."""

    level: Level
    what: str
    advice: str = ""

    @property
    def failed(self) -> bool:
        return self.level is Level.FAIL

    def __str__(self) -> str:
        text = f"{self.level.value:4} {self.what}" + (f" - {self.advice}" if self.advice else "")
        # Frames, encodings and map contents are strangers' text.
        return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def ok(what: str, advice: str = "") -> Line:
    return Line(Level.OK, what, advice)


def warn(what: str, advice: str) -> Line:
    return Line(Level.WARN, what, advice)


def fail(what: str, advice: str) -> Line:
    return Line(Level.FAIL, what, advice)
