"""The recipes for other packages: read by ROS itself, and every name in them is one that a package declares."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import rclpy
import yaml
from rclpy.node import Node

from d2vpr_ros.nodes import outputs
from d2vpr_ros.nodes.parameters import declare, read_values
from d2vpr_ros.nodes.settings import PARAMETERS

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "config"
PEERS = yaml.safe_load((Path(__file__).parent / "data" / "peer_parameters.yaml").read_text(encoding="utf-8"))
EKF = {*PEERS["ekf"], *(kind + end for kind in ("odom0", "pose0") for end in PEERS["ekf_input"])}
# By recipe the other package's nodes, and what they declare.
RECIPES: dict[str, dict[str, set[str]]] = {
    "nav2_amcl.yaml": {"amcl": {*PEERS["amcl"]}, "map_server": {*PEERS["map_server"]}},
    "robot_localization.yaml": {"ekf_filter_node_odom": EKF, "ekf_filter_node_map": EKF},
    "rtabmap.yaml": {"rtabmap": {*PEERS["rtabmap"], *PEERS["rtabmap_core"]}},
    "slam_toolbox.yaml": {"slam_toolbox": {*PEERS["slam_toolbox"]}},
}


@contextmanager
def started(recipe: str | Path, name: str, namespace: str = "", **options: Any) -> Iterator[Node]:
    """A node as ROS starts it with the recipe's parameters."""
    context = rclpy.Context()
    rclpy.init(args=["--ros-args", "--params-file", str(CONFIG / recipe)], context=context)
    node = Node(name, namespace=namespace, context=context, **options)
    try:
        yield node
    finally:
        node.destroy_node()
        context.try_shutdown()


@pytest.mark.parametrize(("recipe", "name"), [(recipe, name) for recipe in RECIPES for name in RECIPES[recipe]])
def test_a_recipe_gives_its_node_only_parameters_that_its_package_declares(
    recipe: str, name: str, domain_id: int
) -> None:
    with started(recipe, name, automatically_declare_parameters_from_overrides=True) as node:
        given = set(node._parameters) - {"use_sim_time", "start_type_description_service"}
    assert given
    assert given <= RECIPES[recipe][name]


@pytest.mark.parametrize("namespace", ["", "robot"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_gives_the_localizer_only_parameters_that_it_declares(
    recipe: str, namespace: str, domain_id: int
) -> None:
    with started(recipe, "d2vpr_localizer", namespace) as node:
        declare(node, PARAMETERS)
        given = set(node._parameter_overrides)
        values = read_values(node, PARAMETERS)
    assert given <= {parameter.name for parameter in PARAMETERS}
    assert values["publish_initialpose"] == "when_lost_recovered"
    assert not values["publish_tf"]  # the other package publishes map -> odom


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_read_under_a_namespace_as_well(recipe: str, tmp_path: Path, domain_id: int) -> None:
    """Nav2's launch files put a whole parameter file under the robot's namespace."""
    sections = yaml.safe_load((CONFIG / recipe).read_text(encoding="utf-8"))
    (tmp_path / recipe).write_text(yaml.safe_dump({"robot": sections}))
    for name in (*RECIPES[recipe], "d2vpr_localizer"):
        with started(tmp_path / recipe, name, "robot") as node:
            assert node._parameter_overrides


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_says_how_to_launch_it(recipe: str) -> None:
    text = (CONFIG / recipe).read_text(encoding="utf-8")
    head = text[: text.index("\n", text.index("ros__parameters"))]
    assert "ros2 launch d2vpr_ros localize.launch.py map:=site.d2map params_file:=" in head
    assert f"d2vpr_ros/config/{recipe}" in head
    assert set(yaml.safe_load(text)) - {"**/d2vpr_localizer", "**/rtabmap"} <= set(RECIPES[recipe])


def test_the_filter_takes_the_pose_prior_as_a_pose_in_the_map() -> None:
    sections = yaml.safe_load((CONFIG / "robot_localization.yaml").read_text(encoding="utf-8"))
    values = sections["ekf_filter_node_map"]["ros__parameters"]
    assert values["pose0"] == "/d2vpr_localizer/pose_prior"
    assert [number for number, used in enumerate(values["pose0_config"]) if used] == [0, 1, 5]  # x, y, yaw
    assert len(values["pose0_config"]) == len(values["initial_estimate_covariance"]) == 15
    assert values["world_frame"] == values["map_frame"]
    odometry = sections["ekf_filter_node_odom"]["ros__parameters"]
    assert odometry["world_frame"] == odometry["odom_frame"]
    assert not any(name.startswith("pose0") for name in odometry)


def shown_in_rviz() -> dict[str, str]:
    """Durability by topic."""
    rviz = yaml.safe_load((CONFIG / "localize.rviz").read_text(encoding="utf-8"))
    displays = rviz["Visualization Manager"]["Displays"]
    return {d["Topic"]["Value"]: d["Topic"]["Durability Policy"] for d in displays if "Topic" in d}


def test_rviz_shows_topics_that_the_localizer_publishes() -> None:
    source = Path(outputs.__file__).read_text(encoding="utf-8")
    published = {f"/d2vpr_localizer/{topic}" for topic in re.findall(r'create_publisher\(\w+, "~/([^"]+)"', source)}
    assert set(shown_in_rviz()) <= published
    assert shown_in_rviz()["/d2vpr_localizer/map_places"] == "Transient Local"  # latched: volatile would come too late


def test_rviz_is_launched_with_its_file_and_its_topics_follow_the_namespace() -> None:
    source = (ROOT / "launch" / "localize.launch.py").read_text(encoding="utf-8")
    assert 'DeclareLaunchArgument("rviz"' in source
    assert 'arguments=["-d", str(CONFIG / "localize.rviz")]' in source
    remapped = re.findall(r'"([^"]+)"', source.split("SHOWN_IN_RVIZ = (")[1].split(")")[0])
    assert {f"/d2vpr_localizer/{topic}" for topic in remapped} == set(shown_in_rviz())
