"""The localizer's worker thread: takes the newest image, answers it, hands the estimate on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node

from d2vpr_ros.errors import UserError
from d2vpr_ros.images.decode import read_frame
from d2vpr_ros.images.frame import Frame
from d2vpr_ros.localize import Estimate, RejectReason, State
from d2vpr_ros.localize.freshness import StampWatch
from d2vpr_ros.nodes.loading import Loaded
from d2vpr_ros.nodes.mount import MountListener
from d2vpr_ros.nodes.newest import Newest
from d2vpr_ros.nodes.settings import Settings
from d2vpr_ros.nodes.side_inputs import SideInputs
from d2vpr_ros.nodes.status import InputStatus


@dataclass(frozen=True)
class Arrival:
    """An image message and when it came, by the steady clock."""

    message: Any
    steady_s: float


class Answering:
    """Runs from construction to `stop`; callbacks only hand over to it.

    Attributes:
        inputs: what comes in beside the images.
        status: rates and times for /diagnostics.
        newest: the last estimate since the start or since `forget`.
    """

    def __init__(
        self, node: Node, loaded: Loaded, settings: Settings, on_answer: Callable[[Loaded, Frame, Estimate], None]
    ) -> None:
        self.inputs = SideInputs(
            settings.gps_gate, lambda said: node.get_logger().warning(said, throttle_duration_sec=10.0)
        )
        self.status = InputStatus()
        self.newest: Estimate | None = None
        self._node, self._loaded, self._settings, self._on_answer = node, loaded, settings, on_answer
        self._mounts = MountListener(node)
        self._watch = StampWatch()
        self._images: Newest[Arrival] = Newest()
        self._answered = threading.Condition()  # guards what is loaded and the newest estimate
        self._answers = 0
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name="localize")
        self._thread.start()

    def put(self, message: Any) -> None:
        """Answer this image next, in place of any that still waits."""
        self._images.put(Arrival(message, time.monotonic()))

    def stop(self) -> None:
        """Finish the image in hand and end; whoever waits for an answer is let go."""
        self._images.close()
        with self._answered:
            self._stopped = True
            self._answered.notify_all()
        self._thread.join()

    def forget(self) -> None:
        """Drop what was believed so far."""
        with self._answered:
            self.newest = None
            self._loaded.localizer.reset()

    def use(self, loaded: Loaded) -> None:
        """Answer the next images from another map."""
        with self._answered:
            self._loaded, self.newest = loaded, None

    def wait_until_localized(self, images: int, timeout_s: float) -> Estimate | None:
        """The first answer that is LOCALIZED, else the last of so many images; None if none came in time."""
        with self._answered:
            enough = self._answers + images
            self._answered.wait_for(lambda: self._is_localized() or self._answers >= enough or self._stopped, timeout_s)
            return self.newest

    def _is_localized(self) -> bool:
        return self.newest is not None and self.newest.state is State.LOCALIZED

    def _work(self) -> None:
        while (arrival := self._images.take()) is not None:
            started_s = time.monotonic()
            try:
                frame = read_frame(arrival.message)
            except UserError as error:
                self._node.get_logger().error(f"image left out: {error}", throttle_duration_sec=5.0)
                continue
            with self._answered:
                loaded = self._loaded
                estimate = self._estimate(frame, arrival)
                self.newest = estimate
                self._answers += 1
                self._answered.notify_all()
            self.status.answered(time.monotonic() - started_s)
            self._on_answer(loaded, frame, estimate)

    def _estimate(self, frame: Frame, arrival: Arrival) -> Estimate:
        localizer, log = self._loaded.localizer, self._node.get_logger()
        if localizer.mount is None:
            mount = self._mounts.lookup(self._settings.base_frame, self._settings.camera_frame or frame.camera)
            if mount is not None:
                localizer.use_mount(mount)
        if self._watch.jumped_back(frame.stamp_ns):
            log.warning("the images' stamps jumped back: starting anew")
            localizer.reset()
        is_first = self._watch.clocks_differ is None
        now_ns = self._node.get_clock().now().nanoseconds
        age_s = self._watch.age_s(frame.stamp_ns, now_ns, time.monotonic() - arrival.steady_s)
        if is_first and self._watch.clocks_differ:
            log.warning(
                "the images' stamps are over 60 s off this node's clock, so their age is taken from their arrival; "
                "for a recording, play it with --clock and set use_sim_time:=true"
            )
        self.status.age_s = age_s
        if age_s > self._settings.max_age_s:
            return Estimate(frame.stamp_ns, State.LOST, RejectReason.STALE_IMAGE, ())
        restriction = self.inputs.restriction_at(frame.stamp_ns, self._loaded.earth)
        return localizer.locate(frame, self.inputs.odometry_at(frame.stamp_ns), restriction)
