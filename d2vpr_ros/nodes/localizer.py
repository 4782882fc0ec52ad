"""The node `d2vpr_localizer`: images in, place matches and pose priors out.

A lifecycle node: configure loads and checks model and map, activate subscribes, deactivate unsubscribes, cleanup frees.
Callbacks only hand over; images are described and matched on a worker thread, the newest first and only.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from std_srvs.srv import Empty, SetBool, Trigger

from d2vpr_ros.describe import Extractor
from d2vpr_ros.errors import UserError
from d2vpr_ros.images.compose import decode_jpeg, encode_jpeg, side_by_side
from d2vpr_ros.images.decode import decode_image
from d2vpr_ros.images.frame import Frame
from d2vpr_ros.localize import Estimate, Localizer, RejectReason, State
from d2vpr_ros.localize.freshness import StampWatch
from d2vpr_ros.localize.motion import MotionBuffer
from d2vpr_ros.mapping import read_map
from d2vpr_ros.nodes import messages, parameters
from d2vpr_ros.nodes.mount import MountListener
from d2vpr_ros.nodes.newest import Newest
from d2vpr_ros.nodes.spin import run
from d2vpr_ros.nodes.status import InputStatus

NEWEST_ONLY = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.BEST_EFFORT
)  # matches reliable publishers too, and a slow callback is never behind
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_RELOCALIZE_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Arrival:
    """An image message and when it came, by the steady clock."""

    message: Any
    steady_s: float


class LocalizerNode(LifecycleNode):
    """Topics, parameters, time and threads around one `Localizer`."""

    def __init__(self) -> None:
        super().__init__("d2vpr_localizer")
        parameters.declare(self)
        self._localizer: Localizer | None = None
        self._worker: threading.Thread | None = None
        self._enabled = True
        self._answered = threading.Condition()  # guards the localizer and the two below
        self._answers = 0
        self._newest: Estimate | None = None

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and check model and map, warm up; FAILURE with the reason logged where something does not fit."""
        try:
            self._configure()
        except UserError as error:
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        return TransitionCallbackReturn.SUCCESS

    def _configure(self) -> None:
        self._settings = settings = parameters.read(self)
        if not settings.map:
            raise UserError("parameter 'map' is empty; give a map file: --ros-args -p map:=town.d2map")
        place_map = read_map(settings.map)
        extractor = Extractor.open(settings.weights, settings.backend, settings.precision, settings.device)
        self._localizer = Localizer(place_map, extractor, settings.options, settings.mount)
        extractor.describe([np.zeros((480, 640, 3), np.uint8)])  # the first pass is slow: not on the first image
        self._motion = MotionBuffer()
        self._watch = StampWatch()
        self._mounts = MountListener(self)
        self._status = InputStatus()
        self._priors = self.create_publisher(PoseWithCovarianceStamped, "~/pose_prior", 10)
        self._matches = self.create_publisher(PointCloud2, "~/place_matches", 10)
        self._pictures = self.create_publisher(CompressedImage, "~/match_image/compressed", 1)
        self._places = self.create_publisher(PointCloud2, "~/map_places", LATCHED)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._places.publish(messages.map_places(place_map, settings.map_frame))
        self.get_logger().info(
            f"map {settings.map}: {len(place_map)} places; weights {settings.weights} on {extractor.device}"
        )

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        compressed = self._settings.image_transport == "compressed"
        kind, topic = (CompressedImage, "image/compressed") if compressed else (Image, "image")
        self._images: Newest[Arrival] = Newest()
        self._worker = threading.Thread(target=self._work, args=(self._images,), name="localize")
        self._worker.start()
        waiting = MutuallyExclusiveCallbackGroup()  # its services wait for answers while the other callbacks go on
        self._inputs = [
            self.create_subscription(kind, topic, self._take_image, NEWEST_ONLY),
            self.create_subscription(Odometry, "odom", self._take_odometry, 50),
        ]
        self._services = [
            self.create_service(Trigger, "~/relocalize", self._relocalize, callback_group=waiting),
            self.create_service(SetBool, "~/enable", self._enable),
            self.create_service(Empty, "reinitialize_global_localization", self._reinitialize),
        ]
        self._timer = self.create_timer(1.0, self._report)
        self.get_logger().info(f"waiting for images on {self._inputs[0].topic_name}")
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop_work()
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        for publisher in (self._priors, self._matches, self._pictures, self._places, self._diagnostics):
            self.destroy_publisher(publisher)
        self._localizer = None
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop_work()
        return TransitionCallbackReturn.SUCCESS

    def _stop_work(self) -> None:
        if self._worker is None:
            return
        self._images.close()
        self._worker.join()
        self._worker = None
        self.destroy_timer(self._timer)
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        for service in self._services:
            self.destroy_service(service)

    # Callbacks: hand over, never compute

    def _take_image(self, message: Any) -> None:
        self._status.arrived(time.monotonic())
        if self._enabled:
            self._images.put(Arrival(message, time.monotonic()))

    def _take_odometry(self, message: Odometry) -> None:
        try:
            pose = messages.from_pose(message.pose.pose)
        except ValueError as error:
            self.get_logger().warning(f"odometry is left out: {error}", throttle_duration_sec=10.0)
            return
        self._motion.add(messages.from_time(message.header.stamp), pose)

    def _enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = bool(request.data)
        response.success, response.message = True, "enabled" if self._enabled else "disabled"
        return response

    def _reinitialize(self, request: Empty.Request, response: Empty.Response) -> Empty.Response:
        """The call that Nav2's behaviour tree makes when the robot is lost."""
        self._forget()
        return response

    def _relocalize(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Forget, then wait for what the next images say."""
        self._forget()
        with self._answered:
            enough = self._answers + 2 * self._settings.options.window
            self._answered.wait_for(lambda: self._localized() or self._answers >= enough, _RELOCALIZE_TIMEOUT_S)
            newest = self._newest
        if newest is None:
            response.message = f"no image came in within {_RELOCALIZE_TIMEOUT_S:.0f} s on {self._inputs[0].topic_name}"
        elif newest.pose is not None:
            x, y, z = newest.pose.position
            response.success, response.message = True, f"LOCALIZED at x {x:.2f} m, y {y:.2f} m, z {z:.2f} m"
        else:
            response.message = f"{newest.state.value}: {newest.reject_reason.value}"
        return response

    def _localized(self) -> bool:
        return self._newest is not None and self._newest.state is State.LOCALIZED

    def _forget(self) -> None:
        with self._answered:
            self._newest = None
            if self._localizer is not None:
                self._localizer.reset()

    # The worker

    def _work(self, images: Newest[Arrival]) -> None:
        while (arrival := images.take()) is not None:
            try:
                self._answer(arrival)
            except UserError as error:
                self.get_logger().error(f"image left out: {error}", throttle_duration_sec=5.0)

    def _answer(self, arrival: Arrival) -> None:
        started = time.monotonic()
        header = arrival.message.header
        stamp_ns = messages.from_time(header.stamp)
        frame = Frame(decode_image(arrival.message), stamp_ns, header.frame_id)
        with self._answered:
            localizer = self._localizer
            if localizer is None:
                return
            if localizer.mount is None:
                camera_frame = self._settings.camera_frame or header.frame_id
                localizer.mount = self._mounts.lookup(self._settings.base_frame, camera_frame)
            estimate = self._estimate(localizer, frame, arrival)
            self._publish(localizer, frame, estimate)
            changed = self._newest is None or self._newest.state is not estimate.state
            self._newest = estimate
            self._answers += 1
            self._answered.notify_all()
        self._status.answered(time.monotonic() - started)
        if changed:
            self._report()

    def _estimate(self, localizer: Localizer, frame: Frame, arrival: Arrival) -> Estimate:
        if self._watch.jumped_back(frame.stamp_ns):
            self.get_logger().warning("the images' stamps jumped back: starting anew")
            localizer.reset()
        first = self._watch.clocks_differ is None
        now_ns = self.get_clock().now().nanoseconds
        age_s = self._watch.age_s(frame.stamp_ns, now_ns, time.monotonic() - arrival.steady_s)
        if first and self._watch.clocks_differ:
            self.get_logger().warning(
                "the images' stamps are over 60 s off this node's clock, so their age is taken from their arrival; "
                "for a recording, play it with --clock and set use_sim_time:=true"
            )
        self._status.age_s = age_s
        if age_s > self._settings.max_age_s:
            return Estimate(frame.stamp_ns, State.LOST, RejectReason.STALE_IMAGE, ())
        return localizer.locate(frame, self._motion.at(frame.stamp_ns))

    def _publish(self, localizer: Localizer, frame: Frame, estimate: Estimate) -> None:
        map_frame = self._settings.map_frame
        if estimate.state is State.LOCALIZED:
            self._priors.publish(messages.pose_prior(estimate, map_frame))
        self._matches.publish(messages.place_matches(estimate, localizer.map, localizer.mount, map_frame))
        if estimate.matches and self._pictures.get_subscription_count() > 0:
            picture = localizer.map.picture(estimate.matches[0].row)
            match = decode_jpeg(picture) if picture else None
            pair = side_by_side(frame.rgb, match, estimate.state is State.LOCALIZED)
            self._pictures.publish(messages.compressed_image(encode_jpeg(pair), estimate.stamp_ns, frame.camera))

    def _report(self) -> None:
        newest, localizer = self._newest, self._localizer
        if localizer is None:
            return
        now = time.monotonic()
        problem = self._status.problem(self, self._inputs[0], now)
        if problem:
            self.get_logger().warning(problem, throttle_duration_sec=10.0)
        values = {
            "places": len(localizer.map),
            **self._status.values(now),
            "device": str(localizer.extractor.device),
        }
        state = newest.state if newest and not problem else State.LOST
        reason = problem or (newest.reject_reason.value if newest else "no image yet")
        stamp_ns = self.get_clock().now().nanoseconds
        self._diagnostics.publish(messages.diagnostics(state, reason, values, stamp_ns))


def _start(node: Node) -> None:
    assert isinstance(node, LocalizerNode)
    if not parameters.read(node).autostart:
        return
    if node.trigger_configure() is not TransitionCallbackReturn.SUCCESS:
        raise UserError("d2vpr_localizer could not be configured; the reason is logged above")
    node.trigger_activate()


def _stop(node: Node) -> None:
    assert isinstance(node, LocalizerNode)
    node._stop_work()


def main() -> None:
    """Entry point of `ros2 run d2vpr_ros d2vpr_localizer`."""
    sys.exit(run(LocalizerNode, _start, _stop))


if __name__ == "__main__":
    main()
