"""The command `d2vpr`: finds the verb that was asked for, and says in one line what is wrong with a call.

A verb is one module: its docstring is the help (first line: the summary), `add_arguments(parser)` declares its
arguments, `main(args)` runs it and returns the exit status. Only the verb that runs is imported.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import d2vpr_ros
from d2vpr_ros.errors import UserError

VERBS = {
    ("bag", "from-images"): "d2vpr_ros.cli.bag_from_images",
    ("bag", "info"): "d2vpr_ros.cli.bag_info",
    ("bench",): "d2vpr_ros.cli.bench",
    ("calibrate",): "d2vpr_ros.cli.calibrate",
    ("demo",): "d2vpr_ros.cli.demo",
    ("doctor",): "d2vpr_ros.cli.doctor",
    ("evaluate",): "d2vpr_ros.cli.evaluate",
    ("evaluate-loops",): "d2vpr_ros.cli.evaluate_loops",
    ("explain",): "d2vpr_ros.cli.explain",
    ("export",): "d2vpr_ros.cli.export",
    ("map", "append"): "d2vpr_ros.cli.map_append",
    ("map", "build"): "d2vpr_ros.cli.map_build",
    ("map", "check"): "d2vpr_ros.cli.map_check",
    ("map", "close"): "d2vpr_ros.cli.map_close",
    ("map", "export"): "d2vpr_ros.cli.map_export",
    ("map", "info"): "d2vpr_ros.cli.map_info",
    ("map", "landmarks"): "d2vpr_ros.cli.map_landmarks",
    ("map", "merge"): "d2vpr_ros.cli.map_merge",
    ("map", "prune"): "d2vpr_ros.cli.map_prune",
    ("map", "push"): "d2vpr_ros.cli.map_push",
    ("map", "view"): "d2vpr_ros.cli.map_view",
    ("match",): "d2vpr_ros.cli.match",
    ("sim", "drive"): "d2vpr_ros.cli.sim_drive",
    ("weights", "fetch"): "d2vpr_ros.cli.weights_fetch",
    ("weights", "list"): "d2vpr_ros.cli.weights_list",
}

_USAGE_STATUS = 2
_INTERRUPTED_STATUS = 130  # 128 + SIGINT, as shells have it
_BROKEN_PIPE_STATUS = 141  # 128 + SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run `d2vpr ARGV`; the exit status is 0, the verb's own, 2 for a user's mistake, 130 after Ctrl-C."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        status = run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return _USAGE_STATUS
    except KeyboardInterrupt:
        return _INTERRUPTED_STATUS
    except BrokenPipeError:  # `d2vpr ... | head`: whoever read has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE_STATUS
    return status


def run(words: Sequence[str]) -> int:
    """Find the verb at the beginning of the words and run it on the rest.

    Raises:
        UserError: there is no such verb; the nearest ones are named.
    """
    if list(words[:1]) == ["--version"]:
        print(f"d2vpr_ros {d2vpr_ros.__version__}")
        return 0
    named = _leading_names(words)
    for verb in (tuple(named[:2]), tuple(named[:1])):
        if verb in VERBS:
            return _run_verb(verb, words[len(verb) :])
    if named and not any(verb[0] == named[0] for verb in VERBS):
        raise UserError(_unknown(named[:1], sorted({verb[0] for verb in VERBS})))
    if len(named) > 1:
        raise UserError(_unknown(named[:2], [" ".join(verb) for verb in VERBS if verb[0] == named[0]]))
    if words and words[-1].startswith("-") and words[-1] not in ("-h", "--help"):
        raise UserError(f"option '{words[-1]}' without a verb; `d2vpr --help` lists the verbs")
    print(_overview(named))
    return 0


def _run_verb(verb: tuple[str, ...], words: Sequence[str]) -> int:
    args = parser_of(verb).parse_args(words)
    return int(importlib.import_module(VERBS[verb]).main(args))


def parser_of(verb: tuple[str, ...]) -> argparse.ArgumentParser:
    """The parser of the words behind a verb."""
    module = importlib.import_module(VERBS[verb])
    parser = argparse.ArgumentParser(
        prog=" ".join(("d2vpr", *verb)),
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    return parser


def _leading_names(words: Sequence[str]) -> list[str]:
    names: list[str] = []
    for word in words[:2]:
        if word.startswith("-"):
            break
        names.append(word)
    return names


def _unknown(named: Sequence[str], known: Sequence[str]) -> str:
    asked = " ".join(named)
    near = difflib.get_close_matches(asked, known, n=2)
    hint = f"did you mean {' or '.join(f'`d2vpr {name}`' for name in near)}?" if near else f"known: {', '.join(known)}"
    return f"`d2vpr {asked}` is not a command; {hint}"


def _overview(named: Sequence[str]) -> str:
    """The help of `d2vpr`, or of one noun such as `d2vpr map`."""
    shown = {" ".join(verb): _summary(module) for verb, module in VERBS.items() if verb[: len(named)] == tuple(named)}
    width = max(map(len, shown))
    return "\n".join(
        [
            f"usage: {' '.join(('d2vpr', *named, 'VERB'))} ...",
            "",
            *([] if named else [d2vpr_ros.__doc__ or "", ""]),
            *(f"  d2vpr {verb:{width}}  {summary}" for verb, summary in shown.items()),
            "",
            "`d2vpr VERB --help` lists the options of a verb; `d2vpr --version` prints the version.",
        ]
    )


def _summary(module: str) -> str:
    """The first line of a module's docstring, read without importing the module: a help page needs no torch."""
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None, f"{module} is in VERBS and not in the package"
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0]


if __name__ == "__main__":
    sys.exit(main())
