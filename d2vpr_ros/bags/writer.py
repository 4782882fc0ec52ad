"""Write a drive as a rosbag2 (mcap) that `ros2 bag` plays, without ROS."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError

from d2vpr_ros.bags.messages import (
    TYPESTORE,
    make,
    make_covariance,
    make_header,
    make_pose,
    make_quaternion,
    make_vector,
)
from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import Pose

JPEG_QUALITY = 90
BAG_VERSION = 9  # the metadata.yaml of ROS 2 Jazzy

FOREVER = QosTime(9223372036, 854775807)  # rmw's infinite duration
# /tf_static is published once: a player must offer it, all of it, to those who subscribe later.
LATCHED = Qos(
    QosHistory.KEEP_LAST,
    100,
    QosReliability.RELIABLE,
    QosDurability.TRANSIENT_LOCAL,
    FOREVER,
    FOREVER,
    QosLiveliness.AUTOMATIC,
    FOREVER,
    False,
)


class BagWriter:
    """A new bag; messages are recorded at their own stamp (nanoseconds).

    A bag that an exception leaves unfinished is removed, so that a part is never taken for the whole.

    Args:
        path: the bag's directory, which must not exist.
        compressed: images become JPEG CompressedImage on ``<topic>/compressed`` (image_transport's name).

    Raises:
        UserError: the path exists, or cannot be written.
    """

    def __init__(self, path: str | Path, compressed: bool = False) -> None:
        self.path = Path(path)
        self.compressed = compressed
        self._connections: dict[str, Any] = {}
        self._writer: Any = None

    def __enter__(self) -> BagWriter:
        if self.path.exists():
            raise UserError(f"{self.path}: exists already; choose another name or remove it")
        try:
            self._writer = Writer(self.path, version=BAG_VERSION, storage_plugin=StoragePlugin.MCAP)
            self._writer.open()
        except (OSError, WriterError) as error:
            raise UserError(f"{self.path}: cannot write a bag here: {error}; choose another place") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            try:
                self._writer.close()
            except OSError as failure:
                self._discard()
                raise self._unwritable(failure) from failure
        else:
            self._discard()

    def _discard(self) -> None:
        with suppress(OSError):  # closing writes what is left, which a full disk refuses once more
            self._writer.abort()
        shutil.rmtree(self.path)

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(f"{self.path}: cannot write any more: {error}; free some space or choose another place")

    def write(self, topic: str, stamp_ns: int, message: Any) -> None:
        """Any message made by `messages.make`, recorded at `stamp_ns`."""
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic,
                message.__msgtype__,
                typestore=TYPESTORE,
                offered_qos_profiles=[LATCHED] if topic == "/tf_static" else [],
            )
        data = TYPESTORE.serialize_cdr(message, message.__msgtype__)
        try:
            self._writer.write(self._connections[topic], int(stamp_ns), data)
        except OSError as error:
            raise self._unwritable(error) from error

    def image(self, topic: str, stamp_ns: int, rgb: npt.NDArray[np.uint8], frame_id: str) -> None:
        """An (H, W, 3) uint8 RGB picture: sensor_msgs/Image (rgb8), or JPEG on ``<topic>/compressed``."""
        if self.compressed:
            quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
            _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), quality)
            self.encoded_image(topic, stamp_ns, jpeg, frame_id)
            return
        height, width = rgb.shape[:2]
        message = make(
            "sensor_msgs/msg/Image",
            header=make_header(stamp_ns, frame_id),
            height=height,
            width=width,
            encoding="rgb8",
            is_bigendian=0,
            step=width * 3,
            data=np.ascontiguousarray(rgb).reshape(-1),
        )
        self.write(topic, stamp_ns, message)

    def encoded_image(
        self, topic: str, stamp_ns: int, data: bytes | npt.NDArray[np.uint8], frame_id: str, encoding: str = "jpeg"
    ) -> None:
        """The bytes of a JPEG or PNG file as they are: sensor_msgs/CompressedImage on ``<topic>/compressed``."""
        message = make(
            "sensor_msgs/msg/CompressedImage",
            header=make_header(stamp_ns, frame_id),
            format=encoding,
            data=np.frombuffer(data, np.uint8),
        )
        self.write(f"{topic}/compressed", stamp_ns, message)

    def camera_info(
        self, topic: str, stamp_ns: int, frame_id: str, K: npt.NDArray[np.float64], width: int, height: int
    ) -> None:
        """sensor_msgs/CameraInfo of an undistorted pinhole camera; K is (3, 3), pixels."""
        k = np.asarray(K, dtype=np.float64)
        roi = make(
            "sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
        )  # zeros: the whole picture
        message = make(
            "sensor_msgs/msg/CameraInfo",
            header=make_header(stamp_ns, frame_id),
            height=int(height),
            width=int(width),
            distortion_model="plumb_bob",
            d=np.zeros(5),
            k=k.reshape(9),
            r=np.eye(3).reshape(9),
            p=np.hstack([k, np.zeros((3, 1))]).reshape(12),
            binning_x=0,
            binning_y=0,
            roi=roi,
        )
        self.write(topic, stamp_ns, message)

    def odometry(
        self,
        topic: str,
        stamp_ns: int,
        frame_id: str,
        child_frame_id: str,
        pose: Pose,
        twist: Any = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
        covariance: Any | None = None,
    ) -> None:
        """nav_msgs/Odometry.

        Args:
            pose: T_frame_child.
            twist: (6,) vx, vy, vz in m/s, wx, wy, wz in rad/s, in the child frame.
            covariance: (6, 6) of the pose (m², rad²; x, y, z, roll, pitch, yaw); None writes zeros (unknown).
        """
        velocity = make("geometry_msgs/msg/Twist", linear=make_vector(twist[:3]), angular=make_vector(twist[3:]))
        message = make(
            "nav_msgs/msg/Odometry",
            header=make_header(stamp_ns, frame_id),
            child_frame_id=child_frame_id,
            pose=make(
                "geometry_msgs/msg/PoseWithCovariance", pose=make_pose(pose), covariance=make_covariance(covariance)
            ),
            twist=make("geometry_msgs/msg/TwistWithCovariance", twist=velocity, covariance=make_covariance(None)),
        )
        self.write(topic, stamp_ns, message)

    def pose(self, topic: str, stamp_ns: int, frame_id: str, pose: Pose) -> None:
        """geometry_msgs/PoseStamped."""
        message = make("geometry_msgs/msg/PoseStamped", header=make_header(stamp_ns, frame_id), pose=make_pose(pose))
        self.write(topic, stamp_ns, message)

    def fix(
        self, topic: str, stamp_ns: int, frame_id: str, lat: float, lon: float, alt: float, sigma: float | None
    ) -> None:
        """sensor_msgs/NavSatFix.

        Args:
            lat, lon: WGS-84 degrees; NaN writes STATUS_NO_FIX.
            alt: metres above the ellipsoid; NaN where unknown.
            sigma: metres, of each horizontal axis (the vertical is written as twice that); None is unknown.
        """
        has_fix = bool(np.isfinite([lat, lon]).all())
        variances = np.zeros(9) if sigma is None else np.diag([sigma**2, sigma**2, (2 * sigma) ** 2]).reshape(9)
        message = make(
            "sensor_msgs/msg/NavSatFix",
            header=make_header(stamp_ns, frame_id),
            status=make("sensor_msgs/msg/NavSatStatus", status=0 if has_fix else -1, service=1),
            latitude=float(lat),
            longitude=float(lon),
            altitude=float(alt),
            position_covariance=variances,
            position_covariance_type=0 if sigma is None else 2,  # UNKNOWN, DIAGONAL_KNOWN
        )
        self.write(topic, stamp_ns, message)

    def transform(self, stamp_ns: int, parent: str, child: str, pose: Pose, static: bool) -> None:
        """tf2_msgs/TFMessage with T_parent_child, on /tf_static or /tf."""
        stamped = make(
            "geometry_msgs/msg/TransformStamped",
            header=make_header(stamp_ns, parent),
            child_frame_id=child,
            transform=make(
                "geometry_msgs/msg/Transform",
                translation=make_vector(pose.position),
                rotation=make_quaternion(pose),
            ),
        )
        message = make("tf2_msgs/msg/TFMessage", transforms=[stamped])
        self.write("/tf_static" if static else "/tf", stamp_ns, message)

    def text(self, topic: str, stamp_ns: int, text: str) -> None:
        """std_msgs/String, which has no header: the time it is recorded at is its stamp."""
        self.write(topic, stamp_ns, make("std_msgs/msg/String", data=text))
