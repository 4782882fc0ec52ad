"""What the map builder publishes of loops: closures as they are found, and the drive as they correct it."""

from __future__ import annotations

from collections.abc import Sequence

from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Path
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Float64MultiArray
from visualization_msgs.msg import MarkerArray

from d2vpr_ros.loops.closure import Closure
from d2vpr_ros.loops.live import Corrected
from d2vpr_ros.loops.past import Place
from d2vpr_ros.nodes import loop_messages
from d2vpr_ros.nodes.outputs import LATCHED


class LoopOutputs:
    """The publishers; their methods are called by the worker."""

    def __init__(self, node: Node, map_frame: str, base_frame: str) -> None:
        self._map_frame, self._base_frame = map_frame, base_frame
        self._closure = node.create_publisher(PoseWithCovarianceStamped, "~/loop_closure", 10)
        self._stamps = node.create_publisher(Float64MultiArray, "~/loop_stamps", 10)
        self._closures = node.create_publisher(PointCloud2, "~/loop_closures", LATCHED)
        self._path = node.create_publisher(Path, "~/path", LATCHED)
        self._markers = node.create_publisher(MarkerArray, "~/markers", 1)
        self._stamps_ns: dict[int, int] = {}

    def see(self, place: Place, closures: Sequence[Closure]) -> None:
        """Each place, with the closures that were accepted with it."""
        self._stamps_ns[place.id] = place.stamp_ns
        for closure in closures:
            self._closure.publish(loop_messages.loop_closure(closure, self._stamps_ns, self._base_frame))
            self._stamps.publish(loop_messages.loop_stamps(closure, self._stamps_ns))

    def publish(self, corrected: Corrected) -> None:
        """The drive so far, and all closures with their weights."""
        closures = corrected.closing.closures
        stamps = corrected.stamps_ns.tolist()
        self._closures.publish(loop_messages.loop_closures(closures, self._stamps_ns, self._base_frame))
        self._path.publish(loop_messages.path(stamps, corrected.poses, self._map_frame))
        if self._markers.get_subscription_count() > 0:
            positions = {
                place: pose.position for place, pose in zip(corrected.ids.tolist(), corrected.poses, strict=True)
            }
            self._markers.publish(loop_messages.markers(closures, positions, stamps[-1], self._map_frame))
