"""Starts the map builder: ros2 launch d2vpr_ros build_map.launch.py map:=town.d2map pose_topic:=/slam/pose

An argument left empty keeps the node's default, or what the parameter file says; one given here goes before it.
"""

from __future__ import annotations

from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from d2vpr_ros.nodes.launching import camera_remappings, listed
from d2vpr_ros.share import share_folder

CONFIG = share_folder() / "config"

ARGUMENTS = (
    DeclareLaunchArgument("map", default_value="", description="the .d2map file to write"),
    DeclareLaunchArgument(
        "append", default_value="", choices=["", "true", "false"], description="add a session to a map that exists"
    ),
    DeclareLaunchArgument(
        "image_topic",
        default_value="/camera/image",
        description="the camera's images; image_transport compressed appends /compressed",
    ),
    DeclareLaunchArgument(
        "cameras", default_value="", description="names of several cameras, as front,left; mounts go into params_file"
    ),
    DeclareLaunchArgument(
        "image_topics",
        default_value="",
        description="their images, in that order, in place of image_topic; default: front/image,left/image",
    ),
    DeclareLaunchArgument(
        "image_transport", default_value="", choices=["", "raw", "compressed"], description="how the images arrive"
    ),
    DeclareLaunchArgument(
        "pose_source",
        default_value="",
        choices=["", "pose", "odom", "tf"],
        description="PoseStamped, Odometry, or the tf tree",
    ),
    DeclareLaunchArgument("pose_topic", default_value="/slam/pose", description="PoseStamped or Odometry"),
    DeclareLaunchArgument("map_frame", default_value="", description="the frame the poses are in"),
    DeclareLaunchArgument(
        "camera_frame", default_value="", description="the camera's optical frame in tf; default: the images' frame_id"
    ),
    DeclareLaunchArgument(
        "device", default_value="", choices=["", "auto", "cpu", "cuda"], description="where the network runs"
    ),
    DeclareLaunchArgument(
        "params_file", default_value=str(CONFIG / "build_map.yaml"), description="the node's parameters"
    ),
    DeclareLaunchArgument("namespace", default_value="", description="namespace of the node and its topics"),
    DeclareLaunchArgument(
        "use_sim_time", default_value="", choices=["", "true", "false"], description="take the time from /clock"
    ),
    DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal"),
)

TEXT_PARAMETERS = ("map", "image_transport", "pose_source", "map_frame", "camera_frame", "device")
FLAG_PARAMETERS = ("append", "use_sim_time")

NODE = "d2vpr_map_builder"


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=_builder)])


def _builder(context: LaunchContext) -> list[Node]:
    given = {name: LaunchConfiguration(name).perform(context) for name in (*TEXT_PARAMETERS, *FLAG_PARAMETERS)}
    if given["map"]:
        given["map"] = str(Path(given["map"]).expanduser())  # no shell does it behind `map:=`
    # Typed, because launch would read a map named 7.d2map or a frame named 1 as YAML.
    overrides = {name: ParameterValue(given[name], value_type=str) for name in TEXT_PARAMETERS if given[name]}
    overrides |= {name: ParameterValue(given[name] == "true") for name in FLAG_PARAMETERS if given[name]}
    names, topics = (listed(LaunchConfiguration(name).perform(context)) for name in ("cameras", "image_topics"))
    if names:
        overrides["cameras"] = names
    image_topic = LaunchConfiguration("image_topic").perform(context)
    pose_topic = LaunchConfiguration("pose_topic").perform(context)
    return [
        Node(
            package="d2vpr_ros",
            executable=NODE,
            name=NODE,
            namespace=LaunchConfiguration("namespace"),
            output="screen",
            parameters=[LaunchConfiguration("params_file"), *([overrides] if overrides else [])],
            remappings=[
                *camera_remappings(names, topics, image_topic),
                ("pose", pose_topic),
                ("odom", pose_topic),
            ],
            ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        )
    ]
