"""The commands of the documentation, and whether verbs, options, modules and arguments in them exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from d2vpr_ros.cli.main import VERBS, parser_of
from d2vpr_ros.nodes import builder_settings, rtabmap_links, settings
from d2vpr_ros.nodes.launching import node_parameters, parameter_values

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
PARAMETERS = {
    "d2vpr_localizer": settings.PARAMETERS,
    "d2vpr_map_builder": builder_settings.PARAMETERS,
    "d2vpr_rtabmap_links": rtabmap_links.PARAMETERS,
}

_BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_DECLARED = re.compile(r'DeclareLaunchArgument\(\s*"(\w+)"')


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of every fenced block; `bash run` is one that the tests run."""
    return _BLOCK.findall(page.read_text(encoding="utf-8"))


def commands(text: str) -> list[list[str]]:
    """The commands of a block as words, without comments, assignments and what joins them."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        for part in re.split(r"&&|;(?= )|\|", re.sub(r"(^|\s)#.*", "", line)):
            try:
                words = shlex.split(part)
            except ValueError:  # a sentence in a block of output
                continue
            while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                words.pop(0)
            if words:
                found.append(words)
    return found


def trouble(words: list[str]) -> str | None:
    """What does not exist of the things that a command names; None if all do, or if it is no command of ours."""
    match words:
        case ["d2vpr", *rest]:
            return _verb(rest)
        case ["ros2", "launch", "d2vpr_ros", file, *arguments]:
            return _launch(file, arguments)
        case ["ros2", "run", "d2vpr_ros", node, *rest]:
            known = {parameter.name for parameter in PARAMETERS[node]}
            given = [rest[at + 1].partition(":=")[0] for at, word in enumerate(rest) if word == "-p"]
            return next((f"{node} has no parameter {name}" for name in given if name not in known), None)
        case ["ros2", "param", "set", node, name, _]:
            known = {parameter.name for parameter in PARAMETERS[node.strip("/")]}
            return None if name in known else f"{node} has no parameter {name}"
        case ["ros2", "service", "call", service, kind, *_]:
            row = f"| `~/{service.split('/')[-1]}` | {kind.replace('/srv/', '/')} |"
            return None if row in REFERENCE else f"the reference has no row {row}"
        case ["ros2", "topic", "echo", topic]:
            row = f"| `~/{topic.split('/')[-1]}` |"
            return None if row in REFERENCE else f"the reference has no row {row}"
    if "-m" in words and words[words.index("-m") + 1].startswith("models."):
        return _module(*words[words.index("-m") + 1 :])
    if words[0].endswith(("scripts/setup", "scripts/demo", "scripts/test")):
        return None if (ROOT / "scripts" / Path(words[0]).name).is_file() else f"there is no {words[0]}"
    return None


def _verb(words: list[str]) -> str | None:
    if words[0].startswith("-"):
        return None if words == ["--version"] or words == ["--help"] else f"d2vpr has no option {words[0]}"
    for verb in (tuple(words[:2]), tuple(words[:1])):
        if verb in VERBS:
            try:
                parser_of(verb).parse_args(words[len(verb) :])
            except SystemExit:
                return f"d2vpr {' '.join(words)} is refused by its parser"
            return None
    return f"d2vpr {' '.join(words[:2])} is no verb"


def _launch(file: str, arguments: list[str]) -> str | None:
    source = (ROOT / "launch" / file).read_text(encoding="utf-8")
    for included in re.findall(r'with_name\("([\w.]+)"\)', source):
        source += (ROOT / "launch" / included).read_text(encoding="utf-8")
        file = included
    parameters = node_parameters(ROOT / "config" / file.replace(".launch.py", ".yaml"))
    known = {*_DECLARED.findall(source), *(one.name for one in parameters)}
    given = dict(argument.split(":=", 1) for argument in arguments if ":=" in argument)
    parameter_values(parameters, given)  # refuses a value of another type
    return next((f"{file} has no argument {name}" for name in given if name not in known), None)


def _module(name: str, *options: str) -> str | None:
    source = ROOT / Path(*name.split(".")).with_suffix(".py")
    if not source.is_file():
        return f"there is no {name}"
    sources = [source, *_imported(source)]
    text = "".join(path.read_text(encoding="utf-8") for path in sources)
    named = [option for option in options if option.startswith("--")]
    return next((f"{name} has no option {option}" for option in named if f'"{option}"' not in text), None)


def _imported(source: Path) -> Iterator[Path]:
    """The modules of models/ that one imports: options are shared there."""
    for name in re.findall(r"from (models[\w.]*) import", source.read_text(encoding="utf-8")):
        path = ROOT / Path(*name.split(".")).with_suffix(".py")
        if path.is_file():
            yield path
