"""The node `d2vpr_localizer`: images in, place matches and pose priors out.

A lifecycle node: configure loads and checks model and map, activate subscribes, deactivate unsubscribes, cleanup frees.
Callbacks only hand over; images are described and matched on worker threads, the newest first and only.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from nav_msgs.msg import Odometry
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, NavSatFix

from d2vpr_ros.describe import Extractor
from d2vpr_ros.errors import UserError
from d2vpr_ros.images.frame import Frame
from d2vpr_ros.localize import Estimate, State
from d2vpr_ros.mapping import read_map
from d2vpr_ros.nodes import messages, settings
from d2vpr_ros.nodes.answering import Answering
from d2vpr_ros.nodes.loading import Loaded, load, some_pictures, with_options
from d2vpr_ros.nodes.mount import MountListener
from d2vpr_ros.nodes.outputs import Outputs
from d2vpr_ros.nodes.parameters import ask_before_set, declare, warn_of_unknown
from d2vpr_ros.nodes.reporting import report_values
from d2vpr_ros.nodes.robot_cameras import check_mounts, known
from d2vpr_ros.nodes.services import Services
from d2vpr_ros.nodes.spin import run
from d2vpr_ros.nodes.status import STEADY, clock_problem, own_name
from d2vpr_ros.nodes.tf_output import TfOutput, tf_message
from d2vpr_ros.nodes.topic_input import TopicInput, image_input

# Best effort matches reliable publishers too; depth 1, so that the newest image never queues behind older ones.
NEWEST_ONLY = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
ODOMETRY_QOS = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)


class LocalizerNode(LifecycleNode):
    """Topics, parameters and services around one `Localizer`."""

    def __init__(self) -> None:
        super().__init__("d2vpr_localizer")
        declare(self, settings.PARAMETERS)
        ask_before_set(self, settings.PARAMETERS, self._change)
        self._answering: Answering | None = None
        self._state: State | None = None
        self._loaded: Loaded | None = None
        self._tf: TfOutput | None = None
        self._offered: Services | None = None
        self._listener: MountListener | None = None
        self._images: list[TopicInput] = []
        self._subscribed: list[Any] = []
        self._timer: Any = None

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
        warn_of_unknown(self)  # the cameras' names have added theirs
        if not values.map:
            raise UserError("parameter 'map' is empty; give a map file: --ros-args -p map:=town.d2map")
        check_mounts(values.cameras)
        if values.publish_tf:
            tf_message()  # better missed now than when it is activated
        place_map = read_map(values.map)
        pictures = some_pictures(place_map) if values.precision == "fast" else None
        self._extractor = Extractor.open(
            values.weights, values.backend, values.precision, values.device, values.projection, pictures
        )
        mounts = [camera.mount for camera in values.cameras]
        loaded = load(place_map, self._extractor, values, known(mounts), self.get_logger().warning)
        self._extractor.describe([np.zeros((480, 640, 3), np.uint8)])  # the first pass is slow: not on the first image
        self._loaded = loaded
        self._outputs = Outputs(self, values)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        said = self._show(loaded)
        self.get_logger().info(f"{said}; weights {values.weights} on {self._extractor.device}")

    def _show(self, loaded: Loaded) -> str:
        """Publish a map's places; what it is, in words."""
        self._outputs.show_map(loaded)
        place_map = loaded.localizer.map
        if place_map.header.geo_tagged and loaded.earth is None:
            self.get_logger().warning(
                f"map {place_map.path} has latitudes and longitudes, but its frame cannot be placed on the earth (they "
                "are too few, too close together, or do not fit the poses): ~/fix is not published"
            )
        return f"map {place_map.path}: {len(place_map)} places"

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and start answering."""
        try:
            self._activate()
        except Exception:  # rclpy would keep it to itself
            self.get_logger().error(traceback.format_exc())
            self.stop()
            return TransitionCallbackReturn.ERROR
        return TransitionCallbackReturn.SUCCESS

    def _activate(self) -> None:
        assert self._loaded is not None
        self._listener = self._listener or MountListener(self)  # once: activated again, it still knows
        self._answering = Answering(self, self._loaded, self._settings, self._publish, tf=self._listener)
        inputs = self._answering.inputs
        if self._settings.publish_tf:
            self._tf = TfOutput(self, self._settings, inputs, self._answering.session.motion)
        self._images, self._subscribed = [], []
        for number, camera in enumerate(self._settings.cameras):
            take = partial(self._take_image, number)
            images = image_input(
                self, camera, self._settings.image_transport, take, NEWEST_ONLY.depth, self._settings.image_reliability
            )
            take_info = partial(inputs.take_camera_info, image_topic=images.topic_name, camera=number)
            info = self.create_subscription(CameraInfo, camera.topic("camera_info"), take_info, NEWEST_ONLY)
            self._images.append(images)
            self._subscribed.append(info)
        self._subscribed.append(self.create_subscription(Odometry, "odom", self._take_odometry, ODOMETRY_QOS))
        topics = ", ".join(images.topic_name for images in self._images)
        if self._settings.use_gps:
            self._subscribed.append(self.create_subscription(NavSatFix, "gps/fix", inputs.take_fix, NEWEST_ONLY))
        self._offered = Services(self, self._answering, self._outputs, self._belief_dropped, self._reload, topics)
        self._timer = self.create_timer(1.0, self._each_second, clock=STEADY)
        self.get_logger().info(f"waiting for images on {topics}")

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
            UserError: one of them failed; the reason is in the log.
        """
        if not settings.read(self).autostart:
            return
        if self.trigger_configure() is not TransitionCallbackReturn.SUCCESS:
            raise UserError("d2vpr_localizer could not be configured; the reason is logged above")
        if self.trigger_activate() is not TransitionCallbackReturn.SUCCESS:
            raise UserError("d2vpr_localizer could not be activated; the reason is logged above")

    def stop(self) -> None:
        """End the worker and take down the inputs; safe to call twice."""
        if self._answering is None:
            return
        self._answering.stop()
        if self._offered is not None:
            self._offered.stop()
        self._answering = self._offered = None
        if self._timer is not None:
            self.destroy_timer(self._timer)
        for subscription in self._subscribed:
            self.destroy_subscription(subscription)
        for images in self._images:
            images.destroy()
        if self._tf is not None:
            self._tf.stop()
        self._timer, self._subscribed, self._tf = None, [], None

    def destroy_node(self) -> None:
        self._unload()
        super().destroy_node()

    def _reload(self) -> str:
        """Put the map file as it is now in place of what is loaded; on the service's thread, while images go on."""
        answering, old = self._answering, self._loaded
        if answering is None or old is None:
            raise UserError("the node is not active; activate it first")
        path = str(self.get_parameter("map").value)
        mounts, features = old.localizer.cameras.mounts, old.geometry.extractor if old.geometry else None
        say = self.get_logger().warning
        self._loaded = load(read_map(path), self._extractor, self._settings, mounts, say, features)
        answering.use(self._loaded)
        self._belief_dropped()
        old.close()
        return self._show(self._loaded)

    def _change(self, given: Mapping[str, Any]) -> str:
        """Apply parameters that are set while the node runs; what is to be known of that. Raises as `settings`."""
        loaded = self._loaded
        changed = settings.changed(self, given, is_configured=loaded is not None)
        if loaded is None:
            return "used when the node is configured"
        if changed.publish_tf:
            tf_message()
        said = ["used by the next ~/reload_map"] if "map" in given else []
        if changed.options != self._settings.options:
            self._loaded = with_options(loaded, changed)
            self._belief_dropped()
            said.append("the belief is reset")
        self._settings = changed
        self._outputs.initial_pose.use(changed.publish_initialpose)
        self._outputs.independent_priors = changed.independent_priors
        if self._answering is not None and self._offered is not None and set(given) != {"map"}:
            enabled = self._offered.enabled
            self.stop()
            self._activate()
            self._offered.enabled = enabled
        return "; ".join(said)

    def _belief_dropped(self) -> None:
        self._outputs.initial_pose.forget()
        if self._tf is not None:
            self._tf.forget()

    def _unload(self) -> None:
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = None

    # Callbacks

    def _take_image(self, camera: int, message: Any) -> None:
        if self._answering is not None:
            self._answering.arrived(camera)
            if self._offered is None or self._offered.enabled:
                self._answering.put(message, camera)

    def _take_odometry(self, message: Odometry) -> None:
        if self._answering is not None:
            self._answering.inputs.take_odometry(message, time.monotonic())

    # Output

    def _publish(self, loaded: Loaded, frame: Frame, estimate: Estimate) -> None:
        """Called by the worker for every image."""
        self._outputs.publish(loaded, frame, estimate)
        if self._tf is not None:
            self._tf.see(estimate)
        if estimate.state is not self._state:
            self._report()

    def _each_second(self) -> None:
        for images in self._images:
            if losses := images.watch():
                self.get_logger().warning(losses, throttle_duration_sec=30.0)
        if no_clock := clock_problem(self):
            self.get_logger().warning(no_clock, throttle_duration_sec=10.0)
        self._report()

    def _report(self) -> None:
        """Publish /diagnostics: each second, and at once when the state changes."""
        answering, loaded = self._answering, self._loaded
        if answering is None or loaded is None:
            return
        silent, no_images = answering.silence(self._images)
        no_clock = clock_problem(self)
        problem = "; ".join(filter(None, [no_clock, silent])) if no_images else ""
        if self._offered is not None and not self._offered.enabled:
            problem = "disabled by ~/enable"
        elif silent:
            self.get_logger().warning(silent, throttle_duration_sec=10.0)
        newest = answering.newest
        self._state = newest.state if newest and not problem else State.LOST
        reason = problem or answering.problem
        reason = reason or (newest.reject_reason.value if newest else no_clock or "no image yet")
        values = report_values(answering, loaded, self._settings, self._tf, time.monotonic())
        values["input_lost"] = ", ".join(f"{images.lost_share:.0%}" for images in self._images)
        values["clock"] = no_clock or "ok"
        now_ns = self.get_clock().now().nanoseconds
        array = messages.diagnostics(own_name(self), self._state, reason, values, now_ns)
        if self._tf is not None and self._tf.refused:
            array.status[0].level = DiagnosticStatus.ERROR
        self._diagnostics.publish(array)


def main() -> None:
    """Entry point of `ros2 run d2vpr_ros d2vpr_localizer`."""
    sys.exit(run(LocalizerNode))


if __name__ == "__main__":
    main()
