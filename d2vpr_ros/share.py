"""Where the files that come with the package lie: bundled weights, configurations, launch files."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_PACKAGE = "d2vpr_ros"
_CHECKOUT = Path(__file__).resolve().parent.parent


def share_folder() -> Path:
    """The package's share folder: of the source checkout, of the ROS workspace, or of the Python environment."""
    if (_CHECKOUT / "package.xml").is_file():
        return _CHECKOUT
    return _ament_share() or Path(sys.prefix) / "share" / _PACKAGE


def weights_folder() -> Path:
    """Where the bundled weights lie; in a checkout they are among the training scripts."""
    share = share_folder()
    return share / "models" / "weights" if share == _CHECKOUT else share / "weights"


def _ament_share() -> Path | None:
    try:
        from ament_index_python.packages import get_package_share_directory

        return Path(get_package_share_directory(_PACKAGE))
    except (ImportError, LookupError, OSError):  # no ROS, not built into it, or AMENT_PREFIX_PATH unset
        return None


def cache_folder() -> Path:
    """Where what can be made again is kept: $XDG_CACHE_HOME/d2vpr_ros, else ~/.cache/d2vpr_ros. May not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / _PACKAGE
