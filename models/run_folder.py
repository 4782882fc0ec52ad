"""What a run leaves behind.

FOLDER/config.yaml (the recipe), run.json (git revision, data, fingerprint, versions), metrics.jsonl, tensorboard/,
checkpoints/last.ckpt, and weights: last.safetensors, best.safetensors.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning import Trainer
from pytorch_lightning.utilities import rank_zero_only
from safetensors.torch import save

from d2vpr_ros.errors import UserError
from d2vpr_ros.model import D2VPR
from d2vpr_ros.weights.sorted_header import sort_header
from models.export_weights import git_revision


def is_first() -> bool:
    """Whether this is the one process that writes and prints, also before the trainer has made the others."""
    return not getattr(rank_zero_only, "rank", 0)


def describe_run(folder: Path, config: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Writes config.yaml and run.json; a folder that holds another recipe's or other data's run is refused.

    Raises:
        UserError: the folder belongs to another run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, notes = folder / "config.yaml", folder / "run.json"
    text = yaml.safe_dump(json.loads(json.dumps(config)), sort_keys=False)
    if path.exists() and path.read_text() != text:
        raise UserError(f"{path}: the folder contains a run of another recipe; give another folder, or remove this one")
    path.write_text(text)
    if notes.exists():
        before = json.loads(notes.read_text()).get("data_fingerprint")
        if before != facts["data_fingerprint"]:
            raise UserError(
                f"{notes}: the run began on data with fingerprint {before}, this has {facts['data_fingerprint']}; "
                "give another folder"
            )
    libraries = {name: version(name) for name in ("torch", "pytorch-lightning", "pytorch-metric-learning")}
    notes.write_text(json.dumps({**facts, "git_revision": git_revision(), "libraries": libraries}, indent=1) + "\n")


def write_metrics(trainer: Trainer, path: Path, values: Mapping[str, float]) -> None:
    """One line of metrics.jsonl, and the same for TensorBoard; by the first process only."""
    if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
        with path.open("a") as file:
            file.write(json.dumps({"step": trainer.global_step, **values}) + "\n")
        for logger in trainer.loggers:
            logger.log_metrics(dict(values), trainer.global_step)


def write_weights(model: D2VPR, path: Path) -> None:
    """Float32 safetensors with the network's architecture, as `load_checkpoint` reads them."""
    state = {name: tensor.detach().cpu().float().contiguous() for name, tensor in model.state_dict().items()}
    notes = {"architecture": json.dumps(dataclasses.asdict(model.config))}
    partial = path.with_suffix(".partial")
    partial.write_bytes(sort_header(save(state, notes)))
    partial.rename(path)
