"""What the installed commands call: the command itself, or one line where the Python that runs it lacks a library."""

from __future__ import annotations

import importlib
import sys


def d2vpr() -> int:
    """The command `d2vpr`."""
    return _run("d2vpr_ros.cli.main")


def d2vpr_localizer() -> int:
    """The node `d2vpr_localizer`."""
    return _run("d2vpr_ros.nodes.localizer")


def d2vpr_map_builder() -> int:
    """The node `d2vpr_map_builder`."""
    return _run("d2vpr_ros.nodes.map_builder")


def d2vpr_rtabmap_links() -> int:
    """The node `d2vpr_rtabmap_links`."""
    return _run("d2vpr_ros.nodes.rtabmap_links")


def _run(module: str) -> int:
    """Call a module's `main`; 2, and one line on stderr, where a library is missing.

    That is what a plain `colcon build` leads to: it builds for ROS's Python, which has no torch and no safetensors.
    """
    try:
        return int(importlib.import_module(module).main() or 0)
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        if missing == "d2vpr_ros":
            raise
        print(
            f"error: {sys.executable} has no module {missing}; make the package's own environment and build with it: "
            "src/d2vpr_ros/scripts/setup --run && src/d2vpr_ros/.venv/bin/python -m colcon build --packages-select "
            "d2vpr_ros",
            file=sys.stderr,
        )
        return 2
