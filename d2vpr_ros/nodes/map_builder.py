"""The node `d2vpr_map_builder`: builds a map while the robot drives, from images and the poses of a SLAM system.

It decides as `d2vpr map build` does on a recording of the same drive. Each place is stored as soon as it is described,
so stopping the node at any time, even by SIGKILL, leaves a map with every place that was reported.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import SetBool, Trigger

from d2vpr_ros.bags.calibration import camera_namespace
from d2vpr_ros.bags.covariance import moved
from d2vpr_ros.describe import Extractor
from d2vpr_ros.errors import UserError
from d2vpr_ros.fields import one_line, read_pose, stamp_ns
from d2vpr_ros.images.decode import read_frame
from d2vpr_ros.images.frame import PosedFrame
from d2vpr_ros.localize.base_odometry import is_base
from d2vpr_ros.mapping import BuildOptions, Camera, KeyframeRule, MapBuilder, MapHeader
from d2vpr_ros.mapping.counts import NO_POSE, UNREADABLE
from d2vpr_ros.mapping.session import live_session
from d2vpr_ros.nodes import messages
from d2vpr_ros.nodes.blocking_service import BlockingService
from d2vpr_ros.nodes.builder_settings import PARAMETERS, to_range
from d2vpr_ros.nodes.live_camera import LiveCamera
from d2vpr_ros.nodes.parameters import declare
from d2vpr_ros.nodes.poses import LivePoses, PoseWindow, TfPoses
from d2vpr_ros.nodes.robot_cameras import RobotCamera, check_mounts, read_with_cameras, robot_cameras
from d2vpr_ros.nodes.spin import run
from d2vpr_ros.nodes.status import InputStatus
from d2vpr_ros.nodes.waiting import Arrival, WaitingImages

__all__ = ["PARAMETERS", "MapBuilderNode"]

# Best effort matches reliable publishers too. A few images may queue up while one is decoded.
_IMAGES = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
_SETTLE_S = 0.1
_SAVE_TIMEOUT_S = 60.0


class MapBuilderNode(Node):
    """Topics, parameters and services around one `MapBuilder`."""

    def __init__(self) -> None:
        super().__init__("d2vpr_map_builder")
        declare(self, PARAMETERS)
        self._values = read_with_cameras(self, PARAMETERS)
        self._open = ExitStack()
        self._waiting = WaitingImages()
        self._paused = False
        self._image_status = InputStatus()  # of all cameras
        self._pose_status = InputStatus("pose", "pose_topic:=/slam/pose", "set pose_source to pose or odom")
        self._pose_input: Any = None

    def start(self) -> None:
        """Open the map, load the model, subscribe.

        Raises:
            UserError: the map exists already and `append` is false, or a parameter does not fit.
        """
        values = self._values
        if not values["map"]:
            raise UserError("parameter 'map' is empty; name the file to write: --ros-args -p map:=town.d2map")
        self._path = Path(values["map"]).expanduser()
        self._map_frame = values["map_frame"] or ("odom" if values["pose_source"] == "odom" else "map")
        cameras = robot_cameras(values)
        check_mounts(cameras)
        base, frame, is_only = values["base_frame"], values["camera_frame"], len(cameras) == 1
        self._cameras = [LiveCamera(self, base, frame, camera.mount, is_only=is_only) for camera in cameras]
        self._camera_statuses = [InputStatus() for _ in cameras]
        self._poses: LivePoses = PoseWindow()
        if values["pose_source"] == "tf":
            self._poses = TfPoses(self, self._map_frame, values["base_frame"])
        extractor = Extractor.open(values["weights"], device=values["device"], projection=values["projection"])
        rule = KeyframeRule(values["spacing_m"], values["turn_deg"], values["max_interval_s"] or None)
        options = BuildOptions(rule, values["pictures"], values["keep_all"], values["waiting"])
        self._image_range = to_range(values["image_range"])
        header = MapHeader(
            extractor.identity, extractor.width, self._map_frame, rule.spacing_m, image_range=self._image_range
        )
        self._builder: MapBuilder = self._open.enter_context(
            live_session(self._path, header, values["append"], extractor, self._of_pictures, options)
        )
        self._subscribe(cameras)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_service(SetBool, "~/pause", self._pause)
        self._saving = BlockingService(self, Trigger, "save", self._save)
        self._open.callback(self._saving.stop)
        self.create_timer(_SETTLE_S, self._settle)
        self.create_timer(1.0, self._report)

    def _subscribe(self, cameras: Sequence[RobotCamera]) -> None:
        compressed = self._values["image_transport"] == "compressed"
        kind, topic = (CompressedImage, "image/compressed") if compressed else (Image, "image")
        self._images: list[Any] = []
        self._names: list[str] = []
        for number, camera in enumerate(cameras):
            take, take_info = partial(self._take_image, number), partial(self._take_camera_info, number)
            self._images.append(self.create_subscription(kind, camera.topic(topic), take, _IMAGES))
            self._names.append(camera.name or camera_namespace(self._images[-1].topic_name))
            self.create_subscription(CameraInfo, camera.topic("camera_info"), take_info, _IMAGES)
        source = self._values["pose_source"]
        if source == "odom":
            self._pose_input = self.create_subscription(Odometry, "odom", self._take_pose, 50)
        elif source == "pose":
            self._pose_input = self.create_subscription(PoseStamped, "pose", self._take_pose, 50)
        poses = self._pose_input.topic_name if self._pose_input else f"/tf ({self._map_frame})"
        images = ", ".join(images.topic_name for images in self._images)
        self.get_logger().info(f"waiting for images on {images} and poses on {poses}")

    def _of_pictures(self, name: str, width: int, height: int) -> Camera:
        number = self._names.index(name) if name in self._names else 0
        return self._cameras[number].of_pictures(name, width, height)

    def stop(self) -> None:
        """Store what was handed over and close the map; safe to call twice."""
        has_builder = hasattr(self, "_builder")
        try:
            self._open.close()
        except UserError as error:
            self.get_logger().error(str(error))
            return
        if has_builder:
            self.get_logger().info(f"{self._path}: {self._builder.counts}")

    # Input

    def _take_image(self, camera: int, message: Any) -> None:
        now_s = time.monotonic()
        self._image_status.arrived(now_s)
        self._camera_statuses[camera].arrived(now_s)
        if not self._paused:
            self._waiting.add(message, now_s, camera)
            self._settle()

    def _take_pose(self, message: Any) -> None:
        self._pose_status.arrived(time.monotonic())
        frame = message.header.frame_id.lstrip("/")
        if frame and frame != self._map_frame:
            raise UserError(
                f"{self._pose_input.topic_name} has poses in the frame {frame}, the map is in {self._map_frame}; for a "
                f"map in that frame set map_frame: -p map_frame:={frame}, or remap to another topic"
            )
        with_covariance = isinstance(message, Odometry)
        try:
            pose = read_pose(message.pose.pose if with_covariance else message.pose)
            if with_covariance and not is_base(message.child_frame_id.lstrip("/"), self._values["base_frame"]):
                raise ValueError(
                    f"{self._pose_input.topic_name} is that of {one_line(message.child_frame_id)}, not of "
                    f"{self._values['base_frame']}: set base_frame to that, or take odometry of the base"
                )
        except ValueError as error:
            self.get_logger().warning(f"pose left out: {error}", throttle_duration_sec=10.0)
            return
        covariance = message.pose.covariance if with_covariance else None
        assert isinstance(self._poses, PoseWindow)
        self._poses.add(stamp_ns(message.header), pose, covariance)
        self._settle()

    def _take_camera_info(self, camera: int, message: CameraInfo) -> None:
        self._cameras[camera].calibrate(message, self._images[camera].topic_name)

    def _settle(self) -> None:
        """Hand on the images that have waited for their poses."""
        for arrival in self._waiting.ready(self._poses, time.monotonic()):
            self._build(arrival)

    def _build(self, arrival: Arrival) -> None:
        found = self._poses.at(arrival.stamp_ns, self._values["max_gap_s"])
        if found is None:
            self._builder.counts.leave_out(NO_POSE)
            return
        (base, covariance), frame_id = found, str(arrival.message.header.frame_id)
        mount = self._cameras[arrival.camera].mount(frame_id, arrival.steady_s)
        if mount is None:
            self._builder.counts.leave_out("before the camera's mount was known")
            return
        pose, name = base @ mount, self._names[arrival.camera] or frame_id
        if not self._builder.keep(name, pose, arrival.stamp_ns):
            return
        try:
            frame = read_frame(arrival.message, name, self._image_range)
        except UserError as error:
            self._builder.counts.leave_out(UNREADABLE)
            self.get_logger().error(f"image left out: {error}", throttle_duration_sec=5.0)
            return
        if covariance is not None:
            covariance = moved(covariance, pose.position - base.position)
        self._builder.add(PosedFrame(frame, pose, None, covariance), wait=False)

    # Services and diagnostics

    def _pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._paused = bool(request.data)
        response.success, response.message = True, "paused" if self._paused else "mapping"
        return response

    def _save(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._builder.save(_SAVE_TIMEOUT_S)
        response.message = f"{self._builder.counts.places} places are safe in {self._path}"
        if not response.success:
            response.message += f", {self._builder.waiting} still wait to be described"
        return response

    def _report(self) -> None:
        """Publish /diagnostics, and end the node if describing or storing has failed."""
        self._end_if_failed()
        now_s = time.monotonic()
        silent = map(InputStatus.problem, self._camera_statuses, repeat(self), self._images, repeat(now_s))
        problem = "; ".join(filter(None, silent))
        if not problem and self._pose_input is not None:
            problem = self._pose_status.problem(self, self._pose_input, now_s)
        counts = self._builder.counts
        if problem:
            self.get_logger().warning(problem, throttle_duration_sec=10.0)
        state = "PAUSED" if self._paused else "WAITING" if problem else "MAPPING"
        values = {
            "state": state,
            "map": self._path,
            "places": counts.places,
            "to_describe": self._builder.waiting,
            "waiting_for_pose": len(self._waiting),
            "input_hz": self._image_status.values(now_s)["input_hz"],
            **{f"left out: {reason}": images for reason, images in dict(counts.left_out).items()},
        }
        text = f"{state}: {problem}" if problem else f"{state}: {counts}"
        now_ns = self.get_clock().now().nanoseconds
        self._diagnostics.publish(
            messages.status("d2vpr_map_builder: mapping", state == "MAPPING", text, values, now_ns)
        )
        self.get_logger().info(str(counts), throttle_duration_sec=10.0)

    def _end_if_failed(self) -> None:
        try:
            self._builder.check()
        except Exception as error:
            # Through the map's own context: it says what a full disk means.
            self._open.pop_all().__exit__(type(error), error, error.__traceback__)
            raise


def main() -> None:
    """Entry point of `ros2 run d2vpr_ros d2vpr_map_builder`."""
    sys.exit(run(MapBuilderNode))


if __name__ == "__main__":
    main()
