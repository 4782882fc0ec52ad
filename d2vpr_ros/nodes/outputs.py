"""What the localizer publishes of a map and of each answer."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CompressedImage, NavSatFix, PointCloud2

from d2vpr_ros.images.compose import decode_jpeg, encode_jpeg, side_by_side
from d2vpr_ros.images.frame import Frame
from d2vpr_ros.localize import Estimate, State
from d2vpr_ros.mapping.earth import Earth
from d2vpr_ros.nodes import messages
from d2vpr_ros.nodes.initial_pose import InitialPose
from d2vpr_ros.nodes.loading import Loaded
from d2vpr_ros.nodes.settings import Settings

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Outputs:
    """The publishers, from construction to `destroy`.

    Attributes:
        initial_pose: the one that resets other programs.
        independent_priors: as the parameter.
    """

    def __init__(self, node: Node, settings: Settings) -> None:
        self._node, self._map_frame, self._base_frame = node, settings.map_frame, settings.base_frame
        self.independent_priors = settings.independent_priors
        self.initial_pose = InitialPose(node, settings.publish_initialpose, settings.map_frame)
        self._priors = node.create_publisher(PoseWithCovarianceStamped, "~/pose_prior", 10)
        self._matches = node.create_publisher(PointCloud2, "~/place_matches", 10)
        self._fixes = node.create_publisher(NavSatFix, "~/fix", 10)
        self._pictures = node.create_publisher(CompressedImage, "~/match_image/compressed", 1)
        self._places = node.create_publisher(PointCloud2, "~/map_places", LATCHED)

    def destroy(self) -> None:
        self.initial_pose.destroy()
        for publisher in (self._priors, self._matches, self._fixes, self._pictures, self._places):
            self._node.destroy_publisher(publisher)

    def show_map(self, loaded: Loaded) -> None:
        """For whoever listens to `~/map_places`, now or later."""
        self._places.publish(messages.map_places(loaded.localizer.map, self._map_frame))

    def publish(self, loaded: Loaded, frame: Frame, estimate: Estimate) -> None:
        """One answer, accepted or not."""
        localizer = loaded.localizer
        is_localized = estimate.state is State.LOCALIZED
        if is_localized:
            self._priors.publish(messages.pose_prior(estimate, self._map_frame, self._inflation(estimate)))
        self.initial_pose.see(estimate)
        mount = localizer.cameras.mounts[estimate.camera]
        self._matches.publish(messages.place_matches(estimate, localizer.map, mount, self._map_frame))
        if loaded.earth is not None:
            self._publish_fix(loaded, loaded.earth, estimate)
        if estimate.matches and self._pictures.get_subscription_count() > 0:
            picture = localizer.map.picture(estimate.matches[0].row)
            match = decode_jpeg(picture) if picture else None
            jpeg = encode_jpeg(side_by_side(frame.rgb, match, is_localized))
            self._pictures.publish(messages.compressed_image(jpeg, estimate.stamp_ns, frame.camera))

    def _inflation(self, estimate: Estimate) -> float:
        return estimate.inflation if self.independent_priors else 1.0

    def _publish_fix(self, loaded: Loaded, earth: Earth, estimate: Estimate) -> None:
        if estimate.pose is None or estimate.covariance is None:
            self._fixes.publish(messages.no_fix(estimate.stamp_ns, self._base_frame))
            return
        latitude, longitude, altitude = earth.to_geo(estimate.pose.position)
        if not np.isfinite(loaded.localizer.map.geo[estimate.matches[0].row, 2]):
            altitude = float("nan")
        covariance = self._inflation(estimate) * earth.covariance(estimate.covariance[:3, :3])
        if not np.isfinite([latitude, longitude, *covariance.ravel()]).all():  # beyond the horizon of the map's plane
            self._fixes.publish(messages.no_fix(estimate.stamp_ns, self._base_frame))
            return
        geo = latitude, longitude, altitude
        self._fixes.publish(messages.fix(estimate.stamp_ns, geo, covariance, self._base_frame))
