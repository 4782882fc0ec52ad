"""The robot's cameras, as the parameters name them."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node

from d2vpr_ros.errors import UserError
from d2vpr_ros.fields import one_line
from d2vpr_ros.geometry import Pose
from d2vpr_ros.nodes.parameters import Parameter, declare, read_values, to_mount

_TOKEN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_EXAMPLE = "-p cameras:=[front,left]"
UNNAMED = [""]
"""The parameter `cameras` of a robot with one camera, on `image`."""


@dataclass(frozen=True)
class RobotCamera:
    """Attributes:
    name: of its topics and parameters; empty where it is the only one.
    mount: T_base_cameraOptical, where a parameter says.
    """

    name: str = ""
    mount: Pose | None = None

    def topic(self, topic: str) -> str:
        """One of its topics: `image` of front is `front/image`."""
        return f"{self.name}/{topic}" if self.name else topic

    @property
    def how_to_remap(self) -> str:
        """An example, for a message."""
        by_launch = "image_topics" if self.name else "image_topic"
        return f"{by_launch}:=/the/images (ros2 launch) or -r {self.topic('image')}:=/the/images (ros2 run)"

    @property
    def mount_parameter(self) -> str:
        """What says where it is mounted."""
        return mount_parameters([self.name])[0].name if self.name else "camera_mount"


def mount_parameters(names: Sequence[str]) -> list[Parameter]:
    """One for each camera with a name."""
    return [
        Parameter(f"camera.{name}.mount", [0.0], "Pose of this camera on the base, as camera_mount. [0.0]: from tf2.")
        for name in names
        if name
    ]


def check_names(names: Sequence[str]) -> None:
    """
    Raises:
        UserError: two cameras have one name, or one has none, or none that a topic can have.
    """
    if list(names) == UNNAMED:
        return
    wrong = [name for name in names if not _TOKEN.fullmatch(name)]
    if wrong or not names:
        found = f"a camera is named '{one_line(wrong[0])}'" if wrong else "it is empty"
        raise UserError(
            f"parameter 'cameras': {found}; expected names of letters, digits and _, as topics have: {_EXAMPLE}"
        )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"parameter 'cameras' has '{twice}' twice; give each camera a name of its own: {_EXAMPLE}")


def read_with_cameras(
    node: Node, parameters: Sequence[Parameter], given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The present values of declared parameters, `cameras` among them, and of those that the cameras' names add.

    Args:
        given: other values by name, which go before.

    Raises:
        UserError: as `check_names`, or a value does not fit.
    """
    values = read_values(node, parameters) | dict(given or {})
    check_names(values["cameras"])
    of_cameras = mount_parameters(values["cameras"])
    declare(node, [parameter for parameter in of_cameras if not node.has_parameter(parameter.name)])
    return values | read_values(node, of_cameras) | dict(given or {})


def robot_cameras(values: Mapping[str, Any]) -> tuple[RobotCamera, ...]:
    """The cameras that the parameters make.

    Args:
        values: of all parameters by name, those of `mount_parameters` too.

    Raises:
        UserError: as `check_names`; a mount is no pose; a parameter is given that says nothing of cameras with names.
    """
    names = list(values["cameras"])
    check_names(names)
    mount = to_mount(values["camera_mount"])
    if names == UNNAMED:
        return (RobotCamera("", mount),)
    if mount is not None:
        raise UserError(
            "parameter 'camera_mount' is for a camera without a name; for one of 'cameras' set "
            f"'{RobotCamera(names[0]).mount_parameter}'"
        )
    if len(names) > 1 and values["camera_frame"]:
        raise UserError(
            "parameter 'camera_frame' is for one camera; leave it out, and give the images of each of 'cameras' the "
            f"frame_id of its optical frame, or set '{RobotCamera(names[0]).mount_parameter}'"
        )
    return tuple(
        RobotCamera(name, to_mount(values[p.name], p.name))
        for name, p in zip(names, mount_parameters(names), strict=True)
    )


def known(mounts: Sequence[Pose | None]) -> Sequence[Pose | None]:
    """The mounts a localizer can begin with: all of them, or none as long as not all of several are known."""
    return mounts if len(mounts) == 1 or None not in mounts else (None,)


def check_mounts(cameras: Sequence[RobotCamera]) -> None:
    """
    Raises:
        UserError: there are several cameras, and nothing can say where one of them is mounted.
    """
    if len(cameras) == 1 or importlib.util.find_spec("tf2_ros") is not None:
        return
    for camera in cameras:
        if camera.mount is None:
            raise UserError(
                f"parameter '{camera.mount_parameter}' is missing: the mount of each of several cameras must be known; "
                "set it to T_base_cameraOptical as [x, y, z, qx, qy, qz, qw], or install tf2_ros and publish it in tf"
            )
