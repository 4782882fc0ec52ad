"""map -> odom on /tf, if asked for and as long as nobody else says where the odometry's frame is."""

from __future__ import annotations

import time

from rclpy.node import Node

from d2vpr_ros.fields import NANOSECONDS, one_line
from d2vpr_ros.geometry import Pose
from d2vpr_ros.localize import Estimate
from d2vpr_ros.localize.map_odom import MapOdom
from d2vpr_ros.localize.odometry import MotionBuffer
from d2vpr_ros.nodes.settings import Settings
from d2vpr_ros.nodes.side_inputs import SideInputs
from d2vpr_ros.nodes.tf_broadcast import TfBroadcast, tf_message

__all__ = ["TfOutput", "tf_message"]


class TfOutput:
    """From construction to `stop`."""

    def __init__(self, node: Node, settings: Settings, inputs: SideInputs, motion: MotionBuffer) -> None:
        """
        Args:
            motion: of the session that answers.

        Raises:
            UserError: tf2 is not installed.
        """
        self._settings, self._inputs, self._motion = settings, inputs, motion
        self._map_odom = MapOdom()
        self._broadcast = TfBroadcast(node, settings.map_frame, settings.odom_frame, self._transform)

    @property
    def status(self) -> str:
        """For /diagnostics."""
        return self._broadcast.status

    @property
    def refused(self) -> bool:
        """Whether somebody else publishes the transform; this does not, until it is made anew."""
        return self._broadcast.refused

    def stop(self) -> None:
        self._broadcast.stop()

    def forget(self) -> None:
        """The belief was dropped."""
        self._map_odom.forget()

    def see(self, estimate: Estimate) -> None:
        """Each answer, in turn; called by the worker."""
        motion = self._motion
        self._map_odom.see(estimate, motion.at(estimate.stamp_ns), motion.epoch, time.monotonic())

    def _transform(self) -> tuple[int, Pose] | str:
        transform, newest = self._map_odom.at(self._motion.epoch, time.monotonic()), self._motion.newest
        if newest is None:
            return "no odometry arrives: map -> odom needs it"
        heard = self._inputs.odometry_frames
        wanted = self._settings.odom_frame, self._settings.base_frame
        if any(frame and frame != other for frame, other in zip(heard, wanted, strict=True)):
            odom, base = map(one_line, heard)
            return f"the odometry is that of {base} in {odom}; odom_frame and base_frame are {wanted}"
        if transform is None:
            return "not localized"
        return newest[0] + round(self._settings.tf_tolerance_s * NANOSECONDS), transform
