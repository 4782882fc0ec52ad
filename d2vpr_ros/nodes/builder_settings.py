"""The map builder's parameters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from d2vpr_ros.bags.drive import MAX_GAP_S
from d2vpr_ros.describe.extractor import DEVICES
from d2vpr_ros.errors import UserError
from d2vpr_ros.images.deep import Range, check_range
from d2vpr_ros.loops.params import DEFAULT_PARAMS
from d2vpr_ros.mapping import KeyframeRule
from d2vpr_ros.nodes.parameters import Parameter
from d2vpr_ros.nodes.pose_input import POSE, SOURCES
from d2vpr_ros.nodes.robot_cameras import UNNAMED
from d2vpr_ros.nodes.topic_input import AUTO, RELIABILITIES

_RULE = KeyframeRule()

PARAMETERS = (
    Parameter("map", "", "Map file to write. Required."),
    Parameter("append", False, "Add a session to a map that exists. false: such a map is refused."),
    Parameter("weights", "nano", "Model weights, a bundled name or a file."),
    Parameter(
        "projection",
        "default",
        "Projection that shortens descriptors. default: the one beside the weights; none: no projection; or a file.",
    ),
    Parameter("device", "auto", "Device of the network. auto: the GPU if there is one.", choices=DEVICES),
    Parameter("image_transport", "raw", "Transport of the images.", choices=("raw", "compressed")),
    Parameter(
        "image_reliability",
        AUTO,
        "QoS reliability of the image subscription. auto: best effort; reliable if images are lost and the "
        "publisher offers it.",
        choices=RELIABILITIES,
    ),
    Parameter(
        "pose_source",
        POSE,
        "Source of the poses. pose: PoseStamped or PoseWithCovarianceStamped on `pose`; odom: Odometry on `odom`;"
        " tf: the tf tree, if tf2 is installed; gps: NavSatFix on `gps/fix`, heading along the track.",
        choices=SOURCES,
    ),
    Parameter("use_gps", False, "Tag the places with latitude and longitude from NavSatFix on `gps/fix`."),
    Parameter("map_frame", "", "Frame that the poses are in. Empty: `odom` for odometry, else `map`."),
    Parameter("base_frame", "base_link", "Frame of the robot. The poses are poses of this frame."),
    Parameter("camera_frame", "", "Optical frame of the camera in tf. Empty: the header.frame_id of the images."),
    Parameter(
        "camera_mount",
        [0.0],
        "Pose of the camera on the base (T_base_cameraOptical): [x, y, z, qx, qy, qz, qw]. [0.0]: from tf2 if "
        "installed, else a level camera that looks forward.",
    ),
    Parameter(
        "cameras",
        UNNAMED,
        "Names of the cameras. Each has its images on `<name>/image` and its mount in `camera.<name>.mount`. One "
        "empty name: one camera on `image`.",
    ),
    Parameter("spacing_m", _RULE.spacing_m, "Distance between places, in metres.", 0.01, 100.0),
    Parameter("turn_deg", _RULE.turn_deg, "A turn of this many degrees also makes a place.", 1.0, 180.0),
    Parameter("max_interval_s", 0.0, "This many seconds also make a place. 0: never.", 0.0, 3600.0),
    Parameter(
        "max_gap_s",
        MAX_GAP_S,
        "Maximum time between two poses, in seconds. Images in a longer gap are left out.",
        0.01,
        60.0,
    ),
    Parameter("pictures", True, "Store a picture with each place. Landmarks and metric poses need it."),
    Parameter(
        "image_range",
        [0.0],
        "For 16-bit images: the values of black and white, [low, high]. The map stores them for its robots. "
        "[0.0]: all of 16 bits.",
    ),
    Parameter(
        "keep_all", False, "Also keep black, overexposed and blurred images, and images that repeat the last place."
    ),
    Parameter(
        "waiting",
        256,
        "Maximum number of images that wait to be described, 0.4 MB each. More images are lost.",
        1,
        10000,
    ),
    Parameter(
        "close_loops",
        False,
        "Find places seen before, publish them as loop closures, and correct the drive by them. Best with odometry "
        "(`pose_source` odom).",
    ),
    Parameter("closed_frame", "map", "Frame of the corrected poses and of the map, with `close_loops`."),
    Parameter(
        "drift_percent",
        100 * DEFAULT_PARAMS.drift,
        "Drift of the poses, in percent of the way. A closure that contradicts them by much more is refused.",
        0.1,
        100.0,
    ),
    Parameter(
        "loop_probability",
        DEFAULT_PARAMS.least_probability,
        "Minimum probability that both places are the same, for a loop closure.",
        0.5,
        0.99999,
    ),
    Parameter("optimize_s", 5.0, "Minimum time between two corrections of the drive, in seconds.", 0.1, 3600.0),
    Parameter(
        "publish_tf",
        False,
        "Publish `closed_frame` -> the frame of the poses on /tf, with `close_loops`. Refused if another node "
        "publishes it.",
    ),
    Parameter(
        "tf_tolerance_s",
        0.1,
        "Transforms of `publish_tf` are stamped this many seconds ahead of the newest pose.",
        0.0,
        10.0,
    ),
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
