"""Starts the localizer, and RViz with rviz:=true: ros2 launch d2vpr_ros localize.launch.py map:=town.d2map

Every parameter of the node is an argument. An empty argument keeps the value of the parameter file.
"""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
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
NODE = "d2vpr_localizer"
PARAMETERS = node_parameters(CONFIG / "localize.yaml")
SHOWN_IN_RVIZ = ("pose_prior", "map_places", "place_matches", "match_image/compressed")

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
    DeclareLaunchArgument("odom_topic", default_value="odom", description="topic of the odometry, if there is any"),
    DeclareLaunchArgument(
        "gps_topic", default_value="gps/fix", description="topic of the GPS fixes (NavSatFix), if there are any"
    ),
    DeclareLaunchArgument(
        "params_file", default_value=str(CONFIG / "localize.yaml"), description="parameter file of the node"
    ),
    DeclareLaunchArgument("namespace", default_value="", description="namespace of the node, its topics and RViz"),
    DeclareLaunchArgument("use_sim_time", default_value="", description="true: use the time of /clock"),
    DeclareLaunchArgument("respawn", default_value="false", description="true: restart the node if it ends"),
    DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal"),
    DeclareLaunchArgument("rviz", default_value="false", description="true: also start RViz"),
    *(DeclareLaunchArgument(one.name, default_value="", description=one.description) for one in PARAMETERS),
)


def generate_launch_description() -> LaunchDescription:
    rviz = Node(
        condition=IfCondition(LaunchConfiguration("rviz")),
        package="rviz2",
        executable="rviz2",
        namespace=LaunchConfiguration("namespace"),
        arguments=["-d", str(CONFIG / "localize.rviz")],
        # The file's topics are absolute; made relative here, they follow the namespace.
        remappings=[(f"/{NODE}/{topic}", f"{NODE}/{topic}") for topic in SHOWN_IN_RVIZ],
    )
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=_localizer), rviz])


def _localizer(context: LaunchContext) -> list[Node]:
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
            # Seconds from SIGINT to SIGTERM, 5 by default: an image on a busy machine takes longer.
            sigterm_timeout=LaunchConfiguration("sigterm_timeout", default="20"),
            parameters=[given["params_file"], *([parameters] if parameters else [])],
            remappings=[
                *camera_remappings(names, topics, given["image_topic"], given["image_transport"]),
                ("odom", given["odom_topic"]),
                ("gps/fix", given["gps_topic"]),
            ],
            ros_arguments=["--log-level", given["log_level"]],
        )
    ]
