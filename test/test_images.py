"""Images as cameras send them become the same (H, W, 3) uint8 RGB arrays."""

from __future__ import annotations

import array
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from d2vpr_ros.bags.messages import make, make_header
from d2vpr_ros.errors import UserError
from d2vpr_ros.images.decode import decode_image, encoded_size, read_frame

RGB = np.random.default_rng(3).integers(0, 256, (6, 8, 3), dtype=np.uint8)
RED = np.full((8, 8, 3), (200, 10, 20), dtype=np.uint8)


def image(pixels, encoding, step=None, height=6, width=8, is_bigendian=0):
    data = np.ascontiguousarray(pixels).view(np.uint8).reshape(-1)
    return make(
        "sensor_msgs/msg/Image",
        header=make_header(12_345_678_901, "front_optical"),
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=is_bigendian,
        step=len(data) // max(height, 1) if step is None else step,
        data=data,
    )


def compressed(data):
    header = make_header(0, "front_optical")
    return make("sensor_msgs/msg/CompressedImage", header=header, format="jpeg", data=np.frombuffer(data, np.uint8))


def encode(pixels, suffix):
    return cv2.imencode(suffix, pixels)[1].tobytes()


@pytest.mark.parametrize(
    ("encoding", "pixels"),
    [
        ("rgb8", RGB),
        ("bgr8", RGB[..., ::-1]),
        ("8UC3", RGB[..., ::-1]),
        ("rgba8", np.dstack([RGB, np.full((6, 8), 7, np.uint8)])),
        ("bgra8", np.dstack([RGB[..., ::-1], np.full((6, 8), 7, np.uint8)])),
        ("rgb16", RGB.astype(np.uint16) * 257),
    ],
)
def test_every_colour_encoding_gives_the_same_picture(encoding, pixels):
    decoded = decode_image(image(pixels, encoding))
    assert decoded.dtype == np.uint8
    assert decoded.flags.c_contiguous
    assert np.array_equal(decoded, RGB)


@pytest.mark.parametrize(
    ("encoding", "pixels", "is_bigendian"),
    [
        ("mono8", RGB[..., 0], 0),
        ("8UC1", RGB[..., 0], 0),
        ("mono16", RGB[..., 0].astype("<u2") * 257, 0),
        ("16UC1", RGB[..., 0].astype("<u2") * 257, 0),
        ("mono16", (RGB[..., 0].astype("<u2") * 257).astype(">u2"), 1),
    ],
)
def test_a_grey_picture_of_8_or_16_bits_gets_three_equal_channels(encoding, pixels, is_bigendian):
    decoded = decode_image(image(pixels, encoding, is_bigendian=is_bigendian))
    assert np.array_equal(decoded, np.repeat(RGB[..., :1], 3, axis=2))


@pytest.mark.parametrize(
    ("encoding", "red_at"), [("rggb", (0, 0)), ("bggr", (1, 1)), ("gbrg", (1, 0)), ("grbg", (0, 1))]
)
def test_a_bayer_mosaic_of_a_red_wall_is_red(encoding, red_at):
    mosaic = np.zeros((8, 8), np.uint8)
    mosaic[red_at[0] :: 2, red_at[1] :: 2] = 200
    decoded = decode_image(image(mosaic, f"bayer_{encoding}8", height=8, width=8))
    assert decoded[2:-2, 2:-2].reshape(-1, 3).mean(axis=0).tolist() == pytest.approx([200, 0, 0], abs=1)
    wide = decode_image(image(mosaic.astype(np.uint16) * 257, f"bayer_{encoding}16", height=8, width=8))
    assert np.abs(wide.astype(int) - decoded).max() <= 1


@pytest.mark.parametrize(("encoding", "luma_first"), [("yuv422", 0), ("uyvy", 0), ("yuv422_yuy2", 1), ("yuyv", 1)])
def test_both_orders_of_yuv422_give_the_colour_they_hold(encoding, luma_first):
    y, u, v = 74, 104, 211  # RED in ITU-R BT.601, video range
    quad = [y, u, y, v] if luma_first else [u, y, v, y]
    decoded = decode_image(image(np.tile(np.array(quad, np.uint8), (8, 4)), encoding, height=8, width=8))
    assert np.abs(decoded.astype(int) - RED).max() <= 4


