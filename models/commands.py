"""What the training scripts have in common on the command line."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from d2vpr_ros.errors import UserError
from models.benchmarks import Benchmark
from models.layouts import read_benchmark
from models.protocols import PROTOCOLS
from models.recipes import Recipe, read_recipe
from models.run_folder import is_first
from models.runs import Machine

CONFIGS = Path(__file__).parent / "configs"


def add_run_arguments(parser: argparse.ArgumentParser, config: str) -> None:
    """The recipe, its data, where the run goes, and what it runs on."""
    parser.add_argument("--config", type=Path, default=CONFIGS / config, help=f"the recipe (default: {config})")
    parser.add_argument("--data", type=Path, required=True, help="what `data: kind` of the recipe names")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; one that was killed is continued")
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    parser.add_argument("--precision", choices=("32-true", "16-mixed", "bf16-mixed"), help="instead of the recipe's")
    parser.add_argument("--clip", type=float, help="longest gradient, instead of the recipe's")
    parser.add_argument("--seed", type=int, help="instead of the recipe's")
    parser.add_argument("--workers", type=int, help="processes that read images, instead of the recipe's")
    parser.add_argument(
        "--validation",
        nargs=2,
        metavar=("NAME", "FOLDER"),
        help=f"keep the weights with the best recall on it, measured each epoch; NAME: {', '.join(PROTOCOLS)}",
    )
    parser.add_argument("--accelerator", default="auto", choices=("auto", "cpu", "gpu"))
    parser.add_argument("--devices", default="auto", help="processes on this machine, one for each GPU (default: auto)")
    parser.add_argument("--nodes", type=int, default=1, help="machines (default: 1)")
    parser.add_argument("--fast-dev-run", action="store_true", help="one batch and no files: does it fit together?")


def machine_of(arguments: argparse.Namespace) -> Machine:
    if arguments.devices != "auto" and not (arguments.devices.isdecimal() and int(arguments.devices)):
        raise UserError(f"--devices {arguments.devices}: expected auto or a number from 1 on")
    return Machine(arguments.accelerator, arguments.devices, arguments.nodes, arguments.fast_dev_run)


def recipe_of(arguments: argparse.Namespace, stage: str) -> Recipe:
    """The recipe with what the command line changes in it.

    Raises:
        UserError: see `read_recipe`.
    """
    recipe = read_recipe(arguments.config, stage)
    names = ("epochs", "precision", "clip", "seed", "workers")
    changed = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    return dataclasses.replace(recipe, **changed)


def validation_of(arguments: argparse.Namespace) -> Benchmark | None:
    """The benchmark that chooses the best weights, where one is named.

    Raises:
        UserError: there is no such benchmark, or not in that folder.
    """
    if arguments.validation is None:
        return None
    name, folder = arguments.validation
    if name not in PROTOCOLS:
        raise UserError(f"--validation {name}: no such benchmark; expected {', '.join(PROTOCOLS)}")
    return read_benchmark(PROTOCOLS[name], Path(folder))


def bundled_parser(description: str | None, config: str, cache_gb: int) -> argparse.ArgumentParser:
    """The arguments of a script that trains bundled weights from footage in one go.

    Args:
        cache_gb: how large the folder gets that keeps what is made on the way.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=CONFIGS / config)
    parser.add_argument("--footage", type=Path, required=True, help="folder with ie_tower and opensfm_lund")
    parser.add_argument("--cache", type=Path, required=True, help=f"folder for what is made on the way, {cache_gb} GB")
    parser.add_argument("--out", type=Path, default=CONFIGS.parent / "weights")
    parser.add_argument("--accelerator", default="auto", choices=("auto", "cpu", "gpu"))
    parser.add_argument("--fast-dev-run", action="store_true", help="one batch a stage, no weights")
    return parser


def train_bundled(train: Callable[[Machine], Path], asked: argparse.Namespace) -> int:
    """Train on one processor or GPU as `bundled_parser` was asked, with a log; gives the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    machine = Machine(asked.accelerator, "1", 1, asked.fast_dev_run)
    return report(lambda: train(machine), asked.fast_dev_run)


def report(run: Callable[[], Path], fast_dev_run: bool) -> int:
    """Prints the file that `run` made; a user's mistake is one line. Gives the exit status."""
    try:
        made = run()
        if is_first():
            print("it fits together" if fast_dev_run else made)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
