"""Closes loops: ros2 launch d2vpr_ros close_loops.launch.py image_topic:=/camera/image odom_topic:=/odom

It starts the map builder of build_map.launch.py with close_loops, and takes its arguments, too. Without map:=FILE the
map is a new file in the current folder.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

BUILD_MAP = Path(__file__).with_name("build_map.launch.py")
ARGUMENTS = (
    DeclareLaunchArgument("odom_topic", default_value="/odom", description="topic of the odometry (nav_msgs/Odometry)"),
    DeclareLaunchArgument(
        "map",
        default_value=f"loops_{datetime.now():%Y%m%d_%H%M%S}.d2map",
        description="map file to write; its graph goes beside it as .g2o",
    ),
    DeclareLaunchArgument("pose_source", default_value="odom", description="odom, pose or tf"),
)


def generate_launch_description() -> LaunchDescription:
    given = {
        "close_loops": "true",
        "map": LaunchConfiguration("map"),
        "pose_source": LaunchConfiguration("pose_source"),
        "pose_topic": LaunchConfiguration("odom_topic"),
    }
    included = PythonLaunchDescriptionSource(str(BUILD_MAP))
    return LaunchDescription([*ARGUMENTS, IncludeLaunchDescription(included, launch_arguments=given.items())])
