"""The launch file and the parameter file. What needs the launch system runs where a ROS installation brings it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from d2vpr_ros.errors import UserError
from d2vpr_ros.nodes import builder_settings, settings
from d2vpr_ros.nodes.launching import camera_remappings, listed, node_parameters, parameter_values, transport_of
from d2vpr_ros.nodes.names import slips
from d2vpr_ros.nodes.parameters import Parameter

CHECKOUT = Path(__file__).resolve().parent.parent
COMMON = {
    "image_topic", "image_topics", "gps_topic", "params_file", "namespace", "use_sim_time", "respawn", "log_level",
}  # fmt: skip
NODES = {"localize": settings.PARAMETERS, "build_map": builder_settings.PARAMETERS}
OTHERS = {"localize": {"rviz", "odom_topic"}, "build_map": {"pose_topic"}}


def launch_file(name: str) -> Path:
    return CHECKOUT / "launch" / f"{name}.launch.py"


@pytest.mark.parametrize(("name", "parameters"), NODES.items())
def test_the_parameter_file_has_every_parameter_with_its_default(name: str, parameters: Sequence[Parameter]) -> None:
    text = (CHECKOUT / "config" / f"{name}.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text) == {"/**": {"ros__parameters": {p.name: p.default for p in parameters}}}


@pytest.mark.parametrize(("name", "parameters"), NODES.items())
def test_the_comments_of_the_parameter_file_are_what_the_parameters_mean(
    name: str, parameters: Sequence[Parameter]
) -> None:
    for parameter, written in zip(parameters, node_parameters(CHECKOUT / "config" / f"{name}.yaml"), strict=True):
        assert written.name == parameter.name
        assert written.description.startswith(parameter.description)
        if parameter.choices:
            assert f"One of {', '.join(parameter.choices)}." in written.description


def test_a_launch_argument_is_read_as_its_parameter_is() -> None:
    file = CHECKOUT / "config" / "localize.yaml"
    given = {
        "map": "~/7.d2map", "features": "~/xfeat.onnx", "top_speed_mps": "5", "min_images": "4", "publish_tf": "True",
        "sequence": "0",
        "cameras": "front, left", "camera_mount": "[0.3, 0, 1.2, -0.5, 0.5, -0.5, 0.5]", "device": "tensorrt",
        "verify": "",
    }  # fmt: skip
    assert parameter_values(node_parameters(file), given) == {
        "map": str(Path.home() / "7.d2map"), "features": str(Path.home() / "xfeat.onnx"), "top_speed_mps": 5.0,
        "min_images": 4, "publish_tf": True,
        "sequence": False, "cameras": ["front", "left"], "camera_mount": [0.3, 0.0, 1.2, -0.5, 0.5, -0.5, 0.5],
        "device": "tensorrt",
    }  # fmt: skip
    assert isinstance(parameter_values(node_parameters(file), given)["top_speed_mps"], float)  # ROS is strict


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("publish_tf", "yes", "launch argument publish_tf:=yes; expected true or false"),
        ("top_speed_mps", "fast", "launch argument top_speed_mps:=fast; expected a number, such as 2.0"),
        ("min_images", "2.5", "launch argument min_images:=2.5; expected a whole number"),
        ("camera_mount", "front", r"launch argument camera_mount:=front; expected numbers as \[0.3, 0.0, 1.2\]"),
    ],
)
def test_a_launch_argument_of_the_wrong_kind_is_refused_by_name(name: str, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        parameter_values(node_parameters(CHECKOUT / "config" / "localize.yaml"), {name: text})


def test_a_slip_in_the_name_of_a_launch_argument_is_noticed_and_those_of_others_are_not() -> None:
    known = ("top_speed_mps", "map", "image_topic")
    assert slips(["top_speed_mp", "imagetopic", "slam_params_file", "map"], known) == {
        "top_speed_mp": "top_speed_mps",
        "imagetopic": "image_topic",
    }


def test_compressed_images_may_be_named_with_or_without_their_ending() -> None:
    for topic in ("/front/image", "/front/image/compressed"):
        remapped = dict(camera_remappings([], [], topic, "compressed"))
        assert remapped["image/compressed"] == "/front/image/compressed"
        assert remapped["camera_info"] == "/front/camera_info"
    assert transport_of(["/front/image/compressed"], "") == "compressed"
    assert transport_of(["/front/image"], "") == ""  # as the parameter file has it
    assert transport_of(["/front/image/compressed"], "raw") == "raw"  # somebody calls a raw topic so


def test_the_rviz_file_shows_topics_of_the_node() -> None:
    shown = yaml.safe_load((CHECKOUT / "config" / "localize.rviz").read_text(encoding="utf-8"))
    topics = {display["Topic"]["Value"] for display in shown["Visualization Manager"]["Displays"] if "Topic" in display}
    own = ("map_places", "place_matches", "pose_prior", "match_image/compressed")
    assert topics == {f"/d2vpr_localizer/{name}" for name in own}


def test_the_cameras_of_a_launch_get_their_topics() -> None:
    assert camera_remappings([], [], "/front/image") == [
        ("image", "/front/image"),
        ("image/compressed", "/front/image/compressed"),
        ("camera_info", "/front/camera_info"),
    ]
    several = dict(camera_remappings(listed("front, left"), listed("/axis/raw,/usb/raw"), "/camera/image"))
    assert several["front/image"] == "/axis/raw" and several["left/camera_info"] == "/usb/camera_info"
    assert len(several) == 6
    assert "front/image" not in dict(camera_remappings(["front"], [], "/camera/image"))
    with pytest.raises(UserError, match="image_topics names 1 topics, and cameras 2; give each camera one"):
        camera_remappings(["front", "left"], ["/axis/raw"], "")


@pytest.fixture
def launch() -> Any:
    """The launch system, with the launch_ros that starts nodes."""
    pytest.importorskip("launch_ros.actions", reason="launch comes with a ROS installation, and there is none here")
    import launch

    return launch


def started(launch: Any, name: str, arguments: dict[str, str]) -> tuple[list[str], int, str]:
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
    source = launch.launch_description_sources.PythonLaunchDescriptionSource(str(launch_file(name)))
    service.include_launch_description(
        launch.LaunchDescription([launch.actions.IncludeLaunchDescription(source, launch_arguments=arguments.items())])
    )
    service.run()
    return seen["command"], seen["status"], seen["stderr"]


@pytest.mark.parametrize("name", NODES)
def test_the_launch_file_takes_the_documented_arguments(launch: Any, name: str) -> None:
    source = launch.launch_description_sources.PythonLaunchDescriptionSource(str(launch_file(name)))
    description = source.get_launch_description(launch.LaunchContext())
    declared = {argument.name: argument for argument in description.get_launch_arguments()}
    assert set(declared) == COMMON | OTHERS[name] | {parameter.name for parameter in NODES[name]}
    assert all(argument.description for argument in declared.values())


def environment(patch: pytest.MonkeyPatch, workspace: Path, log_folder: Path) -> None:
    """As sourcing the workspace makes it."""
    (packages,) = workspace.glob("lib/python*/site-packages")
    patch.setenv("AMENT_PREFIX_PATH", str(workspace), prepend=":")
    patch.setenv("PYTHONPATH", ":".join([str(packages), *sys.path]))
    patch.setenv("ROS_LOG_DIR", str(log_folder))


def test_the_launch_file_hands_map_and_topics_to_the_localizer(
    launch: Any, workspace: Path, tmp_path: Path, domain_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(monkeypatch, workspace, tmp_path)
    arguments = {
        "map": "/nowhere/7.d2map",
        "image_topic": "/front/image",
        "namespace": "robot",
        "odom_topic": "/wheels",
        "use_sim_time": "True",
        "top_speed_mps": "5",
    }
    command, status, errors = started(launch, "localize", arguments)
    assert command[0] == str(workspace / "lib" / "d2vpr_ros" / "d2vpr_localizer")
    topics = ("image:=/front/image", "image/compressed:=/front/image/compressed", "odom:=/wheels", "gps/fix:=gps/fix")
    for words in ("__ns:=/robot", "camera_info:=/front/camera_info", *topics):
        assert words in command
    assert "'top_speed_mps'" not in errors  # a whole number is a number to launch, and not to ROS
    assert status == 2
    assert "/nowhere/7.d2map" in errors  # what the node says of a map that is not there: the argument arrived


def test_the_launch_file_hands_each_camera_its_topics(
    launch: Any, workspace: Path, tmp_path: Path, domain_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(monkeypatch, workspace, tmp_path)
    arguments = {"map": "/nowhere/7.d2map", "cameras": "front,left", "image_topics": "/axis/raw,/usb/raw"}
    command, status, errors = started(launch, "localize", arguments)
    for words in ("front/image:=/axis/raw", "left/image/compressed:=/usb/raw/compressed", "left/camera_info:=/usb/ca"):
        assert any(word.startswith(words) for word in command)
    assert status == 2
    assert "parameter 'camera.front.mount' is missing" in errors or "/nowhere/7.d2map" in errors  # where tf2 may know


@pytest.mark.parametrize(
    ("name", "given", "remapped"),
    [
        ("build_map", {"pose_topic": "/slam"}, ("pose:=/slam", "odom:=/slam")),
        ("close_loops", {"odom_topic": "/wheels"}, ("odom:=/wheels",)),
    ],
)
def test_the_launch_file_hands_map_and_topics_to_the_map_builder(
    launch: Any,
    workspace: Path,
    tmp_path: Path,
    domain_id: int,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    given: dict[str, str],
    remapped: tuple[str, ...],
) -> None:
    environment(monkeypatch, workspace, tmp_path)
    arguments = {"map": "/nowhere/7.d2map", "image_topic": "/front/image", "device": "cpu", **given}
    command, status, errors = started(launch, name, arguments)
    assert command[0] == str(workspace / "lib" / "d2vpr_ros" / "d2vpr_map_builder")
    for words in ("image:=/front/image", "camera_info:=/front/camera_info", *remapped):
        assert words in command
    assert status == 2
    assert "/nowhere/7.d2map" in errors
