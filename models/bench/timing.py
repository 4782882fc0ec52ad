"""Times of several things in one run: each once a round, so that whatever else the machine does slows all of them."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

ROUNDS = 21
_WARM_UP = 3
_REST_S = 0.05  # between contenders: ONNX Runtime's threads spin for tens of milliseconds after their work is done

Times = dict[str, npt.NDArray[np.float64]]


def race(contenders: Mapping[str, Callable[[], object]], rounds: int = ROUNDS) -> Times:
    """Seconds of each contender in each round; on a GPU until its work is done."""
    for run in contenders.values():
        for _ in range(_WARM_UP):
            run()
    seconds: Times = {name: np.empty(rounds) for name in contenders}
    for number in range(rounds):
        for name, run in contenders.items():
            _wait_for_gpu()
            time.sleep(_REST_S)
            started = time.perf_counter()
            run()
            _wait_for_gpu()
            seconds[name][number] = time.perf_counter() - started
    return seconds


def ratio(times: Times, slower: str, faster: str) -> float:
    """How many times as fast `faster` is: the median over the rounds of the ratio within a round."""
    return float(np.median(times[slower] / times[faster]))


def median_ms(times: Times, name: str) -> float:
    return 1e3 * float(np.median(times[name]))


def processor() -> str:
    """The machine in words, for the head of a table."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        models = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        name = models[0] if models else name
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def _wait_for_gpu() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
