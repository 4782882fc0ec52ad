"""Images a second by backend, preset and batch, all in one run by turns: what slows the machine slows all of them."""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from d2vpr_ros.describe import Extractor
from d2vpr_ros.describe.extractor import PRECISIONS
from d2vpr_ros.errors import UserError

_WARM_UP = 2


@dataclass(frozen=True)
class Speed:
    """How fast one way to run a network is.

    Attributes:
        name: what runs: the weights, or a peer's file.
        backend, device, preset: as `Extractor.open`'s, as they came to be; empty preset for a peer.
        batch: images together.
        ms: of one batch, the median.
        images_per_s: from that.
        note: why it was not measured, in words; then the numbers are 0.
    """

    name: str
    backend: str
    device: str
    preset: str
    batch: int
    ms: float
    images_per_s: float
    note: str = ""


@dataclass(frozen=True, eq=False)
class _Contender:
    speed: Speed
    run: Callable[[], object]


def measure_speeds(
    weights: str, projection: str, device: str, batches: Sequence[int], peers: Sequence[Path], rounds: int
) -> list[Speed]:
    """Every backend that is installed with every preset, and peers' ONNX files, at every batch.

    Raises:
        UserError: no such weights or peer, or no backend is installed.
    """
    contenders: list[_Contender] = []
    left_out: list[Speed] = []
    of_peers = [_of_peer(path, device, batch) for path in peers for batch in batches]  # first: a slip costs no minute
    backends = [
        backend
        for backend, installed in (("torch", has("torch")), ("onnxruntime", has("onnxruntime")))
        if installed and not (backend == "torch" and weights.endswith(".onnx"))
    ]
    if not backends:
        raise UserError("neither torch nor onnxruntime is installed; `pip install torch` or `pip install onnxruntime`")
    for backend in backends:
        for preset in PRECISIONS:
            try:
                extractor = Extractor.open(weights, backend, preset, device, projection)
            except UserError as error:
                left_out.append(Speed(weights, backend, device, preset, 0, 0.0, 0.0, str(error)))
                continue
            contenders += [_of_weights(weights, extractor, backend, preset, batch) for batch in batches]
    if not contenders:
        raise UserError(left_out[0].note)
    return [*_race([*contenders, *of_peers], rounds), *left_out]


def has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _of_weights(weights: str, extractor: Extractor, backend: str, preset: str, batch: int) -> _Contender:
    size = extractor.preprocessor.size
    images = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
    speed = Speed(weights, backend, extractor.device, preset, batch, 0.0, 0.0)
    return _Contender(speed, lambda: extractor.network(images))


def _of_peer(path: Path, device: str, batch: int) -> _Contender:
    """A network of someone else by its ONNX file: one input, of images in any of the usual layouts."""
    from d2vpr_ros.describe.onnx_file import read_onnx
    from d2vpr_ros.describe.onnx_network import open_session, running_device

    session = open_session(read_onnx(path), path, device)
    (asked,) = session.get_inputs()[:1]
    shape = [batch if at == 0 else size if isinstance(size, int) else 224 for at, size in enumerate(asked.shape)]
    kinds = {"tensor(uint8)": np.uint8, "tensor(float16)": np.float16}
    images = np.random.default_rng(0).integers(0, 256, shape).astype(kinds.get(asked.type, np.float32))
    if isinstance(asked.shape[0], int) and asked.shape[0] != batch:
        raise UserError(f"--onnx {path} takes {asked.shape[0]} images at a time only; give --batch {asked.shape[0]}")
    speed = Speed(path.name, "onnxruntime", running_device(session), "", batch, 0.0, 0.0)
    return _Contender(speed, lambda: session.run(None, {asked.name: images}))


def _race(contenders: Sequence[_Contender], rounds: int) -> list[Speed]:
    times: list[list[float]] = [[] for _ in contenders]
    for number in range(rounds + _WARM_UP):
        for contender, taken in zip(contenders, times, strict=True):
            began_s = time.perf_counter()
            contender.run()
            if number >= _WARM_UP:
                taken.append(time.perf_counter() - began_s)
    return [
        _timed(contender.speed, statistics.median(taken)) for contender, taken in zip(contenders, times, strict=True)
    ]


def _timed(speed: Speed, seconds: float) -> Speed:
    per_s = speed.batch / seconds
    return Speed(speed.name, speed.backend, speed.device, speed.preset, speed.batch, 1e3 * seconds, per_s)
