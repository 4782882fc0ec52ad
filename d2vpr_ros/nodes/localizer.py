"""The node `d2vpr_localizer`: images in, place matches and pose priors out.

A lifecycle node: configure loads and checks model and map, activate subscribes, deactivate unsubscribes, cleanup frees.
Callbacks only hand over; images are described and matched on a worker thread, the newest first and only.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import Empty, SetBool, Trigger

from d2vpr_ros.describe import Extractor
from d2vpr_ros.errors import UserError
from d2vpr_ros.fields import read_pose, stamp_ns
from d2vpr_ros.images.frame import Frame
from d2vpr_ros.localize import Estimate, State
from d2vpr_ros.nodes import messages, settings
from d2vpr_ros.nodes.answering import Answering
from d2vpr_ros.nodes.blocking_service import BlockingService
from d2vpr_ros.nodes.loading import Loaded, load
from d2vpr_ros.nodes.outputs import Outputs
from d2vpr_ros.nodes.parameters import declare
from d2vpr_ros.nodes.spin import run

# Best effort matches reliable publishers too; depth 1, so that the newest image never queues behind older ones.
NEWEST_ONLY = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
_RELOCALIZE_IMAGES = 40
_RELOCALIZE_TIMEOUT_S = 10.0


class LocalizerNode(LifecycleNode):
    """Topics, parameters and services around one `Localizer`."""

    def __init__(self) -> None:
        super().__init__("d2vpr_localizer")
        declare(self, settings.PARAMETERS)
        self._answering: Answering | None = None
        self._enabled = True
        self._state: State | None = None
        self._loaded: Loaded | None = None

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
        self._settings = values = settings.read(self)
        if not values.map:
            raise UserError("parameter 'map' is empty; give a map file: --ros-args -p map:=town.d2map")
        extractor = Extractor.open(values.weights, values.backend, values.precision, values.device, values.projection)
        loaded = load(values.map, extractor, values, values.mount, self.get_logger().warning)
        extractor.describe([np.zeros((480, 640, 3), np.uint8)])  # the first pass is slow: not on the first image
        self._loaded = loaded
        self._outputs = Outputs(self, values)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._outputs.show_map(loaded)
        self.get_logger().info(
            f"map {values.map}: {len(loaded.localizer.map)} places; weights {values.weights} on {extractor.device}"
        )
        if loaded.localizer.map.header.geo_tagged and loaded.earth is None:
            self.get_logger().warning(
                f"map {values.map} has geo-tags, but they do not say where its frame lies on the earth (there are too "
                "few, too close together, or they do not fit the poses): ~/fix is not published"
            )

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        compressed = self._settings.image_transport == "compressed"
        kind, topic = (CompressedImage, "image/compressed") if compressed else (Image, "image")
        assert self._loaded is not None
        self._answering = Answering(self, self._loaded, self._settings, self._publish)
        self._images = self.create_subscription(kind, topic, self._take_image, NEWEST_ONLY)
        self._odometry = self.create_subscription(Odometry, "odom", self._take_odometry, 50)
        self._services = [
            self.create_service(SetBool, "~/enable", self._enable),
            self.create_service(Empty, "reinitialize_global_localization", self._reinitialize),
        ]
        self._relocalizing = BlockingService(self, Trigger, "relocalize", self._relocalize)
        self._timer = self.create_timer(1.0, self._report)
        self.get_logger().info(f"waiting for images on {self._images.topic_name}")
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.stop()
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._outputs.destroy()
        self.destroy_publisher(self._diagnostics)
        self._unload()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.stop()
        return TransitionCallbackReturn.SUCCESS

    def start(self) -> None:
        """Configure and activate, unless a lifecycle manager is to do it.

        Raises:
            UserError: configuring failed; the reason is in the log.
        """
        if not settings.read(self).autostart:
            return
        if self.trigger_configure() is not TransitionCallbackReturn.SUCCESS:
            raise UserError("d2vpr_localizer could not be configured; the reason is logged above")
        self.trigger_activate()

    def stop(self) -> None:
        """End the worker and take down the inputs; safe to call twice."""
        if self._answering is None:
            return
        self._answering.stop()
        self._relocalizing.stop()
        self._answering = None
        self.destroy_timer(self._timer)
        self.destroy_subscription(self._images)
        self.destroy_subscription(self._odometry)
        for service in self._services:
            self.destroy_service(service)

    def destroy_node(self) -> None:
        self._unload()
        super().destroy_node()

    def _unload(self) -> None:
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = None

    # Callbacks

    def _take_image(self, message: Any) -> None:
        if self._answering is not None:
            self._answering.status.arrived(time.monotonic())
            if self._enabled:
                self._answering.put(message)

    def _take_odometry(self, message: Odometry) -> None:
        try:
            pose = read_pose(message.pose.pose)
        except ValueError as error:
            self.get_logger().warning(f"odometry is left out: {error}", throttle_duration_sec=10.0)
            return
        if self._answering is not None:
            self._answering.motion.add(stamp_ns(message.header), pose)

    def _enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = bool(request.data)
        response.success, response.message = True, "enabled" if self._enabled else "disabled"
        return response

    def _reinitialize(self, request: Empty.Request, response: Empty.Response) -> Empty.Response:
        """The call that Nav2's behaviour tree makes when the robot is lost."""
        if self._answering is not None:
            self._forget(self._answering)
        return response

    def _forget(self, answering: Answering) -> None:
        answering.forget()
        self._outputs.initial_pose.forget()

    def _relocalize(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Forget, then wait for what the next images say."""
        answering = self._answering
        if answering is None:
            response.message = "the node is not active; activate it first"
            return response
        self._forget(answering)
        newest = answering.wait_until_localized(_RELOCALIZE_IMAGES, _RELOCALIZE_TIMEOUT_S)
        if newest is None:
            response.message = f"no image came in within {_RELOCALIZE_TIMEOUT_S:.0f} s on {self._images.topic_name}"
        elif newest.pose is not None:
            x, y, z = newest.pose.position
            response.success, response.message = True, f"LOCALIZED at x {x:.2f} m, y {y:.2f} m, z {z:.2f} m"
            response.message += self._outputs.initial_pose.answer_request(newest)
        else:
            response.message = f"{newest.state.value}: {newest.reject_reason.value}"
        return response

    # Output

    def _publish(self, loaded: Loaded, frame: Frame, estimate: Estimate) -> None:
        """Called by the worker for every image."""
        self._outputs.publish(loaded, frame, estimate)
        if estimate.state is not self._state:
            self._report()

    def _report(self) -> None:
        """Publish /diagnostics: each second, and at once when the state changes."""
        answering, loaded = self._answering, self._loaded
        if answering is None or loaded is None:
            return
        problem = answering.status.problem(self, self._images, time.monotonic())
        if problem:
            self.get_logger().warning(problem, throttle_duration_sec=10.0)
        newest = answering.newest
        self._state = newest.state if newest and not problem else State.LOST
        reason = problem or (newest.reject_reason.value if newest else "no image yet")
        localizer = loaded.localizer
        values = {
            "places": len(localizer.map),
            "answers": "poses" if localizer.map.header.metric else "matches only: the map has no metres",
            **answering.status.values(time.monotonic()),
            "device": str(localizer.extractor.device),
            "search_backend": localizer.search.status,
        }
        now_ns = self.get_clock().now().nanoseconds
        self._diagnostics.publish(messages.diagnostics(self._state, reason, values, now_ns))


def main() -> None:
    """Entry point of `ros2 run d2vpr_ros d2vpr_localizer`."""
    sys.exit(run(LocalizerNode))


if __name__ == "__main__":
    main()
