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
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from std_srvs.srv import Empty, SetBool, Trigger

from d2vpr_ros.describe import Extractor
from d2vpr_ros.errors import UserError
from d2vpr_ros.fields import read_pose, stamp_ns
from d2vpr_ros.images.compose import decode_jpeg, encode_jpeg, side_by_side
from d2vpr_ros.images.frame import Frame
from d2vpr_ros.localize import Estimate, Localizer, State
from d2vpr_ros.mapping import read_map
from d2vpr_ros.mapping.search import Search, open_search
from d2vpr_ros.nodes import messages, settings
from d2vpr_ros.nodes.answering import Answering
from d2vpr_ros.nodes.blocking_service import BlockingService
from d2vpr_ros.nodes.parameters import declare
from d2vpr_ros.nodes.spin import run

# Best effort matches reliable publishers too; depth 1, so that the newest image never queues behind older ones.
NEWEST_ONLY = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
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
        self._search: Search | None = None

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and check model and map, warm up; FAILURE with the reason logged where something does not fit."""
        try:
            self._configure()
        except UserError as error:
            self.get_logger().error(str(error))
            self._close_search()
            return TransitionCallbackReturn.FAILURE
        return TransitionCallbackReturn.SUCCESS

    def _configure(self) -> None:
        self._settings = values = settings.read(self)
        if not values.map:
            raise UserError("parameter 'map' is empty; give a map file: --ros-args -p map:=town.d2map")
        place_map = read_map(values.map)
        extractor = Extractor.open(values.weights, values.backend, values.precision, values.device, values.projection)
        say = self.get_logger().warning
        self._search = open_search(values.search_backend, values.search_collection, place_map, say)
        self._localizer = Localizer(place_map, extractor, values.options, values.mount, self._search)
        extractor.describe([np.zeros((480, 640, 3), np.uint8)])  # the first pass is slow: not on the first image
        self._priors = self.create_publisher(PoseWithCovarianceStamped, "~/pose_prior", 10)
        self._matches = self.create_publisher(PointCloud2, "~/place_matches", 10)
        self._pictures = self.create_publisher(CompressedImage, "~/match_image/compressed", 1)
        self._places = self.create_publisher(PointCloud2, "~/map_places", LATCHED)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._places.publish(messages.map_places(place_map, values.map_frame))
        self.get_logger().info(
            f"map {values.map}: {len(place_map)} places; weights {values.weights} on {extractor.device}"
        )

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        compressed = self._settings.image_transport == "compressed"
        kind, topic = (CompressedImage, "image/compressed") if compressed else (Image, "image")
        self._answering = Answering(self, self._localizer, self._settings, self._publish)
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
        for publisher in (self._priors, self._matches, self._pictures, self._places, self._diagnostics):
            self.destroy_publisher(publisher)
        del self._localizer
        self._close_search()
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
        """End what searches for places too: it may have a connection and a thread."""
        self._close_search()
        super().destroy_node()

    def _close_search(self) -> None:
        if self._search is not None:
            self._search.close()
            self._search = None

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
            self._answering.forget()
        return response

    def _relocalize(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Forget, then wait for what the next images say."""
        answering = self._answering
        if answering is None:
            response.message = "the node is not active; activate it first"
            return response
        answering.forget()
        newest = answering.wait_until_localized(_RELOCALIZE_IMAGES, _RELOCALIZE_TIMEOUT_S)
        if newest is None:
            response.message = f"no image came in within {_RELOCALIZE_TIMEOUT_S:.0f} s on {self._images.topic_name}"
        elif newest.pose is not None:
            x, y, z = newest.pose.position
            response.success, response.message = True, f"LOCALIZED at x {x:.2f} m, y {y:.2f} m, z {z:.2f} m"
        else:
            response.message = f"{newest.state.value}: {newest.reject_reason.value}"
        return response

    # Output

    def _publish(self, frame: Frame, estimate: Estimate) -> None:
        """Called by the worker for every image."""
        localizer, map_frame = self._localizer, self._settings.map_frame
        is_localized = estimate.state is State.LOCALIZED
        if is_localized:
            self._priors.publish(messages.pose_prior(estimate, map_frame))
        self._matches.publish(messages.place_matches(estimate, localizer.map, localizer.mount, map_frame))
        if estimate.matches and self._pictures.get_subscription_count() > 0:
            picture = localizer.map.picture(estimate.matches[0].row)
            match = decode_jpeg(picture) if picture else None
            jpeg = encode_jpeg(side_by_side(frame.rgb, match, is_localized))
            self._pictures.publish(messages.compressed_image(jpeg, estimate.stamp_ns, frame.camera))
        if estimate.state is not self._state:
            self._report()

    def _report(self) -> None:
        """Publish /diagnostics: each second, and at once when the state changes."""
        answering = self._answering
        if answering is None:
            return
        problem = answering.status.problem(self, self._images, time.monotonic())
        if problem:
            self.get_logger().warning(problem, throttle_duration_sec=10.0)
        newest = answering.newest
        self._state = newest.state if newest and not problem else State.LOST
        reason = problem or (newest.reject_reason.value if newest else "no image yet")
        values = {
            "places": len(self._localizer.map),
            "answers": "poses" if self._localizer.map.header.metric else "matches only: the map has no metres",
            **answering.status.values(time.monotonic()),
            "device": str(self._localizer.extractor.device),
            "search_backend": self._localizer.search.status,
        }
        now_ns = self.get_clock().now().nanoseconds
        self._diagnostics.publish(messages.diagnostics(self._state, reason, values, now_ns))


def main() -> None:
    """Entry point of `ros2 run d2vpr_ros d2vpr_localizer`."""
    sys.exit(run(LocalizerNode))


if __name__ == "__main__":
    main()
