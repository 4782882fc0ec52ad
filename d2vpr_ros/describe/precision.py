"""The precision presets: `exact` is float32; `fast` is what this machine computes faster without a loss that counts.

`fast` tries the forms that may pay here, once: each has to be faster by a tenth or more, to describe test pictures as
float32 does and to find the same places with them (describe/gate.py), and not to be known to lose recall on footage.
The best one is taken, else float32, and the report says why. What was found is kept in the user's cache by machine,
torch, weights and pictures, so the next start finds it there.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from d2vpr_ros.describe.findings import MIN_GAIN, PrecisionReport, finding_key, read_findings, write_finding
from d2vpr_ros.describe.gate import Float32, Image, compare, described, trial
from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.describe.projection import Projection
from d2vpr_ros.errors import UserError
from d2vpr_ros.model import FusedD2VPR
from d2vpr_ros.model.reduced import half, int8
from d2vpr_ros.share import cache_folder

PRESETS = ("exact", "fast")
MATRIX_UNITS = {
    "amx_bf16": "bfloat16",
    "avx512_bf16": "bfloat16",
    "amx_int8": "int8",
    "avx512_vnni": "int8",
    "avx_vnni": "int8",
}
"""Flags of /proc/cpuinfo that name units for a form; with them `fast` is expected to pay."""

_ROUNDS = 9
_REVISION = 2  # of what is measured: raise it when the forms change, so that no old finding is used
FORMS: dict[str, Callable[[FusedD2VPR], FusedD2VPR]] = {
    "float32": lambda model: model,
    "bfloat16": lambda model: half(model, torch.bfloat16),
    "float16": lambda model: half(model, torch.float16),
    "int8": int8,
}
"""How each form is made of the inference form."""


def apply(
    model: FusedD2VPR,
    preset: str,
    device: str | torch.device,
    *,
    images: Sequence[Image] | None = None,
    weights_sha256: str = "",
    projection: Projection | None = None,
    refused: Mapping[str, str] | None = None,
    cache: Path | None = None,
) -> tuple[FusedD2VPR, PrecisionReport]:
    """The form of a network that a preset means on this machine.

    Args:
        model: the inference form, float32, on `device`; left as it is.
        preset: one of PRESETS.
        device: `cpu` or `cuda`.
        images: RGB pictures (H, W, 3) uint8 of different places to try on, the map's at best; default: drawn ones.
        weights_sha256: of the weights file, where the caller knows it; else the weights are hashed here.
        projection: what shortens the descriptors that are compared.
        refused: forms that are not to be taken, each with the reason (`gate.footage_refusals`).
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
    known = dict(refused or {})
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else " ".join(processor_flags())
    libraries = (torch.__version__, torch.get_num_threads())
    weights = (weights_sha256 or _weights_hash(model), projection.hash if projection else "")
    key = finding_key(_REVISION, where, libraries, weights, known, images=images)
    found = read_findings(file).get(key)
    if found is None or found.form not in FORMS:
        found = _best(model, device, images, projection, known)
        write_finding(file, key, found)
    return FORMS[found.form](model), found


def processor_flags() -> list[str]:
    """The flags of MATRIX_UNITS that this CPU has; none where /proc/cpuinfo does not say."""
    info = Path("/proc/cpuinfo")
    words = set(info.read_text(errors="replace").split()) if info.is_file() else set()
    return [flag for flag in MATRIX_UNITS if flag in words]


def descriptors(model: FusedD2VPR, pictures: Image, projection: Projection | None = None) -> Float32:
    """(N, D) float32 of (N, S, S, 3) uint8 pictures, one at a time as live."""
    device, prepare = next(model.parameters()).device, Preprocessor()

    def describe(picture: Image) -> Float32:
        with torch.inference_mode():
            on_device = torch.from_numpy(picture).permute(0, 3, 1, 2).to(device)
            whole: Float32 = model(prepare.normalise(on_device)).cpu().numpy()
        return projection(whole) if projection else whole

    return described(describe, pictures)


def _best(
    model: FusedD2VPR,
    device: torch.device,
    images: Sequence[Image] | None,
    projection: Projection | None,
    known: Mapping[str, str],
) -> PrecisionReport:
    """Try each form that may pay here; its speed first, which takes the least time."""
    prepare = Preprocessor()
    pictures = trial(prepare.squash, images)
    one = prepare([pictures[0]]).to(device)
    taken, exact, refusals = PrecisionReport("fast", "float32", 1.0, 1.0, ""), None, []
    for name in _candidates(device):
        if name in known:
            refusals.append(f"{name}: {known[name]}")
            continue
        try:
            reduced = FORMS[name](model)
            gain = _gain(model, reduced, one)
        except (RuntimeError, AttributeError, NotImplementedError) as error:
            refusals.append(f"{name}: this torch cannot ({str(error).splitlines()[0][:80]})")
            continue
        if gain < MIN_GAIN:
            refusals.append(f"{name}: {gain:.2f} times the speed of float32, less than {MIN_GAIN}")
            continue
        exact = descriptors(model, pictures, projection) if exact is None else exact
        kept = compare(exact, descriptors(reduced, pictures, projection))
        if kept.refusal:
            refusals.append(f"{name}: {kept.refusal}")
        elif gain > taken.gain:
            taken = PrecisionReport("fast", name, kept.cosine, gain, "")
    if device.type == "cpu":
        refusals.append(f"matrix units: {', '.join(processor_flags()) or 'none'}")
    if taken.form == "float32":
        reason = "no reduced precision is faster and accurate enough, so float32 runs"
    else:
        reason = (
            f"{taken.form}, {taken.gain:.2f} times the speed of float32, cosine {taken.cosine:.4f}, the same places"
        )
    return PrecisionReport("fast", taken.form, taken.cosine, taken.gain, "; ".join([reason, *refusals]))


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


def _weights_hash(model: FusedD2VPR) -> str:
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
