"""What `d2vpr doctor` makes of transforms: where the cameras sit, and who says where the odometry's frame is."""

from __future__ import annotations

from collections.abc import Sequence

from d2vpr_ros.nodes.doctor_facts import MountFacts, SystemFacts
from d2vpr_ros.nodes.doctor_lines import Line, fail, ok, warn


def check_mount(mount: MountFacts, map_has_one: bool) -> Line:
    """Where the camera sits on the base, by what the localizer would go by: parameter, tf, map.

    Args:
        map_has_one: a map was given; it holds the mount of the camera that made it.
    """
    link = f"{mount.base_frame} -> {mount.camera_frame or 'the camera'}"
    if mount.given is not None:
        return ok(f"mount: {link} from {mount.parameter}: {_numbers(mount.given.numbers)}")
    if mount.in_tf is not None:
        numbers = _numbers(mount.in_tf.numbers)
        if mount.node_reads_tf:
            return ok(f"mount: {link} from tf: {numbers}")
        return warn(f"mount: tf has {link}, but tf2_ros is not installed here", f"set {mount.parameter}:={numbers}")
    why = f"tf does not connect {link}" if mount.tf_readable else "tf cannot be read here (no tf2_msgs)"
    if mount.among_several:
        return fail(
            f"mount: {why}; the mount of each of several cameras must be known",
            f"publish it in /tf_static or set {mount.parameter}",
        )
    instead = "that of the map is used" if map_has_one else "that of a map is used"
    return warn(
        f"mount: {why}; {instead}",
        "right if the camera is mounted as the one of the map; else publish it in /tf_static or set camera_mount",
    )


def check_published_tf(system: SystemFacts, map_frame: str, odom_frame: str) -> Line:
    """With publish_tf: whether somebody else already says where the odometry's frame is."""
    link = f"tf {map_frame} -> {odom_frame}"
    if not system.tf_readable:
        return fail(
            f"{link}: publish_tf is true, but tf2_msgs is not installed here",
            "install ros-$ROS_DISTRO-tf2-msgs, or set publish_tf:=false",
        )
    others = [name for name in system.tf_senders if name.rsplit("/", 1)[-1] != "d2vpr_localizer"]
    if system.odom_parent and others:
        return fail(
            f"{link}: publish_tf is true, and /tf already has {system.odom_parent} -> {odom_frame}, from one of "
            f"{', '.join(others)}",
            "set publish_tf:=false, or stop the other one (tf_broadcast: false for AMCL)",
        )
    return ok(f"{link}: no other publisher")


def _numbers(values: Sequence[float]) -> str:
    return "[" + ", ".join(repr(round(value, 4) + 0.0) for value in values) + "]"


def check_namespace(topics: Sequence[str]) -> Line:
    """Where fixed transforms are, if nobody publishes them where tf2 listens."""
    return warn(
        f"tf: /tf_static has no publisher, but there is {', '.join(topics)}",
        "start the localizer in that namespace with -r /tf:=tf -r /tf_static:=tf_static, as Nav2 does",
    )
