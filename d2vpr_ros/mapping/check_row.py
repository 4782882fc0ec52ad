"""What can be wrong with one row of a map. Values may be of any type: SQLite stores what it is given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from d2vpr_ros.bags.gps import is_null_island
from d2vpr_ros.geometry import Pose
from d2vpr_ros.images.compose import decode_jpeg
from d2vpr_ros.images.decode import encoded_size
from d2vpr_ros.mapping.header import MapHeader
from d2vpr_ros.mapping.place_map import MAX_JPEG
from d2vpr_ros.mapping.schema import point
from d2vpr_ros.mapping.store import iso

_NORM_WITHIN = 0.01  # float16 rounds by a two thousandth at most
_QUATERNION_WITHIN = 1e-6
_WIDEST = 4096  # pixels of a stored picture
_OFF_EARTH_M = 0.1
_HEADING_WITHIN_DEG = 1e-3
_METRES_A_DEGREE = 111_320.0


@dataclass(frozen=True, eq=False)
class Context:
    """What a row is held against.

    Attributes:
        cameras: the session of each camera, by id.
        sessions: their ids.
    """

    header: MapHeader
    cameras: Mapping[int, object]
    sessions: frozenset[int]


@dataclass(frozen=True, eq=False)
class StoredPlace:
    """One place as SQLite gives it."""

    id: int
    geom: Any
    session: Any
    camera: Any
    stamp: Any
    stamp_ns: Any
    x: Any
    y: Any
    z: Any
    qx: Any
    qy: Any
    qz: Any
    qw: Any
    heading: Any
    latitude: Any
    longitude: Any
    altitude: Any
    covariance: Any
    descriptor: Any
    jpeg: Any
    jpeg_bytes: Any


def session_problems(name: Any, source: Any, complete: Any) -> Iterator[str]:
    if not isinstance(name, str) or not isinstance(source, str):
        yield "its name or source is no text"
    if complete not in (0, 1):
        yield f"complete is {complete!r}, neither 0 nor 1"


def camera_problems(row: Sequence[Any], context: Context) -> Iterator[str]:
    """Of a row (session, name, width, height, distortion_model, k, d, seven numbers of the mount)."""
    session, name, width, height, model, k, d, *mount = row
    if session not in context.sessions:
        yield f"its session {session!r} is missing"
    if not isinstance(name, str) or not isinstance(model, str):
        yield "its name or distortion model is no text"
    if not all(isinstance(side, int) and 0 < side <= _WIDEST for side in (width, height)):
        yield f"its pictures are {width!r} x {height!r}, expected 1 to {_WIDEST} pixels"
    if k is not None and _doubles(k, 9) is None:
        yield "k is not nine finite numbers"
    if d is not None and not (isinstance(d, bytes) and len(d) % 8 == 0 and _doubles(d, len(d) // 8) is not None):
        yield "d is not a row of finite numbers"
    if _pose(mount) is None:
        yield "its mount is no pose"


def place_problems(places: Sequence[StoredPlace], context: Context) -> list[list[str]]:
    """What is wrong with each of some places."""
    found = [list(_place_problems(place, context)) for place in places]
    origin = context.header.origin
    if origin is not None:
        at = np.array([_numbers((place.x, place.y, place.z), 3) for place in places])
        geo = np.array([_numbers((place.latitude, place.longitude), 2) for place in places])
        true = origin.to_geo(np.nan_to_num(at))[:, :2]
        off = (geo - true) * _METRES_A_DEGREE
        off[:, 1] *= np.cos(np.radians(true[:, 0]))
        for texts, metres in zip(found, np.hypot(*off.T), strict=True):
            if metres > _OFF_EARTH_M:
                texts.append(f"its latitude and longitude are {metres:.1f} m from where its pose is")
    return found


def _place_problems(place: StoredPlace, context: Context) -> Iterator[str]:
    if place.session not in context.sessions:
        yield f"its session {place.session!r} is missing"
    if place.camera not in context.cameras:
        yield f"its camera {place.camera!r} is missing"
    elif context.cameras[place.camera] != place.session:
        yield f"its camera {place.camera} is not of its session {place.session}"
    yield from _stamp_problems(place)
    pose = _pose((place.x, place.y, place.z, place.qx, place.qy, place.qz, place.qw))
    if pose is None:
        yield "its pose is not seven finite numbers with a quaternion of unit length"
    elif not _same_heading(place.heading, context.header.heading_deg(pose)):
        yield f"its heading {place.heading!r} is not that of its pose"
    yield from _geography_problems(place, context.header)
    yield from _covariance_problems(place.covariance)
    yield from _descriptor_problems(place.descriptor, context.header.descriptor_width)
    if place.jpeg_bytes is not None:
        yield from _picture_problems(place)


def _stamp_problems(place: StoredPlace) -> Iterator[str]:
    try:
        expected = iso(place.stamp_ns)
    except (TypeError, ValueError, OverflowError, OSError):
        yield f"its stamp of {place.stamp_ns!r} ns is no time"
        return
    if place.stamp != expected:
        yield f"its stamp {place.stamp!r} is not the {expected} of its nanoseconds"


def _same_heading(stored: Any, true: float | None) -> bool:
    if stored is None or true is None:
        return stored is None and true is None
    if not isinstance(stored, float | int):
        return False
    return abs((stored - true + 180.0) % 360.0 - 180.0) <= _HEADING_WITHIN_DEG


def _geography_problems(place: StoredPlace, header: MapHeader) -> Iterator[str]:
    geo = (place.latitude, place.longitude)
    known = not np.isnan(_numbers(geo, 2)).any()
    if geo != (None, None) and not (known and abs(place.latitude) <= 90 and abs(place.longitude) <= 180):
        yield f"its latitude and longitude {geo} are not on the earth"
    elif known and is_null_island(place.latitude, place.longitude):
        yield f"its latitude and longitude {geo} are sent by receivers without a fix"
    if place.altitude is not None and np.isnan(_numbers((place.altitude,), 1)).any():
        yield f"its altitude {place.altitude!r} is no number"
    if not header.geo_tagged:
        geo = (place.y, place.x)
        known = not np.isnan(_numbers(geo, 2)).any()
    if place.geom != (point(geo[1], geo[0], header.geo_tagged) if known else None):
        yield "its point on the layer is not where its coordinates are"


def _covariance_problems(covariance: Any) -> Iterator[str]:
    if covariance is None:
        return
    numbers = _doubles(covariance, 36)
    if numbers is None:
        yield "its covariance is not 36 finite numbers"
        return
    matrix = numbers.reshape(6, 6)
    largest = float(np.abs(matrix).max())
    symmetric = bool(np.allclose(matrix, matrix.T, atol=1e-6 * largest))
    if not symmetric or float(np.linalg.eigvalsh((matrix + matrix.T) / 2).min()) < -1e-6 * largest:
        yield "its covariance is not symmetric, or negative in some direction"


def _descriptor_problems(descriptor: Any, width: int) -> Iterator[str]:
    if not isinstance(descriptor, bytes) or len(descriptor) != 2 * width:
        size = "missing" if descriptor is None else "no row of numbers"
        if isinstance(descriptor, bytes):
            size = f"{len(descriptor)} bytes long, {2 * width} expected"
        yield f"its descriptor is {size}"
        return
    norm = float(np.linalg.norm(np.frombuffer(descriptor, "<f2").astype(np.float64)))
    if not abs(norm - 1.0) <= _NORM_WITHIN:  # not finite fails as well
        yield f"its descriptor is of length {norm:.3g}, 1 expected"


def _picture_problems(place: StoredPlace) -> Iterator[str]:
    jpeg = place.jpeg
    if not isinstance(jpeg, bytes):
        yield f"its picture of {place.jpeg_bytes} bytes is no picture of up to {MAX_JPEG}"
        return
    size = encoded_size(jpeg) if jpeg[:2] == b"\xff\xd8" else None
    if size is None:
        yield "its picture is no JPEG"
    elif not (0 < size[0] <= _WIDEST and 0 < size[1] <= _WIDEST):
        yield f"its picture is {size[0]} x {size[1]}, more than {_WIDEST} pixels wide or high"
    elif not jpeg.endswith(b"\xff\xd9") or decode_jpeg(jpeg) is None:  # the decoder takes one that is cut off
        yield "its picture is damaged or cut off"


def _pose(numbers: Sequence[Any]) -> Pose | None:
    values = _numbers(numbers, 7)
    if np.isnan(values).any() or abs(float(np.linalg.norm(values[3:])) - 1.0) > _QUATERNION_WITHIN:
        return None
    return Pose(values[:3], values[3:])


def _numbers(values: Sequence[Any], count: int) -> npt.NDArray[np.float64]:
    """(count,) of them; all NaN if one is no finite number."""
    if all(isinstance(value, float | int) and abs(value) < 1e15 for value in values):
        return np.array(values, np.float64)
    return np.full(count, np.nan)


def _doubles(blob: Any, count: int) -> npt.NDArray[np.float64] | None:
    if not isinstance(blob, bytes) or len(blob) != 8 * count:
        return None
    numbers = np.frombuffer(blob, "<f8")
    return numbers if np.isfinite(numbers).all() else None
