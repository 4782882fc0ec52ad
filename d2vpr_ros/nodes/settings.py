"""The localizer's parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node

from d2vpr_ros.describe.extractor import BACKENDS, DEVICES, PRECISIONS
from d2vpr_ros.errors import UserError
from d2vpr_ros.localize import Acceptance, LocalizerOptions, Verify
from d2vpr_ros.localize.gps import LEAST_RADIUS_M, SIGMAS, GpsGate
from d2vpr_ros.mapping.search import LOCAL
from d2vpr_ros.nodes.initial_pose import MODES, NEVER
from d2vpr_ros.nodes.parameters import Parameter
from d2vpr_ros.nodes.robot_cameras import UNNAMED, RobotCamera, read_with_cameras, robot_cameras
from d2vpr_ros.nodes.topic_input import AUTO, RELIABILITIES

_DEFAULTS = LocalizerOptions()
_ACCEPTANCE = _DEFAULTS.acceptance

PARAMETERS = (
    Parameter("map", "", "Map to localize in, a .d2map file from `d2vpr map build`. Required."),
    Parameter("weights", "nano", "Model weights, a bundled name or a file. They must match the map."),
    Parameter(
        "features",
        "xfeat",
        "Weights of the feature network that compares images with the landmarks of the map: xfeat, or a file of "
        "`d2vpr export xfeat`.",
    ),
    Parameter(
        "projection",
        "default",
        "Projection that shortens descriptors. default: the one beside the weights; none: no projection; or a "
        "file. It must match the map.",
    ),
    Parameter(
        "backend",
        "auto",
        "Library that runs the network. auto: onnxruntime for weights from `d2vpr export` and if torch is "
        "missing, else torch.",
        choices=BACKENDS,
    ),
    Parameter("device", "auto", "Device of the network. auto: the GPU if there is one.", choices=DEVICES),
    Parameter(
        "precision",
        "exact",
        "Precision of the network. exact: float32; fast: reduced precision if faster and accurate on this machine.",
        choices=PRECISIONS,
    ),
    Parameter("image_transport", "raw", "Transport of the images.", choices=("raw", "compressed")),
    Parameter(
        "image_reliability",
        AUTO,
        "QoS reliability of the image subscription. auto: best effort; reliable if images are lost and the "
        "publisher offers it.",
        choices=RELIABILITIES,
    ),
    Parameter("map_frame", "map", "Frame of the published poses."),
    Parameter("base_frame", "base_link", "Frame of the robot. The pose prior is the pose of this frame."),
    Parameter("odom_frame", "odom", "Frame of the odometry. Only `publish_tf` uses it."),
    Parameter("camera_frame", "", "Optical frame of the camera in tf. Empty: the header.frame_id of the images."),
    Parameter(
        "camera_mount",
        [0.0],
        "Pose of the camera on the base (T_base_cameraOptical): [x, y, z, qx, qy, qz, qw]. [0.0]: from tf2 if "
        "installed, else from the map.",
    ),
    Parameter(
        "cameras",
        UNNAMED,
        "Names of the cameras. Each has its images on `<name>/image` and its mount in `camera.<name>.mount`. One "
        "empty name: one camera on `image`.",
    ),
    Parameter("sequence", _DEFAULTS.sequence, "Use consecutive images together. false: answer every image alone."),
    Parameter(
        "verify",
        _DEFAULTS.verify.value,
        "When to compare images with the landmarks of the map. when_it_decides: every image until the robot is "
        "localized, then a few times between two places. always: every image. never: poses are less exact.",
        choices=tuple(choice.value for choice in Verify),
    ),
    Parameter(
        "min_probability",
        _ACCEPTANCE.probability,
        "Minimum probability of an answer. A little less is enough to stay localized.",
        0.5,
        0.9999,
    ),
    Parameter("min_images", _ACCEPTANCE.images, "Minimum number of images for an answer.", 1, 500),
    Parameter(
        "off_map_prior",
        _DEFAULTS.off_map_prior,
        "Chance that the robot starts where the map shows nothing, perhaps at a place that looks the same. 0: it never "
        "leaves the mapped area.",
        0.0,
        0.9999,
    ),
    Parameter("top_speed_mps", _DEFAULTS.top_speed_mps, "Maximum speed without odometry, in m/s.", 0.0, 100.0),
    Parameter(
        "search_backend",
        LOCAL,
        "Where places are searched. faiss: in memory; http://host:19530: Milvus; a file ending in .db: Milvus "
        "Lite. The map stays in memory for when Milvus cannot be reached.",
    ),
    Parameter("search_collection", "", "Milvus collection. Empty: the name of the map file."),
    Parameter(
        "use_gps",
        True,
        "Search only near the last fix on `gps/fix`, if there is one and the map has latitude and longitude.",
    ),
    Parameter("gps_gate_sigmas", SIGMAS, "Radius of the GPS search, in standard deviations of the fix.", 1.0, 100.0),
    Parameter(
        "gps_gate_least_m",
        LEAST_RADIUS_M,
        "Minimum radius of the GPS search, in metres.",
        1.0,
        1e5,
    ),
    Parameter("max_age_s", 1.0, "Maximum age of an image, in seconds. Older images are not answered.", 0.01, 60.0),
    Parameter(
        "independent_priors",
        True,
        "Enlarge the covariances of `~/pose_prior` and `~/fix` so that a filter (robot_localization) may take them for "
        "independent, although answers near one another have much of their error in common. false: the covariance of "
        "each answer by itself.",
    ),
    Parameter(
        "publish_tf",
        False,
        "Publish `map_frame` -> `odom_frame` on /tf while localized, from answers and odometry. Refused if "
        "another node publishes it.",
    ),
    Parameter(
        "tf_tolerance_s",
        0.1,
        "Transforms of `publish_tf` are stamped this many seconds ahead of the newest odometry.",
        0.0,
        10.0,
    ),
    Parameter(
        "publish_initialpose",
        NEVER,
        "When to publish `initialpose`, which resets AMCL. when_lost_recovered: once each time a lost robot is "
        "found, also at the start; on_request: when `~/relocalize` was called.",
        choices=MODES,
    ),
    Parameter("autostart", True, "Configure and activate at the start. false: a lifecycle manager does both."),
)


APPLIED = (
    "image_transport", "image_reliability", "odom_frame", "sequence", "verify", "min_probability", "min_images",
    "off_map_prior", "top_speed_mps", "use_gps", "gps_gate_sigmas", "gps_gate_least_m", "max_age_s",
    "independent_priors", "publish_tf", "tf_tolerance_s", "publish_initialpose",
)  # fmt: skip
"""Parameters that take effect at once when they are set while the node is configured."""


@dataclass(frozen=True)
class Settings:
    """The parameters as read at configure time, and as changed since."""

    map: str
    weights: str
    features: str
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
    independent_priors: bool
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
            f"parameter '{fixed[0]}' is read when the node is configured; restart it with {fixed[0]}:=..., or "
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
        off_map_prior=values["off_map_prior"],
    )
    gate = GpsGate(values["gps_gate_sigmas"], values["gps_gate_least_m"], values["top_speed_mps"])
    direct = ("map", "weights", "features", "projection", "backend", "device", "precision", "image_transport",
              "image_reliability", "map_frame", "base_frame", "odom_frame", "camera_frame", "search_backend",
              "search_collection", "use_gps", "max_age_s", "independent_priors", "publish_tf", "tf_tolerance_s",
              "publish_initialpose", "autostart")  # fmt: skip
    cameras = robot_cameras(values)
    return Settings(**{name: values[name] for name in direct}, cameras=cameras, gps_gate=gate, options=options)
