"""Small maps with known descriptors, and drives past their places, for tests that need no pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from d2vpr_ros.describe import ModelIdentity
from d2vpr_ros.geodesy import LocalFrame
from d2vpr_ros.geometry import FORWARD_MOUNT, Pose
from d2vpr_ros.images.compose import encode_jpeg
from d2vpr_ros.localize import Estimate, Localizer, LocalizerOptions
from d2vpr_ros.localize.types import DEFAULT_OPTIONS
from d2vpr_ros.mapping import Camera, MapHeader, PlaceMap, Session, read_map
from d2vpr_ros.mapping.store import NewPlace, create_map

IDENTITY = ModelIdentity("nano", "0" * 64, "preprocessing", "")
WIDTH = 64
SECOND = 1_000_000_000


class Describes:
    """What a localizer asks of an extractor that is never given a picture."""

    identity = IDENTITY
    width = WIDTH


def unit_rows(count: int, seed: int, width: int = WIDTH) -> npt.NDArray[np.float32]:
    """(count, width) random directions; in so many dimensions hardly any two look alike."""
    rows = np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def alike_along_the_way(count: int, seed: int, width: int) -> npt.NDArray[np.float32]:
    """(count, width) directions of which each resembles the next, as the places of a street do."""
    steps = unit_rows(count + 1, seed, width)
    rows = steps[:-1] + steps[1:]
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def straight_street(count: int, step_m: float = 1.0) -> list[Pose]:
    """T_map_base every `step_m` along the x axis."""
    return [Pose.planar(step_m * number, 0.0, 0.0) for number in range(count)]


def write_places(
    path: Path,
    base_poses: list[Pose],
    descriptors: npt.NDArray[np.float32],
    model: ModelIdentity = IDENTITY,
    mount: Pose = FORWARD_MOUNT,
    covariance: npt.NDArray[np.float64] | None = None,
) -> PlaceMap:
    """Store the places, each pose with the covariance, as a map file and read it back."""
    header = MapHeader(model, descriptors.shape[1], "map", 1.0, None)
    with create_map(path, header) as writer:
        session = writer.begin_session(Session("test"))
        camera = writer.add_camera(session, Camera("front", 6, 4, mount))
        for number, (pose, descriptor) in enumerate(zip(base_poses, descriptors, strict=True)):
            writer.add_place(
                session, camera, NewPlace(number * 1_000_000_000, pose @ mount, descriptor, covariance=covariance)
            )
    return read_map(path)


def write_sessions(
    path: Path, names: list[str], count: int, cameras: tuple[str, ...] = ("front",), origin: LocalFrame | None = None
) -> PlaceMap:
    """Streets of `count` steps along x, 10 m beside each other, each a session a day later; with a picture a place."""
    header = MapHeader(IDENTITY, WIDTH, "map", 1.0, origin, geo_tagged=origin is not None)
    descriptors = unit_rows(count, seed=1)
    with create_map(path, header) as writer:
        for day, name in enumerate(names):
            session = writer.begin_session(Session(name))
            numbers = [writer.add_camera(session, Camera(camera, 6, 4, FORWARD_MOUNT)) for camera in cameras]
            for step in range(count):
                base = Pose.planar(float(step), 10.0 * day, 0.3 * day)
                stamp = (1_700_000_000 + 86_400 * day + step) * 1_000_000_000 + 123_456_789
                jpeg = encode_jpeg(np.full((4, 6, 3), 20 * step % 256, np.uint8))
                for number in numbers:
                    writer.add_place(session, number, NewPlace(stamp, base @ FORWARD_MOUNT, descriptors[step], jpeg))
    return read_map(path)


def street_localizer(folder: Path, count: int, options: LocalizerOptions = DEFAULT_OPTIONS) -> Localizer:
    """Of a straight street with a place a metre."""
    looks = alike_along_the_way(count, seed=4, width=WIDTH)
    return Localizer(write_places(folder / "street.d2map", straight_street(count), looks), Describes(), options)


def changed(looks: npt.NDArray[np.float32], much: float, seed: int = 9) -> npt.NDArray[np.float32]:
    """(N, D) descriptors of the same in another light; much is the length of what is added to each."""
    seen = looks + much * unit_rows(len(looks), seed, looks.shape[1])
    return np.asarray(seen / np.linalg.norm(seen, axis=1, keepdims=True), np.float32)


def drive(
    localizer: Localizer,
    seen: Sequence[int] | npt.NDArray[np.float32],
    *,
    odometry: bool = True,
    first_s: int = 0,
    much: float = 0.5,
) -> list[Estimate]:
    """A metre and a second an image.

    Args:
        seen: rows of places of the map, or (N, D) descriptors of what is seen.
        odometry: whether the robot has any; it goes on from `first_s` metres whatever is seen.
        much: as `changed` has it.
    """
    looks = seen if isinstance(seen, np.ndarray) else localizer.map.descriptors[list(seen)]
    return [
        localizer.match(image, number * SECOND, Pose.planar(float(number), 3.0, 0.0) if odometry else None)
        for number, image in enumerate(changed(looks, much), start=first_s)
    ]