@pytest.mark.parametrize("last_row_is_padded", [True, False])
def test_padding_at_the_end_of_each_row_is_left_out(last_row_is_padded):
    rows = np.full((6, 32), 255, np.uint8)
    rows[:, :24] = RGB.reshape(6, 24)
    message = image(rows, "rgb8", step=32)
    if not last_row_is_padded:
        message.data = message.data[:-8]
    assert np.array_equal(decode_image(message), RGB)


def test_the_picture_does_not_change_when_the_message_is_used_again():
    message = image(RGB.copy(), "rgb8")
    decoded = decode_image(message)
    message.data[:] = 0
    assert np.array_equal(decoded, RGB)
    assert decoded.flags.writeable


@pytest.mark.parametrize("pixels", [cv2.resize(RGB, (64, 48)), cv2.resize(RGB[..., 0], (64, 48))])
def test_colour_and_grey_jpegs_both_become_rgb(pixels):
    decoded = decode_image(compressed(encode(pixels, ".jpg")))
    expected = pixels[..., ::-1] if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    assert decoded.shape == (48, 64, 3)
    assert np.abs(decoded.astype(int) - expected).mean() < 12


def test_a_16_bit_or_transparent_png_becomes_plain_rgb():
    deep = decode_image(compressed(encode(RGB[..., ::-1].astype(np.uint16) * 257, ".png")))
    assert np.abs(deep.astype(int) - RGB).max() <= 1
    clear = np.dstack([RGB[..., ::-1], np.zeros((6, 8), np.uint8)])
    assert np.array_equal(decode_image(compressed(encode(clear, ".png"))), RGB)


def test_the_size_of_a_file_is_read_from_its_header():
    assert encoded_size(encode(RGB, ".jpg")) == (8, 6)
    assert encoded_size(encode(RGB, ".png")) == (8, 6)
    assert encoded_size(b"GIF89a") is None
    assert encoded_size(b"\xff\xd8\xff\xe0") is None


def test_a_frame_carries_the_stamp_and_the_camera_of_the_header():
    frame = read_frame(image(RGB, "rgb8"))
    assert (frame.stamp_ns, frame.camera) == (12_345_678_901, "front_optical")


def huge_png():
    png = bytearray(encode(RGB, ".png"))
    png[16:24] = (60_000).to_bytes(4, "big") * 2
    return bytes(png)


@pytest.mark.parametrize(
    ("message", "names"),
    [
        (image(np.zeros(0, np.uint8), "rgb8", height=0, width=0), "has no pixels"),
        (image(RGB, "32FC1"), "unknown image encoding"),
        (image(RGB, "rgb8", step=20), "do not agree"),
        (image(RGB[:3], "rgb8", step=24), "do not agree"),
        (image(RGB, "rgb8", height=60_000, width=60_000), "over 100 megapixels"),
        (image(np.zeros((6, 7 * 2), np.uint8), "yuv422", width=7), "cannot be converted"),
        (compressed(b""), "no JPEG or PNG header"),
        (compressed(b"not a picture at all"), "no JPEG or PNG header"),
        (compressed(encode(RGB, ".jpg")[:200]), "header|damaged"),
        (compressed(encode(RGB, ".png")[:40]), "damaged or cut off"),
        (compressed(huge_png()), "over 100 megapixels"),
    ],
)
def test_a_picture_that_is_none_is_named_in_one_line(message, names):
    with pytest.raises(UserError, match=names) as caught:
        decode_image(message)
    assert "\n" not in str(caught.value)


def test_messages_of_rclpy_are_decoded_like_those_of_a_bag():
    sensor_msgs = pytest.importorskip("sensor_msgs.msg", reason="needs the ROS message packages")
    message = sensor_msgs.Image(height=6, width=8, encoding="rgb8", step=24)
    message.data = array.array("B", RGB.tobytes())
    assert np.array_equal(decode_image(message), RGB)
    packed = sensor_msgs.CompressedImage(format="png")
    packed.data = array.array("B", encode(RGB[..., ::-1], ".png"))
    assert np.array_equal(decode_image(packed), RGB)


def test_anything_shaped_like_an_image_is_decoded():
    message = SimpleNamespace(height=6, width=8, encoding="rgb8", step=0, is_bigendian=False, data=RGB.tobytes())
    assert np.array_equal(decode_image(message), RGB)
