"""What the launch files make of their arguments. Nothing of ROS is imported here, and nothing that ROS does not bring:
`ros2 launch` runs with ROS's own Python, not with that of the package."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from d2vpr_ros.errors import UserError

_COMPRESSED = "/compressed"
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class NodeParameter:
    """A parameter of a node, its default and, in words, its meaning, as its parameter file in config/ has them."""

    name: str
    default: Any
    description: str


def node_parameters(file: Path) -> list[NodeParameter]:
    """The parameters of config/localize.yaml or config/build_map.yaml, in order."""
    text = file.read_text(encoding="utf-8")
    defaults = yaml.safe_load(text)["/**"]["ros__parameters"]
    found = []
    for comment, name in re.findall(r"((?: +# .*\n)+) +(\w+):", text):
        description = " ".join(line.strip(" #") for line in comment.splitlines())
        found.append(NodeParameter(name, defaults[name], description))
    return found


def parameter_values(parameters: Sequence[NodeParameter], given: Mapping[str, str]) -> dict[str, Any]:
    """What launch arguments, which are text, say of parameters; those that are empty say nothing.

    Raises:
        UserError: one is not of its parameter's type.
    """
    return {one.name: _read(one, text) for one in parameters if (text := given.get(one.name, ""))}


def flag(name: str, text: str) -> bool | None:
    """true, True, 1, false, False or 0, as launch takes them elsewhere; None if it is empty.

    Raises:
        UserError: it is something else.
    """
    if not text:
        return None
    if text.lower() not in _FLAGS:
        raise UserError(f"launch argument {name}:={text}; expected true or false")
    return _FLAGS[text.lower()]


def _read(parameter: NodeParameter, text: str) -> Any:
    name, default = parameter.name, parameter.default
    if isinstance(default, bool):
        return bool(flag(name, text))
    if isinstance(default, str):
        return str(Path(text).expanduser()) if text.startswith("~") else text  # no shell does it behind `map:=`
    try:
        if isinstance(default, list):
            parts = listed(text.strip("[]"))
            return parts if isinstance(default[0], str) else [float(part) for part in parts]
        return type(default)(text)
    except ValueError:
        kind = {int: "a whole number", float: "a number", list: "numbers as [0.3, 0.0, 1.2]"}[type(default)]
        raise UserError(f"launch argument {name}:={text}; expected {kind}, such as {default}") from None


def executable(name: str) -> dict[str, str]:
    """How a launch_ros Node finds a command of this package: where ROS looks, else where pip has put it."""
    from ament_index_python.packages import PackageNotFoundError, get_package_prefix

    try:
        prefix = Path(get_package_prefix("d2vpr_ros"))
    except (PackageNotFoundError, OSError):
        prefix = None
    if prefix is not None and (prefix / "lib" / "d2vpr_ros" / name).is_file():
        return {"package": "d2vpr_ros", "executable": name}
    beside = [str(folder / "bin") for folder in (prefix, Path(sys.prefix)) if folder is not None]
    found = shutil.which(name, path=":".join(beside)) or shutil.which(name)
    if found is None:
        raise UserError(
            f"{name} is neither in the lib/d2vpr_ros of a sourced workspace, nor on the PATH; build the package with "
            "colcon and source install/setup.bash, or activate the environment that pip installed it into"
        )
    return {"executable": found}


def listed(text: str) -> list[str]:
    """The parts of an argument like front,left."""
    return [part.strip() for part in text.split(",") if part.strip()]


def transport_of(topics: Sequence[str], given: str) -> str:
    """The image_transport that is meant: as given, else compressed where a topic's name says so; else empty."""
    return given or ("compressed" if any(topic.endswith(_COMPRESSED) for topic in topics) else "")


def camera_remappings(
    names: Sequence[str], image_topics: Sequence[str], image_topic: str, transport: str = ""
) -> list[tuple[str, str]]:
    """From the node's topics to the robot's, for images, compressed ones, and camera_info beside them.

    Args:
        names: of the cameras; none is one camera without a name.
        image_topics: theirs, in that order; none leaves the node's.
        image_topic: of the camera without a name.
        transport: compressed, and a topic may be named with the /compressed that this appends, or without.

    Raises:
        UserError: not every camera has a topic.
    """
    if image_topics and len(image_topics) != len(names):
        raise UserError(
            f"image_topics names {len(image_topics)} topics, and cameras {len(names)}; give each camera one: "
            "cameras:=front,left image_topics:=/front/image_raw,/left/image_raw"
        )
    if transport == "compressed":
        image_topics = [topic.removesuffix(_COMPRESSED) for topic in image_topics]
        image_topic = image_topic.removesuffix(_COMPRESSED)
    # A parameter file may name the cameras: image_topic is then nobody's, and does no harm.
    topics = {f"{name}/": topic for name, topic in zip(names, image_topics, strict=False)} or {"": image_topic}
    return [
        remapping
        for prefix, topic in topics.items()
        for remapping in (
            (f"{prefix}image", topic),
            (f"{prefix}image/compressed", f"{topic}{_COMPRESSED}"),
            (f"{prefix}camera_info", f"{topic.rpartition('/')[0]}/camera_info"),
        )
    ]
