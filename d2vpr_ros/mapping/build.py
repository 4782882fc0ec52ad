"""From posed frames to a map file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from d2vpr_ros.describe import Extractor
from d2vpr_ros.errors import UserError
from d2vpr_ros.geodesy import LocalFrame
from d2vpr_ros.geometry import Pose, distance, turn
from d2vpr_ros.images.compose import encode_jpeg, resize_area
from d2vpr_ros.images.frame import PosedFrame
from d2vpr_ros.mapping.header import Camera, MapHeader, Session
from d2vpr_ros.mapping.store import NewPlace, create_map

PICTURE_SIDE = 320
"""Longer side of a stored picture, pixels."""

_BATCH = 8


@dataclass(frozen=True)
class KeyframeRule:
    """A frame becomes a place when the camera has moved or turned this far since the last place."""

    spacing_m: float = 1.0
    turn_deg: float = 20.0


class KeyframeSelector:
    """Picks keyframes as a drive goes by, before an image needs to be decoded."""

    def __init__(self, rule: KeyframeRule) -> None:
        self._rule = rule
        self._last: Pose | None = None

    def __call__(self, pose: Pose) -> bool:
        """Whether the next frame, with T_map_cameraOptical `pose`, becomes a place."""
        taken = (
            self._last is None
            or distance(self._last, pose) >= self._rule.spacing_m
            or turn(self._last, pose) >= np.radians(self._rule.turn_deg)
        )
        if taken:
            self._last = pose
        return taken


def build_map(
    keyframes: Iterable[PosedFrame],
    extractor: Extractor,
    out: Path,
    mount: Pose,
    *,
    spacing_m: float,
    session: str,
    frame_id: str = "map",
    origin: LocalFrame | None = None,
    on_place: Callable[[], object] = lambda: None,
) -> int:
    """Describe the keyframes of a drive and store them as a new map.

    Args:
        keyframes: with T_map_cameraOptical, in the order of the drive.
        mount: T_base_cameraOptical of the drive's camera.
        spacing_m: the spacing the keyframes were picked at.
        session: name of the drive.
        frame_id: the map frame.
        origin: where the map frame stands on the earth, if known.
        on_place: called after each stored place.

    Returns:
        The number of places stored.

    Raises:
        UserError: the map exists or cannot be written, or there was no keyframe.
    """
    header = MapHeader(extractor.identity, extractor.width, frame_id, spacing_m, origin, origin is not None)
    with create_map(out, header) as writer:
        number = writer.begin_session(Session(session, complete=False))
        for batch in _batches(iter(keyframes)):
            descriptors = extractor.describe([posed.frame.rgb for posed in batch])
            for posed, descriptor in zip(batch, descriptors, strict=True):
                height, width = posed.frame.rgb.shape[:2]
                camera = writer.add_camera(number, Camera(posed.frame.camera, width, height, mount))
                jpeg = encode_picture(posed.frame.rgb)
                writer.add_place(
                    number, camera, NewPlace(posed.frame.stamp_ns, posed.pose, descriptor, jpeg, posed.geo)
                )
                on_place()
        writer.finish_session(number)
    if writer.stored == 0:
        raise UserError(f"no map was written to {out}: the drive {session} has no image with a pose")
    return writer.stored


def encode_picture(rgb: npt.NDArray[np.uint8]) -> bytes:
    """(H, W, 3) uint8 RGB -> JPEG of at most PICTURE_SIDE pixels on the longer side."""
    height, width = rgb.shape[:2]
    scale = min(1.0, PICTURE_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return encode_jpeg(resize_area(rgb, size) if scale < 1 else rgb)


def _batches(frames: Iterator[PosedFrame]) -> Iterator[list[PosedFrame]]:
    batch: list[PosedFrame] = []
    for posed in frames:
        batch.append(posed)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
