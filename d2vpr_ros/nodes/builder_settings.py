"""The map builder's parameters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from d2vpr_ros.bags.drive import MAX_GAP_S
from d2vpr_ros.describe.extractor import DEVICES
from d2vpr_ros.errors import UserError
from d2vpr_ros.images.deep import Range, check_range
from d2vpr_ros.mapping import KeyframeRule
from d2vpr_ros.nodes.parameters import Parameter
from d2vpr_ros.nodes.pose_input import POSE, SOURCES
from d2vpr_ros.nodes.robot_cameras import UNNAMED
from d2vpr_ros.nodes.topic_input import AUTO, RELIABILITIES

_RULE = KeyframeRule()

PARAMETERS = (
    Parameter("map", "", "The map to write. Required."),
    Parameter("append", False, "Add a session to a map that exists; else such a map is refused."),
    Parameter("weights", "nano", "What describes images: a bundled name or a weights file."),
    Parameter(
        "projection",
        "default",
        "What shortens descriptors: default is the projection beside the weights, none is none, else a file.",
    ),
    Parameter("device", "auto", "Where the network runs; auto takes the GPU where there is one.", choices=DEVICES),
    Parameter("image_transport", "raw", "How images arrive.", choices=("raw", "compressed")),
    Parameter(
        "image_reliability",
        AUTO,
        "How images are subscribed to; auto is best effort, and reliable once images are lost and their publisher "
        "offers that.",
        choices=RELIABILITIES,
    ),
    Parameter(
        "pose_source",
        POSE,
        "PoseStamped or PoseWithCovarianceStamped on `pose`, Odometry on `odom`, the tf tree (where tf2 is installed), "
        "or NavSatFix on `gps/fix`, headed along its track.",
        choices=SOURCES,
    ),
    Parameter("use_gps", False, "Tag the places with latitude and longitude from NavSatFix on `gps/fix`."),
    Parameter("map_frame", "", "The frame the poses are in; empty is `odom` for odometry, else `map`."),
    Parameter("base_frame", "base_link", "The frame they are poses of."),
    Parameter("camera_frame", "", "The camera's optical frame in tf; empty takes the images' header.frame_id."),
    Parameter(
        "camera_mount",
        [0.0],
        "The camera's pose on the base (T_base_cameraOptical) as [x, y, z, qx, qy, qz, qw]; [0.0] takes it from tf2 "
        "where that is installed, else a level camera that looks forward.",
    ),
    Parameter(
        "cameras",
        UNNAMED,
        "The robot's cameras by name, each with its images on `<name>/image` and its mount in `camera.<name>.mount`; "
        "an empty name is one camera on `image`.",
    ),
    Parameter("spacing_m", _RULE.spacing_m, "Metres between places.", 0.01, 100.0),
    Parameter("turn_deg", _RULE.turn_deg, "Or degrees turned.", 1.0, 180.0),
    Parameter("max_interval_s", 0.0, "Or seconds passed; 0 is never.", 0.0, 3600.0),
    Parameter("max_gap_s", MAX_GAP_S, "Images between poses further apart than this are left out.", 0.01, 60.0),
    Parameter("pictures", True, "Store a picture with each place; without, geometric verification has none."),
    Parameter(
        "image_range",
        [0.0],
        "Of 16-bit images, the values that become black and white, as [low, high]; the map keeps them for its robots. "
        "[0.0] is all of 16 bits.",
    ),
    Parameter("keep_all", False, "Also black, blown out and blurred images, and those that repeat the last place."),
    Parameter("waiting", 256, "Images that may wait to be described before any is lost, 0.4 MB each.", 1, 10000),
)


def to_range(numbers: Sequence[float]) -> Range | None:
    """The parameter `image_range`; [0.0], its default, is None.

    Raises:
        UserError: it is no range.
    """
    if list(numbers) == [0.0]:
        return None
    if len(numbers) != 2 or not np.isfinite(numbers).all():
        raise UserError(f"parameter 'image_range' is {list(numbers)}; expected two numbers, such as [0.0, 4095.0]")
    return check_range((round(numbers[0]), round(numbers[1])), "parameter 'image_range'")
