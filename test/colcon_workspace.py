"""Builds the package as a ROS workspace does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path


def build(checkout: Path, workspace: Path) -> Path:
    """Copy the tracked files of the checkout into a workspace, build it, and return the package's install prefix."""
    source = workspace / "src" / "d2vpr_ros"
    for file in tracked_files(checkout):
        target = source / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(checkout / file, target)
    result = subprocess.run(
        [sys.executable, "-m", "colcon", "build", "--event-handlers", "console_direct+"],
        cwd=workspace,
        env=os.environ | {"COLCON_HOME": str(workspace / "colcon"), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    return workspace / "install" / "d2vpr_ros"


def tracked_files(checkout: Path) -> list[Path]:
    """Files that git knows and that are still there; untracked ones would hide that a commit lacks something."""
    # Git refuses a checkout of another user, such as one mounted into a container, unless told not to.
    command = ["git", "-c", f"safe.directory={checkout}", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True).stdout
    return [Path(name) for name in listed.split("\0") if (checkout / name).is_file()]
