"""What a precision preset came to, and the file in the user's cache that keeps it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

MIN_GAIN = 1.1
"""Times float32's speed that a form is taken with; less is not worth another rounding."""


@dataclass(frozen=True)
class PrecisionReport:
    """What a preset came to.

    Attributes:
        preset: what was asked for.
        form: what runs: float32, bfloat16, float16 or int8; of an exported file exact, fp16 or int8.
        cosine: least cosine to float32 over the test pictures; 1 where none were compared here.
        gain: times as fast as float32, one image at a time, when it was measured.
        reason: in one line, why this form.
    """

    preset: str
    form: str
    cosine: float
    gain: float
    reason: str


def finding_key(*parts: object, images: Sequence[npt.NDArray[np.uint8]] | None) -> str:
    """Of a finding that depends on these parts, on this processor and on the pictures it was tried on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.is_file() else []
    processor = next((line for line in lines if line.startswith("model name")), platform.processor())
    seen = [hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest() for image in images or ()]
    return hashlib.sha256(json.dumps([processor, seen, *parts]).encode()).hexdigest()


def read_findings(file: Path) -> dict[str, PrecisionReport]:
    """The findings kept so far; none from a file that is missing, damaged or of another shape."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        found = {str(key): PrecisionReport(**value) for key, value in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
    return {
        key: value
        for key, value in found.items()
        if value.preset == "fast"
        and isinstance(value.form, str)
        and isinstance(value.reason, str)
        and isinstance(value.cosine, float)
        and isinstance(value.gain, float)
    }


def write_finding(file: Path, key: str, found: PrecisionReport) -> None:
    """Keep a finding; where nothing can be written, the next start measures again."""
    content = {name: asdict(value) for name, value in {**read_findings(file), key: found}.items()}
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_text(json.dumps(content, indent=1), encoding="utf-8")
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)
