"""Reading weight files from strangers: as data, never as code."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from d2vpr_ros.errors import UserError
from d2vpr_ros.model.config import CONFIGS, AdapterWidths, D2VPRConfig
from d2vpr_ros.model.cricavpr import CricaVPR
from d2vpr_ros.model.d2vpr import D2VPR

_LISTED = 4  # names shown of each kind of mismatch; the count says how many more


def load_checkpoint(path: str | Path) -> D2VPR | CricaVPR:
    """The network that a weights file holds, in eval mode on the CPU in float32.

    Takes a state dict, a dict that has one under `model_state_dict`, either with or without the prefix `module.`
    (pickled by torch; read with `weights_only`), or safetensors. Which network it is follows from the names in it;
    its size from the file's own `architecture` note, else from the shapes.

    Raises:
        UserError: the file is missing, unreadable, or not such a network (missing, unexpected and mis-shaped names
            are listed).
    """
    path = Path(path)
    state, notes = read_state_dict(path)
    model = _empty_model(path, state, notes)
    load_strictly(model, state, path)
    return model.eval()


def read_state_dict(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a weights file by name (`module.` removed) and, from safetensors, its notes."""
    if not path.is_file():
        raise UserError(f"weights file {path} does not exist; give a bundled name ({', '.join(CONFIGS)}) or a file")
    notes: dict[str, str] = {}
    content: object
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                notes = file.metadata() or {}
                content = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"weights file {path} is not readable as safetensors ({error}); download it again"
            ) from None
    else:
        content = _unpickle_tensors(path)
    if isinstance(content, Mapping) and isinstance(content.get("model_state_dict"), Mapping):
        content = content["model_state_dict"]
    if not isinstance(content, Mapping):
        raise UserError(f"weights file {path} holds a {type(content).__name__}, expected a state dict of tensors")
    state = {str(name).removeprefix("module."): value for name, value in content.items() if isinstance(value, Tensor)}
    if not state:
        raise UserError(
            f"weights file {path} holds no tensors, expected the state dict of a D²-VPR or CricaVPR network"
        )
    return state, notes


def _unpickle_tensors(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, zipfile.BadZipFile, RuntimeError, EOFError, ValueError, KeyError, OSError):
        raise UserError(
            f"weights file {path} is not a plain file of tensors (torch.load with weights_only refused it; "
            "nothing in it was executed); expected a state dict saved by torch, or safetensors"
        ) from None


def _empty_model(path: Path, state: Mapping[str, Tensor], notes: Mapping[str, str]) -> D2VPR | CricaVPR:
    if "architecture" in notes:
        config = parse_architecture(notes["architecture"], path)
    elif "backbone.norm.weight" in state and "backbone.lin.weight" not in state:
        return CricaVPR()
    else:
        config = _config_by_width(state)
    return D2VPR(config, cross_image_encoder=any(name.startswith("encoder.") for name in state))


def _config_by_width(state: Mapping[str, Tensor]) -> D2VPRConfig:
    token = state.get("backbone.cls_token")
    for config in CONFIGS.values():
        if token is not None and token.shape[-1] == config.width:
            return config
    return CONFIGS["small"]  # what does not fit is then listed name by name


def parse_architecture(text: str, path: Path) -> D2VPRConfig:
    """The config that `json.dumps(dataclasses.asdict(config))` wrote into a weights file."""
    try:
        values: dict[str, Any] = json.loads(text)
        if set(values) == {"name"}:
            raise UserError(
                f"weights file {path} holds the network {str(values['name'])[:40]!r}, which does not describe whole "
                "pictures; expected the bundled 'nano' or another D²-VPR network"
            )
        values["adapter"] = AdapterWidths(**{name: int(value) for name, value in values["adapter"].items()})
        values["taps"] = tuple(int(tap) for tap in values["taps"])
        values["stem"] = tuple(values.get("stem", ()))  # files from before there was one lack it
        numbers = [value for name, value in values.items() if name not in ("name", "adapter", "taps", "stem")]
        if not all(type(value) is int and 0 < value <= 8192 for value in (*numbers, *values["stem"])):
            raise ValueError("a size is not a whole number between 1 and 8192")
        if set(values) != {field.name for field in fields(D2VPRConfig)}:
            raise ValueError("other fields than this version's")
        return D2VPRConfig(**values)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"weights file {path} describes an architecture this version does not know ({error}); "
            "use the version of d2vpr_ros that wrote it"
        ) from None


def load_strictly(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Copy `state` into `model`; every name and shape has to fit.

    Raises:
        UserError: lists the missing, unexpected and mis-shaped names.
    """
    expected = model.state_dict()
    missing = [name for name in expected if name not in state]
    unexpected = [name for name in state if name not in expected]
    misshaped = [
        f"{name} is {tuple(state[name].shape)} not {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if missing or unexpected or misshaped:
        kinds = {"missing": missing, "unexpected": unexpected, "mis-shaped": misshaped}
        found = "; ".join(_listed(kind, names) for kind, names in kinds.items() if names)
        raise UserError(f"weights file {path} is not a {type(model).__name__} checkpoint: {found}")
    model.load_state_dict({name: tensor.to(expected[name].dtype) for name, tensor in state.items()})


def _listed(kind: str, names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{len(names)} {kind} ({', '.join(names[:_LISTED])}{more})"
