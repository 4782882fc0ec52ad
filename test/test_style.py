"""Lint, format and types, as tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    "command", ["ruff check --no-cache .", "ruff format --no-cache --check .", "mypy"], ids=["lint", "format", "types"]
)
def test_the_code_passes(command: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", *command.split()], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
