"""What tests of every kind use: a DDS domain of their own, and the real footage where it is."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
DOMAINS = range(1, 101)  # the ports of domains above lie where Linux puts outgoing connections


@pytest.fixture
def domain_id(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A DDS domain that no other test on this machine uses at the moment; set for child processes too."""
    for domain in DOMAINS:
        path = Path(tempfile.gettempdir()) / f"d2vpr_ros_domain_{os.getuid()}_{domain}"
        with path.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
            monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
            yield domain
            return
    pytest.fail("all 100 DDS domains are in use by other tests")


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
