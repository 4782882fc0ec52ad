"""Starts the map builder: ros2 launch d2vpr_ros build_map.launch.py map:=town.d2map pose_topic:=/slam/pose

Every parameter of the node is an argument. An empty argument keeps the value of the parameter file.
"""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.logging import get_logger
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from d2vpr_ros.nodes.launching import (
    camera_remappings,
    executable,
    flag,
    listed,
    node_parameters,
    parameter_values,
    transport_of,
)
from d2vpr_ros.nodes.names import slips
from d2vpr_ros.share import share_folder

CONFIG = share_folder() / "config"
NODE = "d2vpr_map_builder"
PARAMETERS = node_parameters(CONFIG / "build_map.yaml")
STOPS_WITHIN_S = "300"
"""Seconds from SIGINT to SIGTERM, which would end the node while it describes its last images and corrects the map;
launch's own are 5."""

ARGUMENTS = (
    DeclareLaunchArgument(
        "image_topic",
        default_value="/camera/image",
        description="topic of the images, with camera_info beside it; /compressed may be left out",
    ),
    DeclareLaunchArgument(
        "image_topics",
        default_value="",
        description="topics of several `cameras`, in the same order; default: front/image,left/image",
    ),
    DeclareLaunchArgument(
        "pose_topic", default_value="/slam/pose", description="topic of the poses; its type depends on pose_source"
    ),
    DeclareLaunchArgument(
        "gps_topic",
        default_value="gps/fix",
        description="topic of the GPS fixes (NavSatFix), for use_gps and pose_source gps",
    ),
    DeclareLaunchArgument(
        "params_file", default_value=str(CONFIG / "build_map.yaml"), description="parameter file of the node"
    ),
    DeclareLaunchArgument("namespace", default_value="", description="namespace of the node and its topics"),
    DeclareLaunchArgument("use_sim_time", default_value="", description="true: use the time of /clock"),
    DeclareLaunchArgument("respawn", default_value="false", description="true: restart the node if it ends"),
    DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal"),
    *(DeclareLaunchArgument(one.name, default_value="", description=one.description) for one in PARAMETERS),
)


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=_builder)])


def _builder(context: LaunchContext) -> list[Node]:
    given = {argument.name: LaunchConfiguration(argument.name).perform(context) for argument in ARGUMENTS}
    for name, near in slips(context.launch_configurations, given).items():
        get_logger("d2vpr_ros").warning(f"unknown launch argument {name} is ignored; did you mean {near}?")
    topics = listed(given["image_topics"])
    given["image_transport"] = transport_of([given["image_topic"], *topics], given["image_transport"])
    overrides = parameter_values(PARAMETERS, given)
    names = overrides.get("cameras", [])
    # Typed, because launch would read a map named 7.d2map or a frame named 1 as YAML.
    parameters = {
        name: ParameterValue(value, value_type=str) if isinstance(value, str) else value
        for name, value in overrides.items()
    }
    if (simulated := flag("use_sim_time", given["use_sim_time"])) is not None:
        parameters["use_sim_time"] = simulated
    return [
        Node(
            **executable(NODE),
            name=NODE,
            namespace=given["namespace"],
            output="screen",
            respawn=bool(flag("respawn", given["respawn"])),
            respawn_delay=2.0,
            sigterm_timeout=LaunchConfiguration("sigterm_timeout", default=STOPS_WITHIN_S),
            parameters=[given["params_file"], *([parameters] if parameters else [])],
            remappings=[
                *camera_remappings(names, topics, given["image_topic"], given["image_transport"]),
                ("pose", given["pose_topic"]),
                ("odom", given["pose_topic"]),
                ("gps/fix", given["gps_topic"]),
            ],
            ros_arguments=["--log-level", given["log_level"]],
        )
    ]
