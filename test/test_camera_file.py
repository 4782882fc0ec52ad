"""A camera's intrinsics from a file: what ROS's calibration writes, a plain matrix, and files that are neither."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from d2vpr_ros.bags.camera_file import read_camera_file
from d2vpr_ros.cli.match import read_lens
from d2vpr_ros.errors import UserError

ROS = """image_width: 640
image_height: 480
camera_name: front
camera_matrix:
  rows: 3
  cols: 3
  data: [430.2, 0., 306.9, 0., 430.5, 227.2, 0., 0., 1.]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [-0.337, 0.111, 0.0007, -0.0006, 0.]
"""


def written(folder: Path, text: str, name: str = "camera.yaml") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_what_camera_calibration_writes_is_a_lens_for_pictures_of_its_own_size(tmp_path: Path) -> None:
    lens = read_lens(written(tmp_path, ROS), 320, 240)
    assert (lens.width, lens.height, lens.model) == (640, 480, "plumb_bob")
    assert lens.k[0].tolist() == [430.2, 0.0, 306.9]
    assert lens.d == (-0.337, 0.111, 0.0007, -0.0006, 0.0)


@pytest.mark.parametrize("name", ["equidistant", "fisheye"])
def test_a_fisheye_camera_is_read_under_both_names(tmp_path: Path, name: str) -> None:
    text = ROS.replace("plumb_bob", name).replace("-0.337, 0.111, 0.0007, -0.0006, 0.", "0.1, 0.01, 0.001, 0.0001")
    lens = read_lens(written(tmp_path, text), 640, 480)
    assert (lens.model, lens.d) == ("equidistant", (0.1, 0.01, 0.001, 0.0001))


def test_a_plain_matrix_is_for_pictures_of_the_size_at_hand(tmp_path: Path) -> None:
    lens = read_lens(written(tmp_path, "585 0 320\n0 585 240\n0 0 1\n", "k.txt"), 640, 480)
    assert (lens.width, lens.height, lens.focal_px, lens.d) == (640, 480, 585.0, ())


def test_coefficients_that_are_all_zero_are_no_distortion_whatever_the_model(tmp_path: Path) -> None:
    text = ROS.replace("plumb_bob", "").replace("-0.337, 0.111, 0.0007, -0.0006, 0.", "0, 0, 0, 0, 0")
    assert read_lens(written(tmp_path, text), 640, 480).d == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ROS.replace("430.2, 0., 306.9, 0., 430.5, 227.2", "0, 0, 0, 0, 0, 0"), "the camera is not calibrated"),
        (ROS.replace("430.2", ".nan"), "camera_matrix has a number that is not finite"),
        (ROS.replace("430.2", "'430.2'"), "camera_matrix is a dict, expected a list of numbers"),
        (ROS.replace("430.2, ", ""), "camera_matrix has 8 numbers, expected 9"),
        (ROS.replace("430.2", "4.302"), "no camera has focal lengths 4.302 and 430.5"),
        (ROS.replace("306.9", "700"), "the centre 700, 227.2 in pictures of 640 x 480"),
        (ROS.replace("image_width: 640", "image_width: 0"), "image_width is 0, expected pixels above 0"),
        (ROS.replace("image_width: 640\n", ""), "image_width is missing"),
        pytest.param(
            ROS.replace("image_width: 640", "image_width: 0x" + "f" * 9000),
            "image_width is a number out of bounds",
            id="digits",
        ),
        (ROS.replace("plumb_bob", "thin_prism"), "distortion_model 'thin_prism' is not known"),
        (ROS.replace("plumb_bob", "equidistant"), "5 distortion_coefficients, expected 4"),
        ("- 1\n- 2\n", "holds list, not a camera's calibration"),
        ("", "holds NoneType"),
        ("image_width: [", "is no YAML"),
        ("a: !!python/object/apply:os.getcwd []", "is no YAML"),
        pytest.param("[" * 5000, "is no YAML", id="nested"),
    ],
)
def test_a_file_that_is_no_calibration_is_told_by_name(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UserError, match=r"camera\.yaml") as told:
        read_lens(path, 640, 480)
    assert said in str(told.value)
    assert len(str(told.value)) < 500


def test_a_list_that_names_itself_a_million_times_is_not_written_out(tmp_path: Path) -> None:
    lists = "\n".join(f"a{n}: &a{n} [{', '.join(8 * [f'*a{n - 1}'])}]" for n in range(1, 30))
    text = ROS.replace("image_width: 640", f"a0: &a0 [1]\n{lists}\nimage_width: *a29")
    with pytest.raises(UserError, match="image_width is a list"):
        read_lens(written(tmp_path, text), 640, 480)


@pytest.mark.parametrize("text", ["", "1 2 3", "0 0 0\n0 0 0\n0 0 1", "a b c", "nan 0 1\n0 5 1\n0 0 1"])
def test_text_that_is_no_camera_matrix_is_told_by_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match=r"k\.txt"):
        read_lens(written(tmp_path, text, "k.txt"), 640, 480)


def test_a_file_that_is_not_there_or_far_too_large_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_camera_file(tmp_path / "none.yaml", 640, 480)
    with pytest.raises(UserError, match="bytes long"):
        read_camera_file(written(tmp_path, "#" * 1_000_001), 640, 480)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, len(ROS) - 1), put=st.text(max_size=4))
def test_a_damaged_calibration_is_read_or_told(tmp_path: Path, at: int, put: str) -> None:
    path = tmp_path / "damaged.yaml"
    path.write_bytes((ROS[:at] + put + ROS[at + 1 :]).encode("utf-8", errors="replace"))
    try:
        read_lens(path, 640, 480)
    except UserError as error:
        assert "damaged.yaml" in str(error)
