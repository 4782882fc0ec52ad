"""The localizer's worker thread: takes the newest image of each camera in turn, answers it, hands the estimate on."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node

from d2vpr_ros.errors import UserError
from d2vpr_ros.images.decode import read_frame
from d2vpr_ros.images.frame import Frame
from d2vpr_ros.localize import Estimate, State
from d2vpr_ros.nodes.judging import Judging
from d2vpr_ros.nodes.loading import Loaded
from d2vpr_ros.nodes.mount import MountListener
from d2vpr_ros.nodes.newest import Newest
from d2vpr_ros.nodes.settings import Settings
from d2vpr_ros.nodes.side_inputs import SideInputs
from d2vpr_ros.nodes.status import InputStatus


@dataclass(frozen=True)
class Arrival:
    """An image message, when it came by the steady clock, and the number of its camera."""

    message: Any
    steady_s: float
    camera: int = 0


class Answering:
    """Runs from construction to `stop`; callbacks only hand over to it.

    Attributes:
        inputs: what comes in beside the images.
        judging: what becomes of each image.
        status: rates and times of all images, for /diagnostics; and of each camera's.
        newest: the last estimate since the start or since `forget`.
    """

    def __init__(
        self, node: Node, loaded: Loaded, settings: Settings, on_answer: Callable[[Loaded, Frame, Estimate], None]
    ) -> None:
        self.inputs = SideInputs(
            settings.gps_gate, lambda said: node.get_logger().warning(said, throttle_duration_sec=10.0)
        )
        self.status = InputStatus()
        self.statuses = [
            InputStatus(remap=f"--ros-args -r {camera.topic('image')}:=/the/images") for camera in settings.cameras
        ]
        self.newest: Estimate | None = None
        self._node, self._loaded, self._on_answer = node, loaded, on_answer
        mounts = MountListener(node)
        find_mount = mounts.lookup if mounts.can_know else None
        self.judging = Judging(settings, self.inputs, find_mount, node.get_logger().warning)
        self._images: Newest[Arrival] = Newest()
        self._answered = threading.Condition()  # guards what is loaded and the newest estimate
        self._answers = 0
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name="localize")
        self._thread.start()

    def put(self, message: Any, camera: int = 0) -> None:
        """Answer this image at that camera's next turn, in place of any of its that still waits."""
        self._images.put(Arrival(message, time.monotonic(), camera), camera)

    def arrived(self, camera: int = 0) -> None:
        """An image came in, whether or not it is to be answered."""
        for status in (self.status, self.statuses[camera]):
            status.arrived(time.monotonic())

    def silence(self, topics: Sequence[Any]) -> tuple[str, bool]:
        """Why no images of a camera come in, in one line, empty while they all do; and whether none at all come.

        Args:
            topics: the cameras' subscriptions.
        """
        now_s = time.monotonic()
        every = [one.problem(self._node, topic, now_s) for one, topic in zip(self.statuses, topics, strict=True)]
        return "; ".join(filter(None, every)), all(every)

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
            self.judging.forget_map()

    def wait_until_localized(self, images: int, timeout_s: float) -> Estimate | None:
        """The first answer that is LOCALIZED, else the last of so many images; None if none came in time."""
        with self._answered:
            enough = self._answers + images
            self._answered.wait_for(lambda: self._is_localized() or self._answers >= enough or self._stopped, timeout_s)
            return self.newest

    def _is_localized(self) -> bool:
        return self.newest is not None and self.newest.state is State.LOCALIZED

    def _work(self) -> None:
        log = self._node.get_logger()
        while (arrival := self._images.take()) is not None:
            try:
                self._answer(arrival)
            except UserError as error:
                log.error(f"image left out: {error}", throttle_duration_sec=5.0)
                self._leave_out(str(error))
            except (
                Exception
            ) as error:  # a defect of ours; a robot that goes on with the next image beats one that stops
                log.error(f"image left out: {traceback.format_exc()}", throttle_duration_sec=5.0)
                self._leave_out(repr(error))

    def _answer(self, arrival: Arrival) -> None:
        started_s = time.monotonic()
        frame = read_frame(arrival.message)
        with self._answered:
            loaded = self._loaded
            if not self.judging.has_mounts(loaded.localizer, frame, time.monotonic(), arrival.camera):
                return
            now_ns = self._node.get_clock().now().nanoseconds
            estimate = self.judging.estimate(loaded, frame, arrival.steady_s, now_ns, time.monotonic(), arrival.camera)
            self.newest = estimate
            self._answers += 1
            for status in (self.status, self.statuses[arrival.camera]):
                status.age_s = self.judging.age_s
                status.answered(time.monotonic() - started_s)
            # Before anyone may forget or change the map: an answer from before must not count as one from after.
            self._on_answer(loaded, frame, estimate)
            self._answered.notify_all()

    def _leave_out(self, why: str) -> None:
        with self._answered:
            self.newest, self.judging.problem = None, f"image left out: {why}"
