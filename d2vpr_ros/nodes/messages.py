"""From estimates to ROS messages; the way back is `d2vpr_ros.fields`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseWithCovarianceStamped
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CompressedImage, NavSatFix, NavSatStatus, PointCloud2, PointField
from std_msgs.msg import Header

from d2vpr_ros.fields import NANOSECONDS
from d2vpr_ros.geometry import Pose
from d2vpr_ros.localize import Estimate, State
from d2vpr_ros.mapping import PlaceMap

MATCH_POINT = np.dtype(
    {
        "names": ["latitude", "longitude", "x", "y", "z", "similarity", "belief", "probability",
                  "rank", "place_id", "inliers", "stamp_sec", "stamp_nanosec", "camera", "accepted"],
        "formats": ["<f8", "<f8", *["<f4"] * 6, *["<u4"] * 5, "u1", "u1"],
        "offsets": [0, 8, *range(16, 40, 4), *range(40, 60, 4), 60, 61],
        "itemsize": 64,
    }
)  # fmt: skip
"""One candidate place in `~/place_matches`; doubles aligned to 8 bytes."""

PLACE_POINT = np.dtype(
    {
        "names": ["x", "y", "z", "place_id", "latitude", "longitude"],
        "formats": ["<f4", "<f4", "<f4", "<u4", "<f8", "<f8"],
        "offsets": [0, 4, 8, 12, 16, 24],
        "itemsize": 32,
    }
)
"""One place in `~/map_places`."""

_NEXT_TO_NOTHING = 1e-6  # m² or rad²
_FIELD_TYPES = {"f4": PointField.FLOAT32, "f8": PointField.FLOAT64, "u4": PointField.UINT32, "u1": PointField.UINT8}

_GROUND = (0, 1, 5)  # x, y and yaw in a geometry_msgs/PoseWithCovariance


def to_time(stamp_ns: int) -> Time:
    return Time(sec=stamp_ns // NANOSECONDS, nanosec=stamp_ns % NANOSECONDS)


def pose_prior(estimate: Estimate, frame: str, inflation: float = 1.0) -> PoseWithCovarianceStamped:
    """An accepted estimate as the pose of the base in the map frame, at the image's stamp.

    Of the covariance's correlations those within the ground (x, y, yaw) are kept. In two_d_mode robot_localization
    replaces the variances of z, roll and pitch by 1e-6 and keeps their correlations (RosFilter::forceTwoD). What it
    then has is no covariance: that of the filter became negative, and its pose moved by metres.

    Args:
        inflation: factor on the covariance, see `Estimate`.
    """
    if estimate.pose is None or estimate.covariance is None:
        raise ValueError("only an accepted estimate has a pose")
    message = PoseWithCovarianceStamped(header=Header(stamp=to_time(estimate.stamp_ns), frame_id=frame))
    at, turned = message.pose.pose.position, message.pose.pose.orientation
    at.x, at.y, at.z, turned.x, turned.y, turned.z, turned.w = estimate.pose.numbers
    enlarged, on_ground = inflation * estimate.covariance, np.ix_(_GROUND, _GROUND)
    covariance = np.diag(enlarged.diagonal())
    covariance[on_ground] = enlarged[on_ground]
    message.pose.covariance = covariance.reshape(36)
    return message


def initial_pose(estimate: Estimate, frame: str) -> PoseWithCovarianceStamped:
    """An accepted estimate for AMCL: on the ground, upright, and with the diagonal of the covariance only.

    AMCL refuses a message with any negative element, which covariances between two axes may be, and reads those of x, y
    and yaw; the others are next to nothing, as it moves on a plane.
    """
    message = pose_prior(estimate, frame)
    assert estimate.pose is not None and estimate.covariance is not None
    x, y, _ = estimate.pose.position.tolist()
    ahead = estimate.pose.rotation.apply([1.0, 0.0, 0.0])
    level = Pose.planar(x, y, float(np.arctan2(ahead[1], ahead[0])))
    at, turned = message.pose.pose.position, message.pose.pose.orientation
    at.x, at.y, at.z, turned.x, turned.y, turned.z, turned.w = level.numbers
    variances = estimate.covariance.diagonal().copy()
    variances[2:5] = _NEXT_TO_NOTHING
    message.pose.covariance = np.diag(variances).reshape(36)
    return message


def fix(stamp_ns: int, geo: tuple[float, float, float], covariance: npt.NDArray[np.float64], frame: str) -> NavSatFix:
    """Where the robot is on the earth.

    Args:
        geo: latitude, longitude (degrees), altitude (metres above the ellipsoid; NaN where not known).
        covariance: (3, 3) east, north, up, metres squared.
        frame: that of the robot which is there: the message has no frame of reference but the earth.
    """
    message = NavSatFix(header=Header(stamp=to_time(stamp_ns), frame_id=frame))
    message.status.status = NavSatStatus.STATUS_FIX
    message.latitude, message.longitude, message.altitude = geo
    message.position_covariance = covariance.reshape(9)
    message.position_covariance_type = NavSatFix.COVARIANCE_TYPE_KNOWN
    return message


def no_fix(stamp_ns: int, frame: str) -> NavSatFix:
    """That it is not known. NaN, so that who does not look at the status has no 0 degrees to take for a place."""
    nowhere = float("nan")
    message = NavSatFix(header=Header(stamp=to_time(stamp_ns), frame_id=frame))
    message.status.status = NavSatStatus.STATUS_NO_FIX
    message.latitude = message.longitude = message.altitude = nowhere
    message.position_covariance_type = NavSatFix.COVARIANCE_TYPE_UNKNOWN
    return message


def place_matches(estimate: Estimate, place_map: PlaceMap, mount: Pose | None, frame: str) -> PointCloud2:
    """Every candidate of an estimate, best first; no candidates give a cloud of width 0.

    `x, y, z` is where the base would be. `probability` is that of the answer, on each of its candidates.
    """
    points = np.zeros(len(estimate.matches), MATCH_POINT)
    if len(points):
        rows = np.array([match.row for match in estimate.matches])
        points["latitude"], points["longitude"] = place_map.geo[rows, :2].T
        points["x"], points["y"], points["z"] = _base_positions(place_map, rows, mount).T
        points["stamp_sec"], points["stamp_nanosec"] = np.divmod(place_map.stamps_ns[rows], NANOSECONDS)
        points["place_id"], points["camera"] = place_map.ids[rows], estimate.camera
        for name in ("similarity", "belief", "rank", "inliers", "accepted"):
            points[name] = [getattr(match, name) for match in estimate.matches]
        points["probability"] = estimate.probability
    return cloud(points, Header(stamp=to_time(estimate.stamp_ns), frame_id=frame))


def map_places(place_map: PlaceMap, frame: str) -> PointCloud2:
    """All places of a map, for RViz and Foxglove."""
    points = np.zeros(len(place_map), PLACE_POINT)
    points["x"], points["y"], points["z"] = place_map.positions.T
    points["place_id"] = place_map.ids
    points["latitude"], points["longitude"] = place_map.geo[:, :2].T
    return cloud(points, Header(frame_id=frame))


def compressed_image(jpeg: bytes, stamp_ns: int, frame: str) -> CompressedImage:
    return CompressedImage(header=Header(stamp=to_time(stamp_ns), frame_id=frame), format="jpeg", data=jpeg)


def diagnostics(node: str, state: State, reason: str, values: Mapping[str, object], now_ns: int) -> DiagnosticArray:
    """The status `d2vpr_localizer: localization`, for a node of that name: OK when localized, WARN otherwise."""
    values = {"state": state.value, "reject_reason": reason, **values}
    message = state.value + (f": {reason}" if reason else "")
    return status(f"{node}: localization", state is State.LOCALIZED, message, values, now_ns)


def status(name: str, is_ok: bool, message: str, values: Mapping[str, object], now_ns: int) -> DiagnosticArray:
    """One status, OK or WARN, of the node that its name begins with."""
    level = DiagnosticStatus.OK if is_ok else DiagnosticStatus.WARN
    one = DiagnosticStatus(level=level, name=name, message=message, hardware_id=name.partition(":")[0])
    one.values = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    return DiagnosticArray(header=Header(stamp=to_time(now_ns)), status=[one])


def read_cloud(message: PointCloud2, layout: np.dtype[Any]) -> npt.NDArray[Any]:
    """The points of one of the clouds above as a structured array."""
    return np.frombuffer(bytes(message.data), layout)


def _base_positions(place_map: PlaceMap, rows: npt.NDArray[np.int64], mount: Pose | None) -> npt.NDArray[np.float64]:
    """(M, 3) positions of `PlaceMap.base_pose`; at once, because one by one they cost more than the answer."""
    positions = place_map.positions[rows]
    if not place_map.header.metric:
        return positions
    cameras = place_map.cameras[rows]
    arms = {int(c): (mount or place_map.camera_table[int(c)].mount).inverse().position for c in np.unique(cameras)}
    turned = Rotation.from_quat(place_map.quaternions[rows])
    return np.asarray(positions + turned.apply([arms[int(camera)] for camera in cameras]))


def cloud(points: npt.NDArray[Any], header: Header) -> PointCloud2:
    """A structured array (N,) as a cloud of a row, each field by its name."""
    fields: Mapping[str, Any] = points.dtype.fields or {}
    return PointCloud2(
        header=header,
        height=1,
        width=len(points),
        fields=[
            PointField(name=name, offset=offset, datatype=_FIELD_TYPES[kind.str[1:]], count=1)
            for name, (kind, offset, *_) in fields.items()
        ],
        is_bigendian=False,
        point_step=points.dtype.itemsize,
        row_step=points.nbytes,
        data=points.tobytes(),
        is_dense=False,
    )
