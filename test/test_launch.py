"""The launch file and the parameter file. What needs the launch system runs where a ROS installation brings it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from d2vpr_ros.nodes.settings import PARAMETERS

CHECKOUT = Path(__file__).resolve().parent.parent
LAUNCH_FILE = CHECKOUT / "launch" / "localize.launch.py"
ARGUMENTS = {
    "map", "image_topic", "image_transport", "camera_frame", "device", "params_file", "namespace", "use_sim_time",
    "rviz", "autostart", "log_level",
}  # fmt: skip


def test_the_parameter_file_has_every_parameter_with_its_default() -> None:
    text = (CHECKOUT / "config" / "localize.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text) == {"/**": {"ros__parameters": {p.name: p.default for p in PARAMETERS}}}


def test_the_rviz_file_shows_topics_of_the_node() -> None:
    shown = yaml.safe_load((CHECKOUT / "config" / "localize.rviz").read_text(encoding="utf-8"))
    topics = {display["Topic"]["Value"] for display in shown["Visualization Manager"]["Displays"] if "Topic" in display}
    own = ("map_places", "place_matches", "pose_prior", "match_image/compressed")
    assert topics == {f"/d2vpr_localizer/{name}" for name in own}


@pytest.fixture
def launch() -> Any:
    """The launch system, with the launch_ros that starts nodes."""
    pytest.importorskip("launch_ros.actions", reason="launch comes with a ROS installation, and there is none here")
    import launch

    return launch


def started(launch: Any, arguments: dict[str, str]) -> tuple[list[str], int, str]:
    """Launch the file until its one process ends: the process's command line, exit status and error output."""
    seen: dict[str, Any] = {"stderr": ""}

    def remember(event: Any, _: Any) -> None:
        seen["command"] = event.cmd

    def end(event: Any, _: Any) -> Any:
        seen["status"] = event.returncode
        return launch.actions.Shutdown()

    def read(event: Any) -> None:
        seen["stderr"] += event.text.decode()

    handlers = launch.event_handlers
    service = launch.LaunchService(noninteractive=True)
    for handler in (
        handlers.OnProcessStart(on_start=remember),
        handlers.OnProcessExit(on_exit=end),
        handlers.OnProcessIO(on_stderr=read),
    ):
        service.context.register_event_handler(handler)
    source = launch.launch_description_sources.PythonLaunchDescriptionSource(str(LAUNCH_FILE))
    service.include_launch_description(
        launch.LaunchDescription([launch.actions.IncludeLaunchDescription(source, launch_arguments=arguments.items())])
    )
    service.run()
    return seen["command"], seen["status"], seen["stderr"]


def test_the_launch_file_takes_the_documented_arguments(launch: Any) -> None:
    source = launch.launch_description_sources.PythonLaunchDescriptionSource(str(LAUNCH_FILE))
    description = source.get_launch_description(launch.LaunchContext())
    declared = {argument.name: argument for argument in description.get_launch_arguments()}
    assert set(declared) == ARGUMENTS
    assert all(argument.description for argument in declared.values())


def test_the_launch_file_hands_map_and_topics_to_the_node(
    launch: Any, workspace: Path, tmp_path: Path, domain_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (packages,) = workspace.glob("lib/python*/site-packages")
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(workspace), prepend=":")
    monkeypatch.setenv("PYTHONPATH", ":".join([str(packages), *sys.path]))
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path))
    arguments = {"map": "/nowhere/7.d2map", "image_topic": "/front/image", "namespace": "robot", "device": "cpu"}
    command, status, errors = started(launch, arguments)
    assert command[0] == str(workspace / "lib" / "d2vpr_ros" / "d2vpr_localizer")
    for words in ("__ns:=/robot", "image:=/front/image", "image/compressed:=/front/image/compressed"):
        assert words in command
    assert status == 2
    assert "/nowhere/7.d2map" in errors  # what the node says of a map that is not there: the argument arrived
