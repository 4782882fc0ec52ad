"""Loop closure as a part of the map builder: the worker, what it publishes, and map -> odom."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rclpy.node import Node

from d2vpr_ros.describe.features import FeatureExtractor
from d2vpr_ros.errors import UserError
from d2vpr_ros.fields import NANOSECONDS
from d2vpr_ros.geometry import Pose
from d2vpr_ros.loops.live import LiveLoops
from d2vpr_ros.loops.params import DEFAULT_PARAMS
from d2vpr_ros.nodes.loop_outputs import LoopOutputs
from d2vpr_ros.nodes.loop_worker import LoopWorker
from d2vpr_ros.nodes.pose_input import GPS
from d2vpr_ros.nodes.tf_broadcast import TfBroadcast, tf_message

NewestNs = Callable[[], "int | None"]
"""The stamp of the newest pose; None before the first."""


def check(values: Mapping[str, Any], pose_frame: str) -> None:
    """Refuse parameters that do not go together, before anything is loaded.

    Args:
        pose_frame: frame that the poses are in.

    Raises:
        UserError: naming them.
    """
    if values["pose_source"] == GPS:
        raise UserError(
            "parameter 'close_loops' is true and 'pose_source' is gps: poses from GPS do not drift; set pose_source to "
            "odom, or close_loops to false"
        )
    if values["publish_tf"]:
        tf_message()
        if values["closed_frame"] == pose_frame:
            raise UserError(
                f"parameter 'publish_tf' is true, and the poses are in {pose_frame}, as the corrected ones are; set "
                "closed_frame to another name, or publish_tf to false"
            )


class LoopClosing:
    """From construction to `stop`."""

    def __init__(
        self, node: Node, values: Mapping[str, Any], path: Path, session: int, pose_frame: str, newest_ns: NewestNs
    ) -> None:
        """
        Args:
            path, session: of the map that is built.
            pose_frame: frame that the poses are in.
        """
        self._node, self._newest_ns = node, newest_ns
        self._tolerance_ns = round(values["tf_tolerance_s"] * NANOSECONDS)
        params = replace(
            DEFAULT_PARAMS, drift=values["drift_percent"] / 100, least_probability=values["loop_probability"]
        )
        live = LiveLoops(path, session, FeatureExtractor.open(device=values["device"]), params)
        outputs = LoopOutputs(node, values["closed_frame"], values["base_frame"])
        g2o = path.with_suffix(".g2o")
        self._worker = LoopWorker(live, g2o, values["optimize_s"], outputs.see, outputs.publish)
        self._tf: TfBroadcast | None = None
        if values["publish_tf"]:
            self._tf = TfBroadcast(node, values["closed_frame"], pose_frame, self._transform)
        self._said = False

    def stored(self, place: int) -> None:
        """A place is in the map."""
        self._worker.stored(place)

    def catch_up(self) -> None:
        """Take all that is stored, and solve: so that `write` is short."""
        self._worker.catch_up()

    def write(self) -> None:
        """Write corrected poses and closures into the map, and the graph beside it.

        Raises:
            UserError: one of them cannot be written.
        """
        if self._worker.error is None:
            self._worker.write()

    def stop(self) -> None:
        """End the thread; `write` still works."""
        self._worker.stop()
        if self._tf is not None:
            self._tf.stop()

    def values(self) -> dict[str, object]:
        """For /diagnostics; says once in the log what ended it, if anything did."""
        error = self._worker.error
        if error is not None and not self._said:
            self._said = True
            self._node.get_logger().error(f"loops are not closed any more, mapping goes on: {error!r}")
        found: dict[str, object] = {"loop_closures": self._worker.closures}
        if error is not None:
            found["loops_ended"] = error
        if self._tf is not None:
            found["tf"] = self._tf.status
        return found

    def _transform(self) -> tuple[int, Pose] | str:
        newest, corrected = self._newest_ns(), self._worker.corrected
        if newest is None:
            return "no pose arrives"
        if corrected is None:
            return newest + self._tolerance_ns, Pose.identity()
        if corrected.map_odom is None:
            return "the odometry began anew, and no closure has joined it to what was before"
        return newest + self._tolerance_ns, corrected.map_odom
