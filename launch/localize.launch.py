"""Starts the localizer, and RViz if asked: ros2 launch d2vpr_ros localize.launch.py map:=town.d2map

An argument left empty keeps what the parameter file says; one given here goes before it.
"""

from __future__ import annotations

from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from d2vpr_ros.nodes.launching import camera_remappings, listed
from d2vpr_ros.share import share_folder

CONFIG = share_folder() / "config"

ARGUMENTS = (
    DeclareLaunchArgument("map", default_value="", description="the .d2map file to localize in"),
    DeclareLaunchArgument(
        "image_topic",
        default_value="/camera/image",
        description="the camera's images, camera_info beside them; image_transport compressed appends /compressed",
    ),
    DeclareLaunchArgument(
        "cameras", default_value="", description="names of several cameras, as front,left; mounts go into params_file"
    ),
    DeclareLaunchArgument(
        "image_topics",
        default_value="",
        description="their images, in that order, in place of image_topic; default: front/image,left/image",
    ),
    DeclareLaunchArgument("odom_topic", default_value="odom", description="odometry, where there is any"),
    DeclareLaunchArgument("gps_topic", default_value="gps/fix", description="NavSatFix, where there is any"),
    DeclareLaunchArgument(
        "image_transport", default_value="", choices=["", "raw", "compressed"], description="how the images arrive"
    ),
    DeclareLaunchArgument(
        "camera_frame", default_value="", description="the camera's optical frame in tf; default: the images' frame_id"
    ),
    DeclareLaunchArgument(
        "device", default_value="", choices=["", "auto", "cpu", "cuda"], description="where the network runs"
    ),
    DeclareLaunchArgument(
        "params_file", default_value=str(CONFIG / "localize.yaml"), description="the node's parameters"
    ),
    DeclareLaunchArgument("namespace", default_value="", description="namespace of the node, its topics and RViz"),
    DeclareLaunchArgument(
        "use_sim_time", default_value="", choices=["", "true", "false"], description="take the time from /clock"
    ),
    DeclareLaunchArgument(
        "publish_tf", default_value="", choices=["", "true", "false"], description="publish map -> odom on /tf"
    ),
    DeclareLaunchArgument(
        "publish_initialpose",
        default_value="",
        choices=["", "never", "when_lost_recovered", "on_request"],
        description="whether AMCL is set, and when",
    ),
    DeclareLaunchArgument(
        "autostart",
        default_value="",
        choices=["", "true", "false"],
        description="configure and activate the node; false leaves both to a lifecycle manager",
    ),
    DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal"),
    DeclareLaunchArgument("rviz", default_value="false", choices=["true", "false"], description="start RViz too"),
)

TEXT_PARAMETERS = ("map", "image_transport", "camera_frame", "device", "publish_initialpose")
FLAG_PARAMETERS = ("use_sim_time", "publish_tf", "autostart")

NODE = "d2vpr_localizer"
SHOWN_IN_RVIZ = ("pose_prior", "map_places", "place_matches", "match_image/compressed")


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
                ("odom", LaunchConfiguration("odom_topic").perform(context)),
                ("gps/fix", LaunchConfiguration("gps_topic").perform(context)),
            ],
            ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        )
    ]
