"""Lint, format and types, as tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
AGAINST_NUMPY_2 = pytest.mark.skipif(
    np.__version__.startswith("1."), reason="the types are those of numpy 2; beside a sourced ROS 2 there is numpy 1"
)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("ruff check --no-cache .", id="lint"),
        pytest.param("ruff format --no-cache --check .", id="format"),
        pytest.param("mypy", id="types", marks=AGAINST_NUMPY_2),
    ],
)
def test_the_code_passes(command: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", *command.split()], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
