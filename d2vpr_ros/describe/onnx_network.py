"""The network run by ONNX Runtime, from a file that `d2vpr export` wrote. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from d2vpr_ros.describe.gate import compare, described, trial
from d2vpr_ros.describe.identity import ModelIdentity
from d2vpr_ros.describe.onnx_file import PRECISION_KEY, WAY_OUT, identity_of, read_onnx
from d2vpr_ros.describe.preprocess import Preprocessor, check_image
from d2vpr_ros.describe.resample import squash
from d2vpr_ros.describe.weights import onnx_path
from d2vpr_ros.errors import UserError
from d2vpr_ros.share import cache_folder

if TYPE_CHECKING:
    import onnxruntime

# By device, the one that is to run it first; ONNX Runtime gives what that cannot run to the next.
_PROVIDERS = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
}
_DEVICES = {providers[0]: device for device, providers in _PROVIDERS.items()}


@dataclass(frozen=True, eq=False)
class OnnxNetwork:
    """See `extractor.Network`.

    Attributes:
        path: the exported file.
        form: what it counts in, by its own account: exact, fp16, int8.
    """

    session: onnxruntime.InferenceSession
    identity: ModelIdentity
    width: int
    device: str
    size: int
    path: Path
    form: str

    @property
    def library(self) -> str:
        import onnxruntime

        return f"onnxruntime {onnxruntime.__version__}"

    @property
    def threads(self) -> int:
        return int(self.session.get_session_options().intra_op_num_threads)

    @contextmanager
    def one_thread(self) -> Iterator[OnnxNetwork]:
        yield replace(self, session=open_session(read_onnx(self.path), self.path, self.device, threads=1))

    def squash(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        check_image(image)
        return squash(image, self.size)

    def __call__(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        (descriptors,) = self.session.run(None, {self.session.get_inputs()[0].name: images})
        return descriptors


def open_onnx(weights: str, precision: str, device: str, projection: str, preprocessor: Preprocessor) -> OnnxNetwork:
    """What `Extractor.open` asks of ONNX Runtime; the arguments are its.

    Raises:
        UserError: no such weights, no ONNX Runtime, not that device here, or a file that is something else.
    """
    return open_exported(onnx_path(weights, projection), precision, device, preprocessor)


def open_exported(path: Path, precision: str, device: str, preprocessor: Preprocessor) -> OnnxNetwork:
    """An exported file, whatever it is called; else as `open_onnx`."""
    session = open_session(read_onnx(path), path, device)
    notes = session.get_modelmeta().custom_metadata_map
    identity, made = identity_of(notes, path), notes.get(PRECISION_KEY, "")
    if precision == "exact" and made != "exact":
        raise UserError(
            f"ONNX file {path} was exported with precision '{made}'; nodes run it with precision:=fast; for d2vpr "
            "commands export it without --precision"
        )
    if identity.preprocessing != preprocessor.hash:
        raise UserError(
            f"ONNX file {path} ({identity.architecture}) was made for another preprocessing ({identity.preprocessing} "
            f"against {preprocessor.hash} here); {WAY_OUT}"
        )
    width = _width(session, preprocessor.size, path)
    network = OnnxNetwork(session, identity, width, running_device(session), preprocessor.size, path, made)
    try:
        tried = network(np.zeros((1, preprocessor.size, preprocessor.size, 3), np.uint8))
    except Exception as error:  # ONNX Runtime's own exceptions have no common base
        raise cannot_run(path, error) from None
    if tried.shape != (1, width) or not np.isclose(np.linalg.norm(tried), 1.0, atol=1e-3):
        raise UserError(f"ONNX file {path} gives no descriptors of unit length; {WAY_OUT}")
    if network.device != "cpu":
        _check_device(network)
    return network


def _check_device(network: OnnxNetwork) -> None:
    """Hold what a GPU or a TensorRT engine computes against the processor.

    Raises:
        UserError: they differ too much: half precision lost something on the way.
    """
    pictures = trial(network.squash)
    processor = replace(network, session=open_session(read_onnx(network.path), network.path, "cpu"), device="cpu")
    kept = compare(described(processor, pictures), described(network, pictures))
    if kept.refusal:
        raise UserError(
            f"ONNX file {network.path} on {network.device} does not agree with the processor ({kept.refusal}); use "
            "device 'cuda' or 'cpu', or export with --precision exact"
        )


def open_session(model: bytes, path: Path, device: str, threads: int = 0) -> onnxruntime.InferenceSession:
    """A session over a checked model on `auto`, `cpu`, `cuda` or `tensorrt`; `auto` takes the fastest there is.

    Raises:
        UserError: no ONNX Runtime, it cannot run on the device here, or not this model.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(
            f"backend 'onnxruntime' needs ONNX Runtime ({error}); `pip install d2vpr_ros[onnx]`, or on a Jetson "
            "NVIDIA's wheel of onnxruntime-gpu"
        ) from None
    here = onnxruntime.get_available_providers()
    if device == "auto":
        device = (
            "cuda" if "CUDAExecutionProvider" in here else "cpu"
        )  # TensorRT builds an engine for minutes: on request
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only; what concerns the user is said here
    options.intra_op_num_threads = threads or _threads()
    wanted = [(provider, _options(provider)) for provider in _PROVIDERS[device] if provider in here]
    try:
        session = onnxruntime.InferenceSession(model, options, providers=wanted) if wanted else None
    except Exception as error:  # its own exceptions have no common base
        raise cannot_run(path, error) from None
    if session is None or running_device(session) != device:
        known = ", ".join(_DEVICES[provider] for provider in here if provider in _DEVICES)
        raise UserError(
            f"device '{device}' was asked for, but ONNX Runtime {onnxruntime.__version__} runs here on {known} only; "
            "install onnxruntime-gpu with the CUDA (and TensorRT) it was built for, or use device 'auto'"
        )
    return session


def cannot_run(path: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:200]
    return UserError(f"ONNX file {path} cannot be run by ONNX Runtime ({reason}); {WAY_OUT}")


def _options(provider: str) -> dict[str, str]:
    """TensorRT keeps the engine that it builds for minutes; the rest is as they come."""
    if provider != "TensorrtExecutionProvider":
        return {}
    return {"trt_engine_cache_enable": "True", "trt_engine_cache_path": str(cache_folder() / "tensorrt")}


def running_device(session: onnxruntime.InferenceSession) -> str:
    """The device that a session really runs on first: a provider that fails to start is left out without an error."""
    return _DEVICES.get(session.get_providers()[0], "cpu")


def _threads() -> int:
    """As many as there are cores to this process, unless OMP_NUM_THREADS says how many, as it does to torch."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdecimal() and int(asked) > 0 else len(os.sched_getaffinity(0))


def _width(session: onnxruntime.InferenceSession, size: int, path: Path) -> int:
    """Numbers in a descriptor.

    Raises:
        UserError: the graph takes or gives something else than images and descriptors.
    """
    inputs, outputs = ([(end.type, list(end.shape)) for end in ends] for ends in _ends(session))
    match inputs, outputs:
        case [("tensor(uint8)", [_, int(rows), int(columns), 3])], [("tensor(float)", [_, int(width)])] if (
            rows == columns == size
        ):
            return width
    raise UserError(
        f"ONNX file {path} takes {inputs} and gives {outputs}; expected uint8 (N, {size}, {size}, 3) and float32 "
        f"(N, numbers); {WAY_OUT}"
    )


def _ends(session: onnxruntime.InferenceSession) -> tuple[Sequence[Any], Sequence[Any]]:
    return session.get_inputs(), session.get_outputs()
