"""Write a trained network as bundled weights: float16 safetensors with its architecture and where it comes from."""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save

from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.model import D2VPR
from models.sorted_header import sort_header

MOST_BYTES = 8_400_000


def git_revision() -> str:
    """Of the repository this file lies in, with a mark if something is uncommitted; `unknown` outside of one."""
    here = Path(__file__).parent
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=here, capture_output=True, text=True, check=False
    )
    return described.stdout.strip() or "unknown"


def export_weights(model: D2VPR, out: Path, town_seeds: tuple[int, int], recipe: str, data: str) -> str:
    """Write `out` and return its SHA-256.

    Args:
        model: trained; matrices are stored as float16, BatchNorm statistics as float32 (their range is wide).
        out: a .safetensors file.
        town_seeds: the first and last one trained on.
        recipe: the YAML text it was trained by.
        data: in words.
    """
    state = {
        name: tensor.float().contiguous() if "running_" in name else tensor.half().contiguous()
        for name, tensor in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    } | {name: tensor for name, tensor in model.state_dict().items() if name.endswith("num_batches_tracked")}
    if not all(torch.isfinite(tensor.float()).all() for tensor in state.values()):
        raise ValueError("a weight is not finite, or out of float16's range")
    metadata = {
        "architecture": json.dumps(asdict(model.config)),
        "preprocessing": Preprocessor().hash,
        "town_seeds": json.dumps({"first": town_seeds[0], "last": town_seeds[1]}),
        "recipe": recipe,
        "data": data,
        "git_revision": git_revision(),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(sort_header(save(state, metadata)))
    if out.stat().st_size > MOST_BYTES:
        raise ValueError(f"{out} has {out.stat().st_size} bytes, more than {MOST_BYTES}")
    return hashlib.sha256(out.read_bytes()).hexdigest()
