"""What the documentation and the shipped configuration say of the nodes is what the code declares."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from d2vpr_ros.localize import State
from d2vpr_ros.nodes import (
    initial_pose,
    localizer,
    loop_messages,
    loop_outputs,
    map_builder,
    messages,
    outputs,
    rtabmap_links,
    services,
    settings,
)
from d2vpr_ros.nodes.parameters import Parameter

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")


def written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else '""' if value == "" else str(value)


@pytest.mark.parametrize(
    ("node", "parameters"),
    [
        ("d2vpr_localizer", settings.PARAMETERS),
        ("d2vpr_map_builder", map_builder.PARAMETERS),
        ("d2vpr_rtabmap_links", rtabmap_links.PARAMETERS),
    ],
)
def test_the_reference_lists_every_parameter_with_its_default_and_meaning(
    node: str, parameters: Sequence[Parameter]
) -> None:
    section = re.split(r"^## ", REFERENCE.split(f"## `{node}`")[1], flags=re.MULTILINE)[0]
    rows = re.findall(r"^\| `(\w+)` \| `(.+?)` \| (.+?) \|$", section, flags=re.MULTILINE)
    assert [(name, default) for name, default, _ in rows] == [(p.name, written(p.default)) for p in parameters]
    for (_, _, meaning), parameter in zip(rows, parameters, strict=True):
        assert meaning.startswith(parameter.description)


def test_the_shipped_configuration_holds_every_parameter_with_its_default() -> None:
    configuration = yaml.safe_load((ROOT / "config" / "localize.yaml").read_text(encoding="utf-8"))
    assert configuration["/**"]["ros__parameters"] == {p.name: p.default for p in settings.PARAMETERS}


@pytest.mark.parametrize(
    ("topic", "layout"),
    [("~/place_matches", messages.MATCH_POINT), ("~/loop_closures", loop_messages.CLOSURE_POINT)],
)
def test_the_reference_gives_every_field_of_a_cloud_at_its_byte(topic: str, layout: np.dtype[Any]) -> None:
    table = re.split("^##", REFERENCE.split(f"### Fields of `{topic}`")[1], flags=re.MULTILINE)[0]
    offsets: dict[str, int] = {}
    for names, _, bytes_at in re.findall(r"^\| (`.+?) \| (\w+) at ([\d, ]+) \|", table, flags=re.MULTILINE):
        offsets.update(zip(re.findall(r"`(\w+)`", names), map(int, bytes_at.split(",")), strict=True))
    fields = layout.fields or {}
    assert offsets == {name: offset for name, (_, offset, *_) in fields.items()}


def test_the_reference_names_every_topic_and_service_of_the_nodes() -> None:
    source = "".join(
        Path(module.__file__).read_text(encoding="utf-8")
        for module in (localizer, outputs, initial_pose, services, loop_outputs)
    )
    names = re.findall(r'create_\w+\([A-Za-z0-9]+, "([^"]+)"', source)
    names += [f"~/{name}" for name in re.findall(r'BlockingService\(node, \w+, "([^"]+)"', source)]
    assert {"~/relocalize", "~/reload_map", "~/fix"} <= set(names)
    for name in names:
        assert f"`{name}`" in REFERENCE, name


def test_the_foxglove_layout_shows_topics_of_the_reference() -> None:
    layout = json.loads((ROOT / "config" / "localize.foxglove.json").read_text(encoding="utf-8"))
    panels = layout["configById"]
    topics = {topic for panel in panels.values() for topic in panel.get("topics", {})}
    topics |= {panel["imageMode"]["imageTopic"] for panel in panels.values() if panel.get("imageMode")}
    topics |= {
        panel[key]
        for panel in panels.values()
        for key in ("topicPath", "topicToRender")
        if isinstance(panel.get(key), str)
    }
    own = {name.replace("/d2vpr_localizer/", "~/") for name in topics}
    assert own == {
        "~/map_places", "~/place_matches", "~/pose_prior", "~/match_image/compressed", "/diagnostics",
    }  # fmt: skip
    for name in own:
        assert f"| `{name}` |" in REFERENCE, name
    assert set(re.findall(r"'(\w+!\w+)'", str(layout["layout"]))) == set(panels)
    (status,) = messages.diagnostics("d2vpr_localizer", State.LOST, "", {}, 0).status
    shown = panels["DiagnosticStatusPanel!localizer"]  # it finds a status by both names only
    assert (shown["selectedHardwareId"], shown["selectedName"]) == (status.hardware_id, status.name)
