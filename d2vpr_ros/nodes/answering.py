"""The localizer's work on images: takes the newest of each camera in turn, answers it, hands the estimate on."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from rclpy.node import Node

from d2vpr_ros.errors import UserError
from d2vpr_ros.images.decode import read_frame
from d2vpr_ros.images.frame import Frame
from d2vpr_ros.localize import Estimate, State
from d2vpr_ros.localize.session import Arrival as Timing
from d2vpr_ros.localize.session import LocalizerSession, SessionOptions
from d2vpr_ros.nodes.camera_mounts import CameraMounts
from d2vpr_ros.nodes.loading import Loaded
from d2vpr_ros.nodes.mount import MountListener
from d2vpr_ros.nodes.settings import Settings
from d2vpr_ros.nodes.side_inputs import SideInputs
from d2vpr_ros.nodes.stages import Stages, Step
from d2vpr_ros.nodes.status import InputStatus
from d2vpr_ros.nodes.topic_input import TopicInput

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Arrival:
    """An image message, when it came by the steady clock, and the number of its camera."""

    message: Any
    steady_s: float
    camera: int = 0


@dataclass(frozen=True, eq=False)
class Seen:
    """An image on its way to an answer.

    Attributes:
        arrival: what it was made of.
        frame: the picture.
        started_s: when it was taken up, by the steady clock.
        loaded: the map that was in use then.
        now_ns, now_s: the node's clock and the steady one before it was described: its age then is what counts, not
            with the time that the network takes.
        descriptor: (D,) float32; None as long as it is not described.
    """

    arrival: Arrival
    frame: Frame
    started_s: float
    loaded: Loaded
    now_ns: int
    now_s: float
    descriptor: npt.NDArray[np.float32] | None = None


def _or_left_out(step: Callable[[Answering, Item], Result]) -> Callable[[Answering, Item], Result | None]:
    """A step that tells of an image that cannot be answered instead of raising."""

    @wraps(step)
    def guarded(self: Answering, item: Item) -> Result | None:
        try:
            return step(self, item)
        except Exception as error:
            self.left_out(error)
            return None

    return guarded


class Answering:
    """Runs from construction to `stop`; callbacks only hand over to it.

    Where the network runs beside the processor, an image is decoded and another matched while one is described. Where
    it needs every core itself, one thread does all, so that the image taken up is the newest there is.

    Attributes:
        session: what makes answers of all that comes in.
        inputs: hand it what comes beside the images.
        mounts: of the cameras.
        status: rates and times of all images, for /diagnostics; and of each camera's.
        newest: the last estimate since the start or since `forget`.
    """

    def __init__(
        self,
        node: Node,
        loaded: Loaded,
        settings: Settings,
        on_answer: Callable[[Loaded, Frame, Estimate], None],
        overlap: bool | None = None,
        tf: MountListener | None = None,
    ) -> None:
        """
        Args:
            on_answer: called for each answer, by one thread at a time.
            overlap: whether decoding, describing and matching have a thread each; None has it by the device.
            tf: the node's listener; None is where there is no tf.
        """
        find_mount = tf.lookup if tf is not None and tf.can_know else None

        def say(text: str) -> None:
            node.get_logger().warning(text, throttle_duration_sec=10.0)

        gate = settings.gps_gate if settings.use_gps else None
        options = SessionOptions(gate, settings.max_age_s, settings.options.top_speed_mps)
        self.session = LocalizerSession(loaded.localizer, loaded.earth, options, len(settings.cameras), say)
        self.inputs = SideInputs(self.session, settings.base_frame, find_mount)
        self.status = InputStatus()
        self.statuses = [InputStatus(remap=camera.how_to_remap) for camera in settings.cameras]
        self.newest: Estimate | None = None
        self._node, self._loaded, self._on_answer = node, loaded, on_answer
        self.mounts = CameraMounts(settings, self.inputs.mounts, find_mount, node.get_logger().warning)
        self._left_out = ""
        self._answered = threading.Condition()  # guards what is loaded and the newest estimate
        self._answers = 0
        self._stopped = False
        if overlap is None:
            overlap = loaded.localizer.extractor.device != "cpu"
        several: dict[str, Step] = {"decode": self._decode, "describe": self._describe, "localize": self._answer}
        one: dict[str, Step] = {"localize": lambda arrival: self._answer(self._decode(arrival))}
        self._stages = Stages(several if overlap else one)

    @property
    def problem(self) -> str:
        """Why the newest image was not looked at, in words; empty if it was."""
        return self._left_out or self.mounts.problem or self.session.problem

    def put(self, message: Any, camera: int = 0) -> None:
        """Answer this image at that camera's next turn, in place of any of its that still waits."""
        self._stages.put(Arrival(message, time.monotonic(), camera), camera)

    def arrived(self, camera: int = 0) -> None:
        """An image came in, whether or not it is to be answered."""
        for status in (self.status, self.statuses[camera]):
            status.arrived(time.monotonic())

    def silence(self, topics: Sequence[TopicInput]) -> tuple[str, bool]:
        """Why no images of a camera come in, in one line, empty while they all do; and whether none at all come.

        Args:
            topics: the cameras'.
        """
        now_s = time.monotonic()
        every = [one.problem(self._node, topic, now_s) for one, topic in zip(self.statuses, topics, strict=True)]
        return "; ".join(filter(None, every)), all(every)

    def stop(self) -> None:
        """Finish the images in hand and end; whoever waits for an answer is let go."""
        with self._answered:
            self._stopped = True
            self._answered.notify_all()
        self._stages.stop()

    def forget(self) -> None:
        """Drop what was believed so far."""
        with self._answered:
            self.newest = None
            self.session.forget()

    def use(self, loaded: Loaded) -> None:
        """Answer the next images from another map."""
        with self._answered:
            self._loaded, self.newest = loaded, None
            self.session.use_map(loaded.localizer, loaded.earth)

    def wait_until_localized(self, images: int, timeout_s: float) -> Estimate | None:
        """The first answer that is LOCALIZED, else the last of so many images; None if none came in time."""
        with self._answered:
            enough = self._answers + images
            self._answered.wait_for(lambda: self._is_localized() or self._answers >= enough or self._stopped, timeout_s)
            return self.newest

    def _is_localized(self) -> bool:
        return self.newest is not None and self.newest.state is State.LOCALIZED

    @_or_left_out
    def _decode(self, arrival: Arrival) -> Seen | None:
        started_s = time.monotonic()
        image_range = self._loaded.localizer.map.header.image_range
        frame = read_frame(arrival.message, image_range=image_range)
        with self._answered:
            loaded = self._loaded
            if not self._has_mounts(loaded, frame, arrival.camera):
                return None
        return Seen(arrival, frame, started_s, loaded, *self._now())

    @_or_left_out
    def _describe(self, seen: Seen) -> Seen:
        now_ns, now_s = self._now()
        (descriptor,) = seen.loaded.localizer.extractor.describe([seen.frame.rgb])
        return replace(seen, now_ns=now_ns, now_s=now_s, descriptor=descriptor)

    @_or_left_out
    def _answer(self, seen: Seen | None) -> None:
        if seen is None:
            return
        with self._answered:
            arrival, frame, loaded = seen.arrival, seen.frame, self._loaded
            if loaded is not seen.loaded and not self._has_mounts(loaded, frame, arrival.camera):  # another map by now
                return
            timing = Timing(arrival.steady_s, seen.now_s, seen.now_ns)
            estimate = self.session.answer(frame, arrival.camera, seen.descriptor, timing)
            self._left_out = ""
            self.newest = estimate
            self._answers += 1
            for status in (self.status, self.statuses[arrival.camera]):
                status.age_s = self.session.age_s
                status.answered(time.monotonic() - seen.started_s)
            # Before anyone may forget or change the map: an answer from before must not count as one from after.
            self._on_answer(loaded, frame, estimate)
            self._answered.notify_all()

    def _now(self) -> tuple[int, float]:
        return self._node.get_clock().now().nanoseconds, time.monotonic()

    def _has_mounts(self, loaded: Loaded, frame: Frame, camera: int) -> bool:
        return self.mounts.has_mounts(loaded.localizer, frame, time.monotonic(), camera)

    def left_out(self, error: Exception) -> None:
        """Say why an image is not answered, and let /diagnostics say it."""
        log = self._node.get_logger()
        if isinstance(error, UserError):
            log.error(f"image left out: {error}", throttle_duration_sec=5.0)
            why = str(error)
        else:  # a defect of ours; a robot that goes on with the next image beats one that stops
            log.error(f"image left out: {traceback.format_exc()}", throttle_duration_sec=5.0)
            why = repr(error)
        with self._answered:
            self.newest, self._left_out = None, f"image left out: {why}"
