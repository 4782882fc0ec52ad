"""The precision presets: `exact` is float32; `fast` is what this machine computes faster without a loss that counts.

`fast` tries the forms that may pay here, once: each has to describe test pictures as float32 does (cosine 0.999 or
more on every one) and to be faster by a tenth or more. The best one is taken, else float32, and the report says why.
What was found is kept in the user's cache by machine, torch and weights, so the next start finds it there.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from d2vpr_ros.describe.gate_pictures import gate_pictures
from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.errors import UserError
from d2vpr_ros.model import FusedD2VPR
from d2vpr_ros.model.reduced import half, int8
from d2vpr_ros.share import cache_folder

PRESETS = ("exact", "fast")
MIN_COSINE = 0.999
"""Least cosine to float32 on every picture that a form is accepted with."""
MIN_GAIN = 1.1
"""Times float32's speed that a form is accepted with; less is not worth another rounding."""

MATRIX_UNITS = {
    "amx_bf16": "bfloat16",
    "avx512_bf16": "bfloat16",
    "amx_int8": "int8",
    "avx512_vnni": "int8",
    "avx_vnni": "int8",
}
"""Flags of /proc/cpuinfo that name units for a form; with them `fast` is expected to pay."""

_ROUNDS = 9
_REVISION = 1  # of what is measured: raise it when the forms change, so that no old finding is used
FORMS: dict[str, Callable[[FusedD2VPR], FusedD2VPR]] = {
    "float32": lambda model: model,
    "bfloat16": lambda model: half(model, torch.bfloat16),
    "float16": lambda model: half(model, torch.float16),
    "int8": int8,
}
"""How each form is made of the inference form."""


@dataclass(frozen=True)
class PrecisionReport:
    """What a preset came to.

    Attributes:
        preset: what was asked for.
        form: what runs: float32, bfloat16, float16 or int8.
        cosine: least cosine to float32 over the test pictures.
        gain: times as fast as float32, one image at a time, when it was measured.
        reason: in one line, why this form.
    """

    preset: str
    form: str
    cosine: float
    gain: float
    reason: str


def apply(
    model: FusedD2VPR,
    preset: str,
    device: str | torch.device,
    *,
    images: Sequence[npt.NDArray[np.uint8]] | None = None,
    weights_sha256: str = "",
    cache: Path | None = None,
) -> tuple[FusedD2VPR, PrecisionReport]:
    """The form of a network that a preset means on this machine.

    Args:
        model: the inference form, float32, on `device`; left as it is.
        preset: one of PRESETS.
        device: `cpu` or `cuda`.
        images: RGB pictures (H, W, 3) uint8 to try on, photographs of the site at best; default: `gate_pictures`.
            Given ones are tried anew each time: a finding in the cache was made on others.
        weights_sha256: of the weights file, where the caller knows it; else the weights are hashed here.
        cache: the file of findings; default: precision.json in `share.cache_folder()`.

    Raises:
        UserError: no such preset.
    """
    if preset not in PRESETS:
        raise UserError(f"precision '{preset}' is not known; choose one of {', '.join(PRESETS)}")
    if preset == "exact":
        return model, PrecisionReport(preset, "float32", 1.0, 1.0, "float32, as the weights were trained")
    device = torch.device(device)
    file = cache or cache_folder() / "precision.json"
    key = _key(weights_sha256 or _weights_hash(model), device)
    found = _read(file).get(key) if images is None else None
    if found is None:
        found = _best(model, device, images)
        if images is None:
            _write(file, key, found)
    return FORMS[found.form](model), found


def processor_flags() -> list[str]:
    """The flags of MATRIX_UNITS that this CPU has; none where /proc/cpuinfo does not say."""
    info = Path("/proc/cpuinfo")
    words = set(info.read_text(errors="replace").split()) if info.is_file() else set()
    return [flag for flag in MATRIX_UNITS if flag in words]


