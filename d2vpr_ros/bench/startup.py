"""How long it takes until images are described, and until the node is ready; and the memory that it then has."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

_TIMEOUT_S = 120.0
_READY = "waiting for images"

# A process of its own: what is imported once is not imported again.
_DESCRIBE_ONCE = """
import json, sys, time
from pathlib import Path
began = time.perf_counter()
import numpy as np
from d2vpr_ros.describe import Extractor
imported = time.perf_counter()
extractor = Extractor.open(*json.loads(sys.argv[1]))
opened = time.perf_counter()
extractor.describe([np.zeros((480, 640, 3), np.uint8)])
described = time.perf_counter()
said = Path("/proc/self/status").read_text() if Path("/proc/self/status").is_file() else ""
peak_mb = next((int(line.split()[1]) / 1024 for line in said.splitlines() if line.startswith("VmHWM")), 0.0)
print(json.dumps([imported - began, opened - imported, described - opened, peak_mb]))
"""


@dataclass(frozen=True)
class StartUp:
    """Seconds from the start of a process, and its memory.

    Attributes:
        backend: what runs the network.
        python_s: until Python runs.
        import_s, open_s, first_s: then to import the package, to open the weights, to describe the first image.
        peak_mb: most resident memory so far; 0 where Linux does not say.
        node_s: from the start of the localizer's process until it waits for images; nan where it did not start.
        node_mb: its resident memory then.
    """

    backend: str
    python_s: float
    import_s: float
    open_s: float
    first_s: float
    peak_mb: float
    node_s: float = float("nan")
    node_mb: float = float("nan")


def measure_start_up(weights: str, backend: str, device: str, projection: str, site: Path | None) -> StartUp:
    """
    Args:
        site: a map of these weights for the node; None leaves the node out.
    """
    asked = json.dumps([weights, backend, "exact", device, projection])
    began_s = time.perf_counter()
    said = subprocess.run(
        [sys.executable, "-c", _DESCRIBE_ONCE, asked], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    whole_s = time.perf_counter() - began_s
    import_s, open_s, first_s, peak_mb = json.loads(said.splitlines()[-1])
    python_s = whole_s - import_s - open_s - first_s
    node_s, node_mb = (float("nan"),) * 2
    if site is not None:
        node_s, node_mb = start_node(site, weights, backend, device, projection)
    return StartUp(backend, python_s, import_s, open_s, first_s, peak_mb, node_s, node_mb)


def start_node(site: Path, weights: str, backend: str, device: str, projection: str) -> tuple[float, float]:
    """Seconds until the localizer's process waits for images, and its MB then; nan if it does not get there."""
    command = [sys.executable, "-m", "d2vpr_ros.nodes.localizer", "--ros-args"]
    chosen = {"map": site, "weights": weights, "backend": backend, "device": device, "projection": projection}
    for name, value in chosen.items():
        command += ["-p", f"{name}:={value}"]
    began_s = time.perf_counter()
    node = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    watch = threading.Timer(_TIMEOUT_S, node.kill)
    watch.start()
    try:
        assert node.stderr is not None
        for line in node.stderr:
            if _READY in line:
                return time.perf_counter() - began_s, _resident_mb(node.pid)
        return float("nan"), float("nan")
    finally:
        watch.cancel()
        if node.poll() is None:
            node.send_signal(signal.SIGINT)
        node.communicate()


def _resident_mb(pid: int) -> float:
    """Linux; nan elsewhere."""
    statm = Path(f"/proc/{pid}/statm")
    if not statm.is_file():
        return float("nan")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
