"""A camera's intrinsics as a file: the YAML that ROS's camera_calibration writes, or a 3 x 3 matrix as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from d2vpr_ros.bags.calibration import Calibration
from d2vpr_ros.bags.from_images import read_camera_matrix
from d2vpr_ros.errors import UserError
from d2vpr_ros.fields import one_line

_YAML = (".yaml", ".yml")
_MOST_BYTES = 1_000_000  # a calibration has 1 kB
_COEFFICIENTS = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14), "equidistant": (4,)}
_SYNONYMS = {"fisheye": "equidistant", "radtan": "plumb_bob"}  # other tools' names for the same
_EXPECTED = (
    "expected a file of ROS's camera_calibration: image_width, image_height, camera_matrix with nine numbers as "
    "data, distortion_model, distortion_coefficients with data"
)


def read_camera_file(path: Path, width: int, height: int) -> Calibration:
    """The intrinsics in a file whose name ends in .yaml or .yml, or in a text file of the 3 x 3 camera matrix.

    Args:
        width, height: of the pictures, which a matrix alone is taken to be for; a YAML file has its own.

    Raises:
        UserError: it is not that, or the camera is not calibrated.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected intrinsics: a .yaml file of ROS or a 3 x 3 matrix")
    if path.stat().st_size > _MOST_BYTES:
        raise UserError(f"{path} is {path.stat().st_size} bytes long, too long for a camera calibration; {_EXPECTED}")
    if path.suffix.lower() not in _YAML:
        matrix = read_camera_matrix(path)
        return Calibration(width, height, tuple(matrix.reshape(-1).tolist()))
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:  # text that is no Unicode is a ValueError
        raise UserError(f"{path} is no YAML ({one_line(str(error))}); {_EXPECTED}") from None
    return _calibration(path, content)


def _calibration(path: Path, content: object) -> Calibration:
    if not isinstance(content, dict):
        raise UserError(f"{path} holds {type(content).__name__}, not a camera's calibration; {_EXPECTED}")
    width, height = (_pixels(path, content, key) for key in ("image_width", "image_height"))
    k = _numbers(path, content, "camera_matrix")
    if len(k) != 9:
        raise UserError(f"{path}: camera_matrix has {len(k)} numbers, expected 9: fx 0 cx, 0 fy cy, 0 0 1, in pixels")
    if k[0] <= 0 or k[4] <= 0:
        raise UserError(f"{path}: camera_matrix has focal lengths {k[0]:g} and {k[4]:g}: the camera is not calibrated")
    d = _numbers(path, content, "distortion_coefficients") if "distortion_coefficients" in content else ()
    named = one_line(str(content.get("distortion_model") or ""))
    model = _SYNONYMS.get(named, named)
    if not any(d):
        return Calibration(width, height, k)
    if model not in _COEFFICIENTS:
        raise UserError(f"{path}: distortion_model '{named}' is not known; expected {', '.join(_COEFFICIENTS)}")
    if len(d) not in _COEFFICIENTS[model]:
        counts = " or ".join(map(str, _COEFFICIENTS[model]))
        raise UserError(f"{path}: {len(d)} distortion_coefficients, expected {counts} of distortion_model '{named}'")
    return Calibration(width, height, k, model, d)


def _pixels(path: Path, content: dict[Any, Any], key: str) -> int:
    value = content.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= 100_000:
        raise UserError(f"{path}: {key} is {_shown(value)}, expected pixels above 0; {_EXPECTED}")
    return value


def _numbers(path: Path, content: dict[Any, Any], key: str) -> tuple[float, ...]:
    """The finite numbers of a matrix: its `data`, or the list itself."""
    value = content.get(key)
    data = value.get("data") if isinstance(value, dict) else value
    plain = isinstance(data, list) and all(
        isinstance(number, (int, float)) and not isinstance(number, bool) for number in data
    )
    if not isinstance(data, list) or not plain or len(data) > 100:
        raise UserError(f"{path}: {key} is {_shown(value)}, expected a list of numbers as data; {_EXPECTED}")
    try:
        numbers = tuple(float(number) for number in data)
    except OverflowError:
        numbers = (float("inf"),)
    if not np.isfinite(numbers).all():
        raise UserError(f"{path}: {key} has a number that is not finite")
    return numbers


def _shown(value: object) -> str:
    """A value for a message; of what is no plain value the kind alone: YAML can name one list a million times."""
    if value is None:
        return "missing"
    try:
        return one_line(repr(value)) if isinstance(value, (str, int, float)) else f"a {type(value).__name__}"
    except ValueError:  # a whole number of thousands of digits
        return "a number out of bounds"
