"""Write a trained network as weights to hand out: float16 safetensors that say what they are and where they come from.

    python -m models.export_weights --run RUN --out mine.safetensors --licence Apache-2.0
    python -m models.export_weights --weights FILE --out mine.safetensors --note "what it was trained on"

RUN is a folder that models/distill.py or models/finetune.py left: its best.safetensors is taken, else last.safetensors,
else what is in checkpoints/last.ckpt; recipe, data and revision come from its config.yaml and run.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.errors import UserError
from d2vpr_ros.model import CONFIGS, D2VPR, CricaVPR, load_checkpoint
from d2vpr_ros.model.checkpoint import load_strictly
from d2vpr_ros.weights.float16 import float16_file

MOST_BYTES = {"nano": 8_400_000, "small": 56_000_000}
"""Of the bundled weights, by size."""
STUDENT = "student."
"""What the trainer's checkpoints put in front of the network's names."""
WEIGHTS_OF_A_RUN = ("best.safetensors", "last.safetensors")


def git_revision() -> str:
    """Of the repository this file lies in, with a mark if something is uncommitted; `unknown` outside of one."""
    here = Path(__file__).parent
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=here, capture_output=True, text=True, check=False
    )
    return described.stdout.strip() or "unknown"


def export_weights(model: D2VPR, out: Path, town_seeds: tuple[int, int], recipe: str, data: str) -> str:
    """Write the bundled weights to `out` and return their SHA-256.

    Args:
        model: trained.
        out: a .safetensors file.
        town_seeds: the first and last one trained on.
        recipe: the YAML text it was trained by.
        data: in words.

    Raises:
        ValueError: a weight does not fit into float16, or the file is too large to be bundled.
    """
    notes = {
        "town_seeds": json.dumps({"first": town_seeds[0], "last": town_seeds[1]}),
        "recipe": recipe,
        "data": data,
        "git_revision": git_revision(),
    }
    sha256 = write_float16(model, out, notes)
    most = MOST_BYTES[model.config.name]
    if out.stat().st_size > most:
        raise ValueError(f"{out} has {out.stat().st_size} bytes, more than {most}")
    return sha256


def write_float16(model: D2VPR | CricaVPR, out: Path, notes: Mapping[str, str]) -> str:
    """Write `out` and return its SHA-256; the notes gain the preprocessing that the network was trained with.

    Raises:
        ValueError: a weight is not finite, or out of float16's range.
    """
    content = float16_file(model, {"preprocessing": Preprocessor().hash, **notes})
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_suffix(".partial")
    partial.write_bytes(content)
    partial.rename(out)
    return hashlib.sha256(content).hexdigest()


def read_run(folder: Path) -> tuple[D2VPR | CricaVPR, dict[str, str]]:
    """The network of a run folder and what the folder says of it, for the notes.

    Raises:
        UserError: it is no run folder, or has no weights yet.
    """
    config, facts = folder / "config.yaml", folder / "run.json"
    if not config.is_file() or not facts.is_file():
        raise UserError(f"{folder}: no config.yaml and run.json there; expected the --out of a training run")
    known = json.loads(facts.read_text(encoding="utf-8"))
    taken = next((folder / name for name in WEIGHTS_OF_A_RUN if (folder / name).is_file()), None)
    if taken is not None:
        model = load_checkpoint(taken)
    else:
        taken = folder / "checkpoints" / "last.ckpt"
        model = read_trainer_checkpoint(taken)
    notes = {
        "recipe": config.read_text(encoding="utf-8"),
        "data": str(known.get("data_described", "")),
        "data_fingerprint": str(known.get("data_fingerprint", "")),
        "git_revision": str(known.get("git_revision", "")),
        "starts_from": json.dumps(
            {name: each.get("sha256") for name, each in known.get("starts_from", {}).items()}, sort_keys=True
        ),
        "taken_from": taken.relative_to(folder).as_posix(),
    }
    return model, notes


def read_trainer_checkpoint(path: Path) -> D2VPR:
    """The student in a checkpoint of the trainer, read as data.

    Raises:
        UserError: there is none, it holds more than data, or no student.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint, so the run has no weights yet") from None
    except (pickle.UnpicklingError, RuntimeError, KeyError, TypeError, EOFError, ValueError) as error:
        raise UserError(f"{path}: not a checkpoint of the trainer ({type(error).__name__})") from None
    own = {name.removeprefix(STUDENT): tensor for name, tensor in state.items() if name.startswith(STUDENT)}
    token = own.get("backbone.cls_token")
    config = next((each for each in CONFIGS.values() if token is not None and token.shape[-1] == each.width), None)
    if config is None:
        raise UserError(f"{path}: contains no student of a known size ({', '.join(CONFIGS)})")
    model = D2VPR(config, cross_image_encoder=any(name.startswith("encoder.") for name in own))
    load_strictly(model, own, path)
    return model.eval()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", type=Path, help="folder of a training run")
    source.add_argument("--weights", type=Path, help="a file of weights")
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--licence", default="not stated", help="of these weights (default: not stated)")
    parser.add_argument("--note", default="", help="for whoever finds the file: what it is for, what it can't do")
    arguments = parser.parse_args()
    try:
        model, notes = (
            read_run(arguments.run)
            if arguments.run
            else (load_checkpoint(arguments.weights), {"taken_from": arguments.weights.name})
        )
        card = {"licence": arguments.licence, "note": arguments.note}
        try:
            sha256 = write_float16(model, arguments.out, {**notes, **card})
        except ValueError as error:
            raise UserError(f"{arguments.out}: cannot be written: {error}") from None
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    parameters = sum(each.numel() for each in model.parameters())
    print(
        f"{arguments.out}: {parameters / 1e6:.2f} M parameters, {arguments.out.stat().st_size} bytes, SHA-256 {sha256}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
