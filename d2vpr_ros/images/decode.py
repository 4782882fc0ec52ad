"""An image message, live, from a bag or made by a test, becomes one RGB array: one decoder for all."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from d2vpr_ros.errors import UserError
from d2vpr_ros.fields import one_line, stamp_ns
from d2vpr_ros.images.convert import converter
from d2vpr_ros.images.deep import Range, stretched
from d2vpr_ros.images.frame import Frame

MAX_PIXELS = 100_000_000  # a header that claims more is refused before anything is allocated

BAYER = ("bayer_rggb", "bayer_bggr", "bayer_gbrg", "bayer_grbg")
# Bytes a pixel of each encoding (sensor_msgs/image_encodings.hpp).
PIXEL_BYTES = {
    **{"mono8": 1, "mono16": 2, "rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4},
    **{"rgb16": 6, "bgr16": 6, "rgba16": 8, "bgra16": 8},
    **{f"{pattern}8": 1 for pattern in BAYER},
    **{f"{pattern}16": 2 for pattern in BAYER},
    **{"yuv422": 2, "uyvy": 2, "yuv422_yuy2": 2, "yuyv": 2},
}
# Names of a memory layout only; what drivers mean by them on a camera topic.
LAYOUTS = {"8UC1": "mono8", "8UC3": "bgr8", "8UC4": "bgra8", "16UC1": "mono16"}
# Older drivers' names, by those that both libraries know.
SYNONYMS = {"uyvy": "yuv422", "yuyv": "yuv422_yuy2"}


# A plane of grey, then one of the two colours in turn at half the resolution, by the code that decodes it.
SEMI_PLANAR = {"nv21": cv2.COLOR_YUV2RGB_NV21, "nv12": cv2.COLOR_YUV2RGB_NV12}


def decode_image(message: Any, image_range: Range | None = None) -> npt.NDArray[np.uint8]:
    """The picture of an image message.

    Args:
        message: shaped like sensor_msgs/Image or sensor_msgs/CompressedImage, by rclpy or rosbags. Padded rows
            (`step`) and big-endian pixels are understood.
        image_range: of 16 bits, the values that become black and white (`images.deep`); None takes 0 and 65535.

    Returns:
        (H, W, 3) uint8 RGB, C-contiguous, in memory of its own.

    Raises:
        UserError: no pixels, more than 100 megapixels, an unknown encoding, too little data, bytes that are no JPEG or
            PNG, or 16 bits of which next to nothing is used.
    """
    if hasattr(message, "format"):
        return decode_compressed(np.frombuffer(message.data, np.uint8), image_range)
    return _decode_raw(message, image_range)


def read_frame(message: Any, camera: str | None = None, image_range: Range | None = None) -> Frame:
    """The Frame of an image message: its picture, its header's stamp, and the camera's name, else its header's frame.

    Raises:
        UserError: as `decode_image`.
    """
    return Frame(decode_image(message, image_range), stamp_ns(message.header), camera or str(message.header.frame_id))


def decode_compressed(data: npt.NDArray[np.uint8], image_range: Range | None = None) -> npt.NDArray[np.uint8]:
    """The picture of a JPEG or PNG file's bytes, (N,) uint8; grey, alpha and 16 bits become plain RGB.

    Args:
        image_range: as for `decode_image`.

    Raises:
        UserError: as `decode_image`.
    """
    size = encoded_size(data.tobytes())
    if size is None:
        raise UserError(
            f"compressed image: no JPEG or PNG header in its {len(data)} bytes (they begin with {bytes(data[:8])!r}); "
            "it is damaged, or must be republished as JPEG, PNG or a raw image"
        )
    _check_size(*size, "compressed image")
    bgr: Any = cv2.imdecode(data, cv2.IMREAD_COLOR | (cv2.IMREAD_ANYDEPTH if _is_deep(data) else 0))
    if bgr is None:
        raise UserError(
            f"compressed image: {len(data)} bytes that begin like a picture cannot be decoded; it is damaged or cut off"
        )
    if bgr.dtype == np.uint16:
        bgr = np.rint(stretched(bgr, image_range, "compressed image (16 bits)") / 257).astype(np.uint8)
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _is_deep(data: npt.NDArray[np.uint8]) -> bool:
    """Whether it is a PNG of 16 bits a channel, by its header."""
    return len(data) > 24 and data[0] == 0x89 and data[24] == 16


def encoded_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) from the header of a JPEG (ITU T.81, B.2.2) or PNG; None for anything else."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return width, height
    if data[:3] != b"\xff\xd8\xff":
        return None
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a start of frame, not a table
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        at += 1 if marker == 0xFF else 2 + length
    return None


def _check_size(width: int, height: int, what: str) -> None:
    if width <= 0 or height <= 0:
        raise UserError(f"{what}: {width} x {height} has no pixels; check the camera driver")
    if width * height > MAX_PIXELS:
        raise UserError(f"{what}: {width} x {height} is over {MAX_PIXELS // 1_000_000} megapixels; publish it smaller")


def _decode_raw(message: Any, image_range: Range | None) -> npt.NDArray[np.uint8]:
    width, height = int(message.width), int(message.height)
    encoding = LAYOUTS.get(message.encoding, message.encoding)
    encoding = SYNONYMS.get(encoding, encoding)
    what = f"image ({one_line(message.encoding)})"
    _check_size(width, height, what)
    if encoding in SEMI_PLANAR:
        return _decode_semi_planar(message, what)
    if encoding not in PIXEL_BYTES:
        known = ", ".join([*PIXEL_BYTES, *SEMI_PLANAR])
        raise UserError(f"{what}: unknown image encoding; publish one of {known}")
    row = width * PIXEL_BYTES[encoding]
    step = int(message.step) or row  # some drivers leave it 0
    data = np.frombuffer(message.data, np.uint8)
    if step < row or len(data) < step * (height - 1) + row:
        raise UserError(
            f"{what}: {width} x {height} needs rows of {row} bytes, but there are {len(data)} bytes with a step of "
            f"{step}; the driver's width, height, step and encoding do not agree"
        )
    # Neither library leaves out the padding that a step longer than the row means.
    rows = np.ascontiguousarray(np.lib.stride_tricks.as_strided(data, (height, row), (step, 1), writeable=False))
    is_bigendian = message.is_bigendian
    if encoding.endswith("16"):
        values = rows.reshape(-1).view(">u2" if is_bigendian else "<u2").reshape(height, width, -1)
        colours = values[..., :3].astype(np.uint16)  # without alpha
        deep = values.astype("<u2")
        deep[..., :3] = stretched(colours, image_range, what)
        rows, is_bigendian = deep.view(np.uint8), 0
    tight = SimpleNamespace(
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=is_bigendian,
        step=row,
        data=np.ascontiguousarray(rows).reshape(-1),
    )
    try:
        rgb = np.asarray(converter()(tight))
    except (cv2.error, ValueError, TypeError) as error:  # CvBridgeError is a TypeError
        raise UserError(
            f"{what}: {width} x {height} cannot be converted to RGB: {str(error).splitlines()[0]}"
        ) from error
    return rgb.copy() if np.may_share_memory(rgb, data) else np.ascontiguousarray(rgb)


def _decode_semi_planar(message: Any, what: str) -> npt.NDArray[np.uint8]:
    """NV21 and NV12 (sensor_msgs/image_encodings, Android and V4L2): 1.5 bytes a pixel, rows of `step` bytes."""
    width, height, step = int(message.width), int(message.height), int(message.step) or int(message.width)
    lines, data = height * 3 // 2, np.frombuffer(message.data, np.uint8)
    if width % 2 or height % 2:
        raise UserError(f"{what}: {width} x {height} must be even; check the camera driver")
    if step < width or len(data) < step * (lines - 1) + width:
        raise UserError(
            f"{what}: {width} x {height} needs {lines} rows of {width} bytes, but there are {len(data)} bytes with a "
            f"step of {step}; the driver's width, height, step and encoding do not agree"
        )
    rows = np.lib.stride_tricks.as_strided(data, (lines, width), (step, 1), writeable=False)
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(rows), SEMI_PLANAR[message.encoding]), dtype=np.uint8)
