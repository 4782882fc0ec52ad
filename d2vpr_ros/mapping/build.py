"""From posed frames to the places of one session: the pipeline behind the bag verbs and the live node.

Three threads share the work: the caller's decodes and judges images, one describes them, one stores places. What waits
between them is bounded and small (pictures of 320 pixels), however large the images and however long the drive.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType

import numpy as np
import numpy.typing as npt

from d2vpr_ros.describe import Extractor
from d2vpr_ros.geometry import Pose
from d2vpr_ros.images.compose import encode_jpeg
from d2vpr_ros.images.frame import Frame, PosedFrame
from d2vpr_ros.mapping.channel import Channel
from d2vpr_ros.mapping.counts import REPEATED, TOO_CLOSE, TOO_SLOW, BuildCounts
from d2vpr_ros.mapping.header import Camera
from d2vpr_ros.mapping.keyframes import KeyframeRule, KeyframeSelector
from d2vpr_ros.mapping.picture import shrink
from d2vpr_ros.mapping.quality import find_flaw
from d2vpr_ros.mapping.store import MapWriter, NewPlace
from d2vpr_ros.mapping.workers import Workers

REPEATED_ABOVE = 0.998
"""Cosine between descriptors above which an image shows the last place again.

A camera that hangs delivers 1.0, one that stands still 0.999 for its noise; one that moved by 5 cm reaches 0.997, by
10 cm 0.994 (nano, simulated town by day)."""

_BATCH = 8
_DESCRIBED = 16  # described places that wait to be stored

CameraOf = Callable[[str, int, int], Camera]
"""The camera of a name, for pictures of this width and height."""


@dataclass(frozen=True)
class BuildOptions:
    """Attributes:
    rule: which frames are due.
    pictures: store a picture with each place.
    keep_all: store also useless images, and those that repeat the last place.
    waiting: images that may wait to be described.
    """

    rule: KeyframeRule = field(default_factory=KeyframeRule)
    pictures: bool = True
    keep_all: bool = False
    waiting: int = 16


@dataclass(frozen=True, eq=False)
class _Keyframe:
    posed: PosedFrame  # its picture is the small one
    prepared: npt.NDArray[np.uint8]
    descriptor: npt.NDArray[np.float32] | None = None


class MapBuilder:
    """Takes the frames of one session, in their order; a context manager.

    Leaving it waits until everything that was handed over is stored, or, by Ctrl-C, only what is described already.
    A session that holds places already is gone on with behind the last of them.

    Attributes:
        counts: what became of the images so far.
        session: the places' one.
    """

    def __init__(
        self,
        writer: MapWriter,
        extractor: Extractor,
        session: int,
        camera: CameraOf,
        options: BuildOptions,
        on_stored: Callable[[int], object] = lambda place: None,
    ) -> None:
        """
        Args:
            session: from `MapWriter.begin_session` or `find_session`.
            camera: asked once a camera, before its first place is stored.
            on_stored: called with a place's id once it is safe on the disk, on a thread of the builder's.
        """
        self.counts, self.session = BuildCounts(), session
        self._writer, self._extractor, self._options = writer, extractor, options
        self._metric = writer.header.metric
        self._camera, self._on_stored = camera, on_stored
        self._camera_ids: dict[str, int] = {}
        self._selectors: dict[str, KeyframeSelector] = {}
        self._newest: dict[str, npt.NDArray[np.float32]] = {}  # descriptor of each camera's last place
        self._next_number: dict[str, int] = {}  # in a map without metres
        self._behind: dict[str, int] = {}  # stamps up to which an interrupted run had got
        for name, last in writer.last_places(session).items():
            self._selector(name).take(self._at(last.pose), last.stamp_ns)
            self._newest[name] = last.descriptor
            self._next_number[name] = round(float(last.pose.position[0])) + 1
            self._behind[name] = last.stamp_ns
        self._waiting: Channel[_Keyframe] = Channel(options.waiting)
        self._described: Channel[_Keyframe] = Channel(_DESCRIBED)
        self._in_hand = 0
        self._changed = threading.Condition()
        self._storing = threading.Lock()
        self._workers = Workers({"d2vpr describe": self._describe, "d2vpr store": self._store}, self._discard)

    def keep(self, camera: str, pose: Pose, stamp_ns: int) -> bool:
        """Whether a frame is due: ask before decoding it.

        Args:
            pose: T_map_cameraOptical; of no account in a map without metres.
        """
        last = self._behind.get(camera)
        if last is not None:
            # By order, not by time: stamps of a recording may jump back.
            self.counts.earlier += 1
            if stamp_ns == last:
                del self._behind[camera]
            return False
        if not self._selector(camera).wants(self._at(pose), stamp_ns):
            self.counts.leave_out(TOO_CLOSE)
            return False
        return True

    def add(self, posed: PosedFrame, wait: bool = True) -> bool:
        """Hand over a frame that `keep` wanted.

        Args:
            wait: for room among the images that wait to be described; else the frame is left out where there is none.

        Returns:
            Whether it becomes a place, if it does not repeat the last one.

        Raises whatever went wrong in describing or storing earlier frames.
        """
        picture = shrink(posed.frame.rgb)
        if not self._options.keep_all and (flaw := find_flaw(picture)):
            self.counts.leave_out(flaw)
            return False
        small = replace(posed, frame=replace(posed.frame, rgb=picture))
        prepared = self._extractor.prepare(posed.frame.rgb)
        with self._changed:
            self._in_hand += 1
        if not self._waiting.put(_Keyframe(small, prepared), wait):
            self._finished()
            self.check()
            self.counts.leave_out(TOO_SLOW)
            return False
        self._selector(posed.frame.camera).take(self._at(posed.pose), posed.frame.stamp_ns)
        return True

    @property
    def waiting(self) -> int:
        """Frames handed over and not yet stored."""
        return self._in_hand

    def check(self) -> None:
        """Raise what went wrong in describing or storing, if anything did."""
        self._workers.check()

    def save(self, timeout_s: float | None = None, write: Callable[[], object] = lambda: None) -> bool:
        """Wait until every frame handed over is stored, then fold the log into the map file; False if time ran out.

        Args:
            write: writes to the map by a connection of its own; called before the log is folded, while nothing else
                writes.
        """
        with self._changed:
            done = self._changed.wait_for(lambda: not self._in_hand or self._workers.error is not None, timeout_s)
        self.check()
        with self._storing:
            write()
            self._writer.checkpoint()
        return done

    def unmatched(self) -> Mapping[str, int]:
        """Cameras with the stamp of their last place of an interrupted run, where this one has not come across it."""
        return self._behind

    def __enter__(self) -> MapBuilder:
        self._workers.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiting.close(discard=error is not None and not isinstance(error, Exception))
        self._workers.wait()
        if error is None:
            self.check()

    def _discard(self) -> None:
        self._waiting.close(discard=True)
        self._described.close(discard=True)
        with self._changed:
            self._changed.notify_all()

    def _describe(self) -> None:
        while batch := self._waiting.take(_BATCH):
            descriptors = self._extractor.describe_prepared([keyframe.prepared for keyframe in batch])
            for keyframe, descriptor in zip(batch, descriptors, strict=True):
                if self._repeats(keyframe.posed.frame.camera, descriptor):
                    self.counts.leave_out(REPEATED)
                    self._finished()
                else:
                    self._described.put(replace(keyframe, descriptor=descriptor))
        self._described.close()

    def _repeats(self, camera: str, descriptor: npt.NDArray[np.float32]) -> bool:
        """Whether it looks like the camera's last place, as that is stored: so a run that goes on decides the same."""
        last = self._newest.get(camera)
        if last is not None and not self._options.keep_all and float(descriptor @ last) > REPEATED_ABOVE:
            return True
        self._newest[camera] = descriptor.astype("<f2").astype(np.float32)
        return False

    def _store(self) -> None:
        while taken := self._described.take(1):
            posed, descriptor = taken[0].posed, taken[0].descriptor
            assert descriptor is not None
            frame = posed.frame
            jpeg = encode_jpeg(frame.rgb) if self._options.pictures else None
            pose = posed.pose if self._metric else self._numbered(frame.camera)
            place = NewPlace(frame.stamp_ns, pose, descriptor, jpeg, posed.geo, posed.covariance)
            with self._storing:
                number = self._writer.add_place(self.session, self._camera_id(frame), place)
            self.counts.places += 1
            self._on_stored(number)
            self._finished()

    def _camera_id(self, frame: Frame) -> int:
        if frame.camera not in self._camera_ids:
            height, width = frame.rgb.shape[:2]
            camera = self._camera(frame.camera, width, height)
            self._camera_ids[frame.camera] = self._writer.add_camera(self.session, camera)
        return self._camera_ids[frame.camera]

    def _numbered(self, camera: str) -> Pose:
        number = self._next_number.get(camera, 0)
        self._next_number[camera] = number + 1
        return Pose.of(number, 0, 0, 0, 0, 0, 1)

    def _finished(self) -> None:
        with self._changed:
            self._in_hand -= 1
            self._changed.notify_all()

    def _at(self, pose: Pose) -> Pose:
        return pose if self._metric else Pose.identity()  # without metres only time passes

    def _selector(self, camera: str) -> KeyframeSelector:
        return self._selectors.setdefault(camera, KeyframeSelector(self._options.rule))
