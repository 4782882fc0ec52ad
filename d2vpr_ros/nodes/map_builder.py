"""The node `d2vpr_map_builder`: builds a map while the robot drives, from images and the poses of a SLAM system.

Each place is stored as soon as it is described, so stopping the node at any time leaves a complete map.
"""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from d2vpr_ros.describe import Extractor
from d2vpr_ros.errors import UserError
from d2vpr_ros.fields import read_pose, stamp_ns
from d2vpr_ros.geometry import FORWARD_MOUNT, Pose
from d2vpr_ros.images.decode import read_frame
from d2vpr_ros.localize.motion import MotionBuffer
from d2vpr_ros.mapping import KeyframeRule, KeyframeSelector, MapHeader
from d2vpr_ros.mapping.build import encode_picture
from d2vpr_ros.mapping.header import Camera, Session
from d2vpr_ros.mapping.store import NewPlace, create_map
from d2vpr_ros.nodes.newest import Newest
from d2vpr_ros.nodes.parameters import Parameter, declare, read_values, to_mount
from d2vpr_ros.nodes.spin import run

_RULE = KeyframeRule()

PARAMETERS = (
    Parameter("map", "", "The map to write; it must not exist yet. Required."),
    Parameter("weights", "nano", "What describes images: a bundled name or a weights file."),
    Parameter("device", "auto", "Where the network runs; auto takes the GPU where there is one."),
    Parameter("image_transport", "raw", "How images arrive.", choices=("raw", "compressed")),
    Parameter("pose_source", "pose", "PoseStamped on `pose`, or Odometry on `odom`.", choices=("pose", "odom")),
    Parameter("spacing_m", _RULE.spacing_m, "Metres between places.", 0.01, 100.0),
    Parameter("turn_deg", _RULE.turn_deg, "Or degrees turned.", 1.0, 180.0),
    Parameter(
        "camera_mount",
        [0.0],
        "The camera's pose on the base (T_base_cameraOptical) as [x, y, z, qx, qy, qz, qw]; [0.0] is level and looking "
        "forward.",
    ),
)


@dataclass(frozen=True)
class Keyframe:
    """An image message that becomes a place, and T_map_base at its stamp."""

    message: Any
    base: Pose


class MapBuilderNode(Node):
    """Holds each image until the pose after it has come, and hands keyframes to a worker that describes and stores."""

    def __init__(self) -> None:
        super().__init__("d2vpr_map_builder")
        declare(self, PARAMETERS)
        self._values = read_values(self, PARAMETERS)
        self._keyframes: Newest[Keyframe] = Newest()
        self._worker: threading.Thread | None = None
        self._motion = MotionBuffer()
        self._wanted = KeyframeSelector(KeyframeRule(self._values["spacing_m"], self._values["turn_deg"]))
        self._pending: Any = None

    def start(self) -> None:
        """Open the map, load the model, subscribe.

        Raises:
            UserError: the map exists already, or a parameter does not fit.
        """
        path = Path(self._values["map"])
        if not self._values["map"] or path.exists():
            found = "empty" if not self._values["map"] else f"{path}, which exists already"
            raise UserError(f"parameter 'map' is {found}; name a new file: --ros-args -p map:=town.d2map")
        extractor = Extractor.open(self._values["weights"], device=self._values["device"])
        mount = to_mount(self._values["camera_mount"]) or FORWARD_MOUNT
        self._worker = threading.Thread(target=self._store, args=(path, extractor, mount), name="store")
        self._worker.start()
        compressed = self._values["image_transport"] == "compressed"
        kind, topic = (CompressedImage, "image/compressed") if compressed else (Image, "image")
        newest_only = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        images = self.create_subscription(kind, topic, self._take_image, newest_only)
        if self._values["pose_source"] == "odom":
            poses = self.create_subscription(Odometry, "odom", lambda m: self._take_pose(m.header, m.pose.pose), 50)
        else:
            poses = self.create_subscription(PoseStamped, "pose", lambda m: self._take_pose(m.header, m.pose), 50)
        self.get_logger().info(f"waiting for images on {images.topic_name} and poses on {poses.topic_name}")

    def stop(self) -> None:
        """Store the keyframe in hand and close the map."""
        self._keyframes.close()
        if self._worker is not None:
            self._worker.join()

    def _take_image(self, message: Any) -> None:
        if self._pending is None:
            self._pending = message

    def _take_pose(self, header: Any, pose: Any) -> None:
        taken_ns = stamp_ns(header)
        try:
            self._motion.add(taken_ns, read_pose(pose))
        except ValueError as error:
            self.get_logger().warning(f"pose left out: {error}", throttle_duration_sec=10.0)
            return
        if self._pending is None or taken_ns < stamp_ns(self._pending.header):
            return
        message, self._pending = self._pending, None
        base = self._motion.at(stamp_ns(message.header))
        if base is not None and self._wanted(base):
            self._keyframes.put(Keyframe(message, base))

    def _store(self, path: Path, extractor: Extractor, mount: Pose) -> None:
        about = MapHeader(extractor.identity, extractor.width, "map", self._values["spacing_m"], None)
        try:
            with create_map(path, about) as writer:
                session = writer.begin_session(Session(path.stem))
                while (keyframe := self._keyframes.take()) is not None:
                    try:
                        frame = read_frame(keyframe.message)
                    except UserError as error:
                        self.get_logger().error(f"image left out: {error}", throttle_duration_sec=5.0)
                        continue
                    descriptor = extractor.describe([frame.rgb])[0]
                    height, width = frame.rgb.shape[:2]
                    camera = writer.add_camera(session, Camera(frame.camera, width, height, mount))
                    jpeg, pose = encode_picture(frame.rgb), keyframe.base @ mount
                    writer.add_place(session, camera, NewPlace(frame.stamp_ns, pose, descriptor, jpeg))
                    self.get_logger().info(f"{writer.stored} places", throttle_duration_sec=5.0)
        except UserError as error:
            self.get_logger().error(str(error))
            return
        self.get_logger().info(f"{path}: {writer.stored} places")


def main() -> None:
    """Entry point of `ros2 run d2vpr_ros d2vpr_map_builder`."""
    sys.exit(run(MapBuilderNode))


if __name__ == "__main__":
    main()
