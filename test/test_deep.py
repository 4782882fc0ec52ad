"""16-bit pictures: stretched alike for a map and its robots, or named with the way out."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import IDENTITY, unit_rows

from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import FORWARD_MOUNT, Pose
from d2vpr_ros.images.decode import decode_image
from d2vpr_ros.images.deep import Range, stretched
from d2vpr_ros.mapping import Camera, MapHeader, Session, read_map
from d2vpr_ros.mapping.frames import check_frames
from d2vpr_ros.mapping.store import NewPlace, create_map

GREY = np.random.default_rng(3).integers(0, 256, (24, 32), dtype=np.uint8)
GREY[0, :2] = 0, 255
THERMAL = 7400 + 3 * GREY.astype(np.uint16)
"""A scene of some degrees, as radiometric cameras send it."""


def raw(values: np.ndarray[Any, Any], encoding: str = "mono16") -> Any:
    height, width = values.shape[:2]
    data = np.ascontiguousarray(values).view(np.uint8).ravel()
    header = SimpleNamespace(stamp=SimpleNamespace(sec=0, nanosec=0), frame_id="cam")
    return SimpleNamespace(
        header=header, height=height, width=width, encoding=encoding, is_bigendian=values.dtype.byteorder == ">",
        step=len(data) // height, data=data,
    )  # fmt: skip


def png(values: np.ndarray[Any, Any]) -> Any:
    return SimpleNamespace(format="mono16; png compressed", data=cv2.imencode(".png", values)[1].ravel())


@pytest.mark.parametrize("message", [raw(THERMAL), raw(THERMAL.astype(">u2")), raw(THERMAL, "16UC1"), png(THERMAL)])
def test_a_part_of_16_bits_that_is_named_becomes_the_whole_of_8(message: Any) -> None:
    picture = decode_image(message, (7400, 7400 + 3 * 255))
    assert (picture == GREY[..., None]).all()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (THERMAL, r"from 7400 to 8165 of 65535, which leaves 3 of 256 grey levels; give .* --image-range 7209 8356"),
        (GREY.astype(np.uint16) << 2, r"from 0 to 1020 of .* 4 of 256 .* --image-range 0 1023"),
        (GREY.astype(np.uint16) << 4, r"from 0 to 4080 of .* --image-range 0 4095"),
    ],
)
def test_values_that_leave_no_picture_are_refused_with_a_range_to_give(values: Any, said: str) -> None:
    for message in (raw(values), png(values)):
        with pytest.raises(UserError, match=said):
            decode_image(message)


def test_dark_pictures_of_14_bits_are_said_once_and_taken(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        decode_image(raw(GREY.astype(np.uint16) << 6, "mono16"))
    assert caplog.text.count("--image-range 0 16383") == 1


@given(st.integers(0, 65534), st.integers(1, 65535), st.integers(0, 100))
def test_a_stretch_keeps_the_order_and_goes_by_no_picture(low: int, size: int, seed: int) -> None:
    image_range = low, min(low + size, 65535)
    values = np.sort(np.random.default_rng(seed).integers(0, 65536, 50).astype(np.uint16))
    whole = stretched(values, image_range, "image")
    assert (np.diff(whole.astype(int)) >= 0).all()
    assert (stretched(values[10:20], image_range, "image") == whole[10:20]).all()  # a part of it says the same
    ends = np.array(image_range, np.uint16)
    assert stretched(ends, image_range, "image").tolist() == [0, 65535]


def header(image_range: Range | None) -> MapHeader:
    return MapHeader(IDENTITY, 64, "map", 1.0, image_range=image_range)


def test_a_map_keeps_its_range_and_joins_no_other(tmp_path: Path) -> None:
    with create_map(tmp_path / "m.d2map", header((0, 4095))) as writer:
        session = writer.begin_session(Session("test"))
        camera = writer.add_camera(session, Camera("front", 6, 4, FORWARD_MOUNT))
        writer.add_place(session, camera, NewPlace(0, Pose.identity(), unit_rows(1, seed=1)[0]))
    assert read_map(tmp_path / "m.d2map").header.image_range == (0, 4095)
    with pytest.raises(UserError, match="stretched from 0 to 4095 and 0 to 65535; build both with one --image-range"):
        check_frames(header((0, 4095)), header(None), "a and b", "same frame")


@pytest.mark.parametrize("encoding", ["nv12", "nv21"])
@pytest.mark.parametrize("padding", [0, 6])
def test_semi_planar_pictures_of_embedded_cameras_are_decoded(encoding: str, padding: int) -> None:
    """Red left, blue right; BT.601 with the values of television: Y 16 to 235."""
    rgb = np.zeros((8, 12, 3), np.uint8)
    rgb[:, :6], rgb[:, 6:] = (200, 30, 30), (30, 30, 200)
    planar = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420)  # Y, then all of U, then all of V
    u, v = planar[8:10].reshape(-1), planar[10:12].reshape(-1)
    pair = (u, v) if encoding == "nv12" else (v, u)
    rows = np.concatenate([planar[:8], np.stack(pair, axis=1).reshape(4, 12)])
    padded = np.pad(rows, ((0, 0), (0, padding)))
    message = raw(padded, encoding)
    message.height, message.width, message.step = 8, 12, 12 + padding
    assert np.abs(decode_image(message).astype(int) - rgb).max() <= 6
    message.data = message.data[:-40]
    with pytest.raises(UserError, match="needs 12 rows of 12 bytes"):
        decode_image(message)
    message.width = 11
    with pytest.raises(UserError, match="11 x 8 must be even"):
        decode_image(message)