def least_cosine(model: FusedD2VPR, other: FusedD2VPR, batch: Tensor) -> float:
    """Over normalised images (N, 3, S, S), one at a time; nan if a descriptor is not finite."""
    with torch.inference_mode():
        return float(torch.stack([(model(image) * other(image)).sum() for image in torch.split(batch, 1)]).min())


def _best(model: FusedD2VPR, device: torch.device, images: Sequence[npt.NDArray[np.uint8]] | None) -> PrecisionReport:
    """Try each form that may pay here."""
    size = model.backbone.side * 14
    batch = Preprocessor(size)(list(gate_pictures(8, size) if images is None else images)).to(device)
    taken, refused = PrecisionReport("fast", "float32", 1.0, 1.0, ""), []
    for name in _candidates(device):
        try:
            reduced = FORMS[name](model)
            cosine = least_cosine(model, reduced, batch)
        except (RuntimeError, AttributeError, NotImplementedError) as error:
            refused.append(f"{name}: this torch cannot ({str(error).splitlines()[0][:80]})")
            continue
        if not cosine >= MIN_COSINE:
            refused.append(f"{name}: cosine to float32 {cosine:.4f}, less than {MIN_COSINE}")
            continue
        gain = _gain(model, reduced, batch[:1])
        if gain < MIN_GAIN:
            refused.append(f"{name}: {gain:.2f} times float32's speed, less than {MIN_GAIN}")
        elif gain > taken.gain:
            taken = PrecisionReport("fast", name, cosine, gain, "")
    if device.type == "cpu":
        refused.append(f"matrix units: {', '.join(processor_flags()) or 'none'}")
    if taken.form == "float32":
        reason = "no form is faster and close enough, so exact float32 runs"
    else:
        reason = f"{taken.form}, {taken.gain:.2f} times float32's speed, cosine {taken.cosine:.4f}"
    return PrecisionReport("fast", taken.form, taken.cosine, taken.gain, "; ".join([reason, *refused]))


def _candidates(device: torch.device) -> list[str]:
    if device.type == "cuda":
        return ["float16", "bfloat16"]
    units = {MATRIX_UNITS[flag] for flag in processor_flags()}
    # without units for it, bfloat16 is emulated and takes many times as long: not worth the start-up time
    return ["int8", "bfloat16"] if "bfloat16" in units else ["int8"]


def _gain(model: FusedD2VPR, reduced: FusedD2VPR, image: Tensor) -> float:
    """Times as fast: the median of alternating rounds."""
    ratios = []
    with torch.inference_mode():
        for number in range(_ROUNDS + 2):
            first, second = _seconds(model, image), _seconds(reduced, image)
            if number >= 2:  # two to warm up
                ratios.append(first / second)
    return statistics.median(ratios)


def _seconds(model: FusedD2VPR, image: Tensor) -> float:
    if image.is_cuda:
        torch.cuda.synchronize()
    started = time.perf_counter()
    model(image).cpu()
    return time.perf_counter() - started


def _key(weights: str, device: torch.device) -> str:
    """What a finding depends on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.is_file() else []
    processor = next((line for line in lines if line.startswith("model name")), platform.processor())
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{processor} {processor_flags()}"
    parts = (_REVISION, where, torch.get_num_threads(), torch.__version__, weights)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _weights_hash(model: FusedD2VPR) -> str:
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _read(file: Path) -> dict[str, PrecisionReport]:
    """The findings kept so far; none from a file that is missing, damaged or of another shape."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        found = {str(key): PrecisionReport(**value) for key, value in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
    return {
        key: value
        for key, value in found.items()
        if value.preset == "fast"
        and value.form in FORMS
        and isinstance(value.reason, str)
        and isinstance(value.cosine, float)
        and isinstance(value.gain, float)
    }


def _write(file: Path, key: str, found: PrecisionReport) -> None:
    """Keep a finding; where nothing can be written, the next start measures again."""
    content = {name: asdict(value) for name, value in {**_read(file), key: found}.items()}
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_text(json.dumps(content, indent=1), encoding="utf-8")
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)
