"""DDS domains that tests on one machine do not share."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

DOMAINS = range(1, 101)  # the ports of domains above lie where Linux puts outgoing connections


@contextmanager
def own_domain(patch: pytest.MonkeyPatch) -> Iterator[int]:
    """A domain that no other test on this machine uses at the moment; set for child processes too."""
    for domain in DOMAINS:
        path = Path(tempfile.gettempdir()) / f"d2vpr_ros_domain_{os.getuid()}_{domain}"
        with path.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            patch.setenv("ROS_DOMAIN_ID", str(domain))
            patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
            yield domain
            return
    pytest.fail("all 100 DDS domains are in use by other tests")
