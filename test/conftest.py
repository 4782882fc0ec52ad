"""What tests of every kind use: a DDS domain of their own, and the real footage where it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from dds import own_domain
from hypothesis import settings

CHECKOUT = Path(__file__).resolve().parent.parent

# Networks and matrices are small here: several threads wait for each other longer than they work. Read by torch and
# numpy when they are loaded, in child processes, too.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No test is timed: a busy machine is no fault of the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

NO_TORCH = "import sys; sys.modules['torch'] = sys.modules['torchvision'] = None"


@pytest.fixture
def domain_id(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A DDS domain of the test's own."""
    with own_domain(monkeypatch) as domain:
        yield domain


@pytest.fixture(scope="session")
def footage() -> Path:
    """The folder of real footage; the test is skipped where there is none."""
    folder = Path(os.environ.get("D2VPR_FOOTAGE") or CHECKOUT.parent / "shared" / "footage")
    if not folder.is_dir():
        pytest.skip(f"no real footage at {folder}; D2VPR_FOOTAGE names its folder")
    return folder


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A colcon workspace with the checkout's tracked files in it, built: its `install/d2vpr_ros`."""
    from colcon_workspace import build

    return build(CHECKOUT, tmp_path_factory.mktemp("workspace"))


@pytest.fixture
def without_torch(tmp_path: Path) -> dict[str, str]:
    """The environment of a process in which torch is neither found nor imported."""
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "sitecustomize.py").write_text(NO_TORCH)
    # As if it were not started from this process: ROS finds its libraries at the start of a process.
    kept = {key: value for key, value in os.environ.items() if key not in ("_ROS_WHEELS_BOOTSTRAP_COMPLETE",)}
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, [str(tmp_path / "hidden"), kept.get("PYTHONPATH")]))}


@pytest.fixture(scope="session")
def short_drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a drive of four seconds, noon, and the map that the command makes of it, verb.d2map."""
    from mapped import build_map

    from d2vpr_ros.sim.drive import record_drive

    folder = tmp_path_factory.mktemp("short_drive")
    record_drive(folder / "noon", 7, "noon", duration_s=4.0, compressed=True)
    build_map(folder / "noon", folder / "verb.d2map", "--spacing", "2")
    return folder
