"""The localizer's parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node

from d2vpr_ros.describe.extractor import BACKENDS, DEVICES, PRECISIONS
from d2vpr_ros.errors import UserError
from d2vpr_ros.localize import Acceptance, LocalizerOptions
from d2vpr_ros.localize.gps_gate import LEAST_RADIUS_M, SIGMAS, GpsGate
from d2vpr_ros.localize.options import Verify
from d2vpr_ros.mapping.search import LOCAL
from d2vpr_ros.nodes.initial_pose import MODES, NEVER
from d2vpr_ros.nodes.parameters import Parameter
from d2vpr_ros.nodes.robot_cameras import UNNAMED, RobotCamera, read_with_cameras, robot_cameras
from d2vpr_ros.nodes.topic_input import AUTO, RELIABILITIES

_DEFAULTS = LocalizerOptions()
_ACCEPTANCE = _DEFAULTS.acceptance

PARAMETERS = (
    Parameter("map", "", "The map to localize in: a .d2map file made by `d2vpr map build`. Required."),
    Parameter(
        "weights", "nano", "What describes images: a bundled name or a weights file; those the map was made with."
    ),
    Parameter(
        "projection",
        "default",
        "What shortens descriptors: default is the projection beside the weights, none is none, else a file; as in "
        "the map.",
    ),
    Parameter(
        "backend",
        "auto",
        "What runs the network; auto takes onnxruntime for weights that `d2vpr export` wrote and where there is no "
        "torch.",
        choices=BACKENDS,
    ),
    Parameter("device", "auto", "Where it runs; auto takes the GPU where there is one.", choices=DEVICES),
    Parameter(
        "precision",
        "exact",
        "How it computes; exact is float32, fast what is faster here and as good.",
        choices=PRECISIONS,
    ),
    Parameter("image_transport", "raw", "How images arrive.", choices=("raw", "compressed")),
    Parameter(
        "image_reliability",
        AUTO,
        "How images are subscribed to; auto is best effort, and reliable once images are lost and their publisher "
        "offers that.",
        choices=RELIABILITIES,
    ),
    Parameter("map_frame", "map", "Frame of the published poses."),
    Parameter("base_frame", "base_link", "The robot's frame; the pose prior is the pose of this frame."),
    Parameter("odom_frame", "odom", "The odometry's frame; only `publish_tf` makes use of it."),
    Parameter("camera_frame", "", "The camera's optical frame in tf; empty takes the images' header.frame_id."),
    Parameter(
        "camera_mount",
        [0.0],
        "The camera's pose on the base (T_base_cameraOptical) as [x, y, z, qx, qy, qz, qw]; [0.0] takes it from tf2 "
        "where that is installed, else from the map.",
    ),
    Parameter(
        "cameras",
        UNNAMED,
        "The robot's cameras by name, each with its images on `<name>/image` and its mount in `camera.<name>.mount`; "
        "an empty name is one camera on `image`.",
    ),
    Parameter("sequence", _DEFAULTS.sequence, "Accept only what consecutive images agree on."),
    Parameter(
        "verify",
        _DEFAULTS.verify.value,
        "When an image is compared, point by point, with the picture of its place; always takes some 40 ms an image.",
        choices=tuple(choice.value for choice in Verify),
    ),
    Parameter(
        "min_probability",
        _ACCEPTANCE.probability,
        "Least probability of an answer; a little less is enough to stay localized.",
        0.5,
        0.9999,
    ),
    Parameter("min_images", _ACCEPTANCE.images, "Least number of images behind an answer.", 1, 500),
    Parameter("top_speed_mps", _DEFAULTS.top_speed_mps, "Bounds the motion where no odometry comes in.", 0.0, 100.0),
    Parameter(
        "search_backend",
        LOCAL,
        "Where places are looked up: faiss, in memory; or a Milvus, http://host:19530 or a Milvus Lite file ending in "
        ".db, with the map in memory for when it is out of reach.",
    ),
    Parameter("search_collection", "", "The collection there; empty takes the name of the map's file."),
    Parameter(
        "use_gps",
        True,
        "Look and answer only near the last fix on `gps/fix`, where there is any and the map is geo-tagged.",
    ),
    Parameter(
        "gps_gate_sigmas", SIGMAS, "How many of its standard deviations the robot may be from a fix.", 1.0, 100.0
    ),
    Parameter(
        "gps_gate_least_m",
        LEAST_RADIUS_M,
        "And how many metres at least, however exact the fix says it is.",
        1.0,
        1e5,
    ),
    Parameter("max_age_s", 1.0, "Images older than this are not answered.", 0.01, 60.0),
    Parameter(
        "publish_tf",
        False,
        "Publish `map_frame` -> `odom_frame` on /tf, from accepted answers and the odometry, while localized. Refused "
        "where somebody else does.",
    ),
    Parameter("tf_tolerance_s", 0.1, "How far ahead of the newest odometry these transforms are stamped.", 0.0, 10.0),
    Parameter(
        "publish_initialpose",
        NEVER,
        "Whether `initialpose`, which resets AMCL, is published: never, once each time a robot that was lost is found "
        "(the start counts), or when `~/relocalize` was called and finds it.",
        choices=MODES,
    ),
    Parameter("autostart", True, "Configure and activate by itself; false leaves both to a lifecycle manager."),
)


APPLIED = (
    "image_transport", "image_reliability", "odom_frame", "sequence", "verify", "min_probability", "min_images",
    "top_speed_mps", "use_gps", "gps_gate_sigmas", "gps_gate_least_m", "max_age_s", "publish_tf", "tf_tolerance_s",
    "publish_initialpose",
)  # fmt: skip
"""Parameters that take effect at once when they are set while the node is configured."""


@dataclass(frozen=True)
class Settings:
    """The parameters as read at configure time, and as changed since."""

    map: str
    weights: str
    projection: str
    backend: str
    device: str
    precision: str
    image_transport: str
    image_reliability: str
    map_frame: str
    base_frame: str
    odom_frame: str
    camera_frame: str
    search_backend: str
    search_collection: str
    cameras: tuple[RobotCamera, ...]
    use_gps: bool
    gps_gate: GpsGate
    max_age_s: float
    publish_tf: bool
    tf_tolerance_s: float
    publish_initialpose: str
    autostart: bool
    options: LocalizerOptions


def read(node: Node) -> Settings:
    """The parameters' present values, checked.

    Raises:
        UserError: a value is not among the choices, or the cameras make no sense.
    """
    return of_values(read_with_cameras(node, PARAMETERS))


def changed(node: Node, given: Mapping[str, Any], *, is_configured: bool) -> Settings:
    """The settings with new values of some parameters, by name.

    Raises:
        UserError: as `read`; or the node is configured, and one of them is read then only.
    """
    new = of_values(read_with_cameras(node, PARAMETERS, given))
    fixed = [name for name in given if name not in (*APPLIED, "map")]
    if fixed and is_configured:
        raise UserError(
            f"parameter '{fixed[0]}' is read when the node is configured; start it anew with {fixed[0]}:=..., or "
            f"ros2 lifecycle set {node.get_fully_qualified_name()} deactivate, then cleanup, and set it then"
        )
    return new


def of_values(values: Mapping[str, Any]) -> Settings:
    """The settings that values of all PARAMETERS by name make, and of those that the cameras' names add.

    Raises:
        UserError: the cameras make no sense.
    """
    options = LocalizerOptions(
        sequence=values["sequence"],
        verify=Verify(values["verify"]),
        top_speed_mps=values["top_speed_mps"],
        acceptance=Acceptance(values["min_probability"], images=values["min_images"]),
    )
    gate = GpsGate(values["gps_gate_sigmas"], values["gps_gate_least_m"], values["top_speed_mps"])
    direct = ("map", "weights", "projection", "backend", "device", "precision", "image_transport", "image_reliability",
              "map_frame", "base_frame", "odom_frame", "camera_frame", "search_backend", "search_collection",
              "use_gps", "max_age_s", "publish_tf", "tf_tolerance_s", "publish_initialpose", "autostart")  # fmt: skip
    cameras = robot_cameras(values)
    return Settings(**{name: values[name] for name in direct}, cameras=cameras, gps_gate=gate, options=options)
