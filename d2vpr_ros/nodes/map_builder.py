"""The node `d2vpr_map_builder`: builds a map while the robot drives, from images and the poses of a SLAM system.

It decides as `d2vpr map build` does on a recording of the same drive. Each place is stored as soon as it is described,
so stopping the node at any time, even by SIGKILL, leaves a map with every place that was reported.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, NavSatFix
from std_srvs.srv import SetBool, Trigger

from d2vpr_ros.bags.calibration import camera_namespace
from d2vpr_ros.describe import Extractor
from d2vpr_ros.errors import UserError
from d2vpr_ros.fields import stamp_ns
from d2vpr_ros.geodesy import LocalFrame
from d2vpr_ros.mapping import Camera, MapBuilder
from d2vpr_ros.mapping.counts import NO_POSE, BuildCounts
from d2vpr_ros.mapping.session import live_session
from d2vpr_ros.mapping.store import is_blank
from d2vpr_ros.nodes import loop_closing
from d2vpr_ros.nodes.blocking_service import BlockingService
from d2vpr_ros.nodes.builder_map import build_options, map_header, origin_of, pose_frame
from d2vpr_ros.nodes.builder_places import add_image
from d2vpr_ros.nodes.builder_report import BuilderReport
from d2vpr_ros.nodes.builder_settings import PARAMETERS, to_range
from d2vpr_ros.nodes.live_camera import LiveCamera
from d2vpr_ros.nodes.live_gps import GpsPoses, LiveFixes
from d2vpr_ros.nodes.loop_closing import LoopClosing
from d2vpr_ros.nodes.mount import MountListener
from d2vpr_ros.nodes.parameters import ask_before_set, declare, warn_of_unknown
from d2vpr_ros.nodes.pose_input import GPS, PoseInput
from d2vpr_ros.nodes.poses import PoseWindow
from d2vpr_ros.nodes.robot_cameras import RobotCamera, check_mounts, read_with_cameras, robot_cameras
from d2vpr_ros.nodes.spin import run
from d2vpr_ros.nodes.status import STEADY, InputStatus, clock_problem
from d2vpr_ros.nodes.topic_input import TopicInput, image_input
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
        warn_of_unknown(self)
        ask_before_set(self, PARAMETERS, _refuse)
        self._open = ExitStack()
        self._waiting = WaitingImages()
        self._paused = False
        self._image_status = InputStatus()  # of all cameras
        self._builder: MapBuilder | None = None  # where poses come from GPS, not before the first fix
        self._before_map = BuildCounts()
        self._fixes: LiveFixes | None = None
        self._loops: LoopClosing | None = None

    def start(self) -> None:
        """Open the map, load the model, subscribe.

        Raises:
            UserError: the map exists already and `append` is false, or a parameter does not fit.
        """
        values = self._values
        if not values["map"]:
            raise UserError("parameter 'map' is empty; name the file to write: --ros-args -p map:=town.d2map")
        self._path = Path(values["map"]).expanduser()
        self._pose_frame = pose_frame(values)
        if values["close_loops"]:
            loop_closing.check(values, self._pose_frame)
        cameras = robot_cameras(values)
        check_mounts(cameras)
        base, frame, is_only = values["base_frame"], values["camera_frame"], len(cameras) == 1
        listener = MountListener(self)
        self._cameras = [LiveCamera(self, listener, base, frame, camera.mount, is_only=is_only) for camera in cameras]
        self._camera_statuses = [InputStatus(remap=camera.how_to_remap) for camera in cameras]
        self._image_range = to_range(values["image_range"])
        self._extractor = Extractor.open(values["weights"], device=values["device"], projection=values["projection"])
        frames = self._pose_frame, base
        self._pose_input = PoseInput(
            self, values["pose_source"], frames, listener, origin_of(values, self._path), self._settle
        )
        if values["pose_source"] == GPS:
            if self._path.exists() and not is_blank(self._path) and not values["append"]:
                self._open_map()  # which refuses it now, not at the first fix
        else:
            self._open_map()
        self._subscribe(cameras)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_service(SetBool, "~/pause", self._pause)
        self._saving = BlockingService(self, Trigger, "save", self._save)
        self._open.callback(self._saving.stop)
        self.create_timer(_SETTLE_S, self._settle, clock=STEADY)
        self.create_timer(1.0, self._each_second, clock=STEADY)

    def _subscribe(self, cameras: Sequence[RobotCamera]) -> None:
        transport, reliability = self._values["image_transport"], self._values["image_reliability"]
        self._images: list[TopicInput] = []
        self._names: list[str] = []
        for number, camera in enumerate(cameras):
            take, take_info = partial(self._take_image, number), partial(self._take_camera_info, number)
            self._images.append(image_input(self, camera, transport, take, _IMAGES.depth, reliability))
            self._names.append(camera.name or camera_namespace(self._images[-1].topic_name))
            self.create_subscription(CameraInfo, camera.topic("camera_info"), take_info, _IMAGES)
        if self._values["use_gps"] and self._values["pose_source"] != GPS:
            self._fixes = LiveFixes()
            self.create_subscription(NavSatFix, "gps/fix", self._fixes.add, _IMAGES)
        images = ", ".join(images.topic_name for images in self._images)
        self.get_logger().info(f"waiting for images on {images} and poses on {self._pose_input.topic_name}")

    def _open_map(self, origin: LocalFrame | None = None) -> None:
        """Begin the session, in a new map with this origin or in one that is there."""
        values = self._values
        header = map_header(values, self._extractor, self._image_range, origin)
        options = build_options(values)
        self._builder = self._open.enter_context(
            live_session(
                self._path, header, values["append"], self._extractor, self._of_pictures, options, self._stored
            )
        )
        if values["close_loops"]:
            self._loops = LoopClosing(
                self, values, self._path, self._builder.session, self._pose_frame, self._newest_pose_ns
            )

    def _newest_pose_ns(self) -> int | None:
        poses = self._pose_input.poses
        return poses.newest_ns if isinstance(poses, PoseWindow) else self.get_clock().now().nanoseconds

    def _stored(self, place: int) -> None:
        if self._loops is not None:
            self._loops.stored(place)

    def _of_pictures(self, name: str, width: int, height: int) -> Camera:
        number = self._names.index(name) if name in self._names else 0
        return self._cameras[number].of_pictures(name, width, height)

    def stop(self) -> None:
        """Store what was handed over and close the map; safe to call twice."""
        if self._builder is not None:  # what waits for a fix only has its pose
            poses = self._pose_input.poses
            for arrival in self._waiting.ready(lambda one: poses.is_settled(one.stamp_ns), time.monotonic()):
                self._build(self._builder, arrival)
        if self._loops is not None:
            self._loops.stop()
        try:
            self._open.close()
            if self._loops is not None:
                self._loops.write()
        except UserError as error:
            self.get_logger().error(str(error))
            return
        self._loops = None
        if self._builder is not None:
            self.get_logger().info(f"{self._path}: {self._builder.counts}")

    # Input

    def _take_image(self, camera: int, message: Any) -> None:
        now_s = time.monotonic()
        self._image_status.arrived(now_s)
        self._camera_statuses[camera].arrived(now_s)
        if not self._paused:
            self._pose_input.see_image(camera, stamp_ns(message.header))
            self._waiting.add(message, now_s, camera)
            self._settle()

    def _take_camera_info(self, camera: int, message: CameraInfo) -> None:
        self._cameras[camera].calibrate(message, self._images[camera].topic_name)

    def _settle(self) -> None:
        """Hand on the images that have waited for their poses."""
        poses = self._pose_input.poses
        if self._builder is None and isinstance(poses, GpsPoses) and poses.origin is not None:
            self._open_map(poses.origin)
        for arrival in self._waiting.ready(self._is_settled, time.monotonic()):
            if self._builder is None:
                self._before_map.leave_out(NO_POSE)
            else:
                self._build(self._builder, arrival)

    def _is_settled(self, arrival: Arrival) -> bool:
        """Whether the pose and all else that goes with an image is as well known as it ever will be."""
        stamp, frame_id = arrival.stamp_ns, str(arrival.message.header.frame_id)
        return (
            self._cameras[arrival.camera].mount(frame_id, time.monotonic()) is not None
            and self._pose_input.poses.is_settled(stamp)
            and (self._fixes is None or self._fixes.is_settled(stamp))
        )

    def _build(self, builder: MapBuilder, arrival: Arrival) -> None:
        mount = self._cameras[arrival.camera].mount(str(arrival.message.header.frame_id), arrival.steady_s)
        name, max_gap_s = self._names[arrival.camera], self._values["max_gap_s"]
        known = self._pose_input.poses, mount, self._fixes, max_gap_s, self._image_range
        if problem := add_image(builder, arrival, name, *known):
            self.get_logger().error(f"image left out: {problem}", throttle_duration_sec=5.0)

    # Services and diagnostics

    def _pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._paused = bool(request.data)
        response.success, response.message = True, "paused" if self._paused else "mapping"
        return response

    def _save(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._builder is None:
            response.message = f"nothing to save: no fix has come on {self._pose_input.topic_name}"
            return response
        try:
            if self._loops is None:
                response.success = self._builder.save(_SAVE_TIMEOUT_S)
            else:
                self._loops.catch_up()
                response.success = self._builder.save(_SAVE_TIMEOUT_S, self._loops.write)
        except UserError as error:
            response.message = str(error)
            return response
        response.message = f"{self._builder.counts.places} places are safe in {self._path}"
        if not response.success:
            response.message += f", {self._builder.waiting} still wait to be described"
        return response

    def _each_second(self) -> None:
        self._pose_input.watch()
        for images in self._images:
            if losses := images.watch():
                self.get_logger().warning(losses, throttle_duration_sec=30.0)
        if self._builder is not None:
            self._end_if_failed(self._builder)
        self._report(time.monotonic())

    def _report(self, now_s: float) -> None:
        """Publish /diagnostics; now_s by the steady clock."""
        silent = map(InputStatus.problem, self._camera_statuses, repeat(self), self._images, repeat(now_s))
        problem = "; ".join(filter(None, [clock_problem(self), *silent])) or self._pose_input.problem(now_s)
        counts, to_describe = self._before_map, 0
        if self._builder is not None:
            counts, to_describe = self._builder.counts, self._builder.waiting
        if problem:
            self.get_logger().warning(problem, throttle_duration_sec=10.0)
        report = BuilderReport(
            self._path,
            self._paused,
            problem,
            counts,
            to_describe,
            len(self._waiting),
            self._image_status.values(now_s)["input_hz"],
            [images.lost_share for images in self._images],
            self._loops.values() if self._loops is not None else {},
        )
        self._diagnostics.publish(report.message(self))
        self.get_logger().info(str(counts), throttle_duration_sec=10.0)

    def _end_if_failed(self, builder: MapBuilder) -> None:
        try:
            builder.check()
        except Exception as error:
            self._waiting = WaitingImages()
            # Through the map's own context: it says what a full disk means.
            self._open.pop_all().__exit__(type(error), error, error.__traceback__)
            raise


def _refuse(given: Mapping[str, Any]) -> str:
    name = next(iter(given))
    raise UserError(f"parameter '{name}' is read when the node starts; stop the node and start it with {name}:=...")


def main() -> None:
    """Entry point of `ros2 run d2vpr_ros d2vpr_map_builder`."""
    sys.exit(run(MapBuilderNode))


if __name__ == "__main__":
    main()
