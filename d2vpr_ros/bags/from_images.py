"""A folder of images with a table of poses becomes a bag like one that was recorded."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from d2vpr_ros.bags.pose_table import Row, read_pose_table
from d2vpr_ros.bags.trajectory import PoseOf
from d2vpr_ros.bags.transforms import BASE_FRAME
from d2vpr_ros.bags.writer import BagWriter
from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import FORWARD_MOUNT, Pose
from d2vpr_ros.images.decode import decode_compressed
from d2vpr_ros.images.deep import WHOLE_RANGE

CAMERA_FRAME = "camera_optical_frame"
IMAGE_TOPIC = "/camera/image"  # the compressed pictures go to <topic>/compressed

FORMATS = {b"\xff\xd8\xff": "jpeg", b"\x89PNG\r\n\x1a\n": "png"}


@dataclass(frozen=True)
class ImportSummary:
    """What went into a bag: images, those with a pose and with latitude and longitude, the time from first to last.

    `labels` are the topics that the table's other columns became; `notes` is what the user should know.
    """

    images: int
    posed: int
    geotagged: int
    duration_s: float
    labels: tuple[str, ...]
    notes: tuple[str, ...]


def bag_from_images(
    images: str | Path,
    poses_csv: str | Path,
    out: str | Path,
    where: Mapping[str, str] | None = None,
    every: int = 1,
    offset: int = 0,
    pose_of: PoseOf = "base",
    intrinsics: str | Path | None = None,
) -> ImportSummary:
    """Write the bag.

    Pictures go as they are, JPEG or PNG bytes, into CompressedImage on /camera/image/compressed (other formats become
    PNG, without loss). Poses are of base_link in `map`, on /slam/pose, which maps are built from, and on
    /ground_truth/pose, which answers are scored with; the camera's mount (level, forward-looking) is on /tf_static.
    Latitude and longitude go to /gps/fix. Each other column, such as `place`, becomes std_msgs/String on
    /ground_truth/<column>, recorded at the image's stamp.

    Args:
        images: the folder; file names are looked up beside the table first, then in here.
        poses_csv: see `pose_table`.
        out: the bag's directory, which must not exist.
        where, every, offset: which rows, see `read_pose_table`.
        pose_of: whose poses the table has; those of the camera are turned into the base's by the mount.
        intrinsics: a text file of the 3 x 3 camera matrix in pixels, for /camera/camera_info.

    Raises:
        UserError: anything wrong with these files, named; the unfinished bag is removed.
    """
    folder, table_path = Path(images), Path(poses_csv)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of images")
    table = read_pose_table(table_path, where or {}, every, offset)
    matrix = None if intrinsics is None else read_camera_matrix(Path(intrinsics))
    rows = table.rows
    with BagWriter(out) as bag:
        bag.transform(rows[0].stamp_ns, BASE_FRAME, CAMERA_FRAME, FORWARD_MOUNT, static=True)
        for row in tqdm(rows, unit="image", disable=None, leave=False):
            _write_image(bag, row, _find(row, folder, table_path), matrix)
            _write_truth(bag, row, pose_of)
    labels = dict.fromkeys(label_topic(name) for row in rows for name in row.labels)
    posed = sum(row.pose is not None for row in rows)
    geotagged = sum(row.geo is not None for row in rows)
    notes = list(table.notes)
    if posed + geotagged == 0:
        notes.append("no row has a pose or latitude and longitude: the bag can be played, but no map can be made of it")
    elif max(posed, geotagged) < len(rows):
        notes.append(f"{len(rows) - max(posed, geotagged)} images have no pose")
    duration_s = (rows[-1].stamp_ns - rows[0].stamp_ns) / 1e9
    return ImportSummary(len(rows), posed, geotagged, duration_s, tuple(labels), tuple(notes))


def label_topic(column: str) -> str:
    """The topic of a table's column; ROS names have letters, digits and underscores, and begin with no digit."""
    name = re.sub(r"\W", "_", column, flags=re.ASCII)
    return f"/ground_truth/{name if re.match(r'[A-Za-z]', name) else f'column_{name}'}"


def read_camera_matrix(path: Path) -> npt.NDArray[np.float64]:
    """The (3, 3) camera matrix of a text file of nine numbers, three a line.

    Raises:
        UserError: it is not that.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an empty file; what follows refuses it
            matrix = np.loadtxt(path, dtype=np.float64)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a 3 x 3 camera matrix: {error}") from error
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        raise UserError(f"{path}: not a camera matrix; expected 3 x 3 numbers, fx 0 cx, 0 fy cy, 0 0 1, in pixels")
    return matrix


def _find(row: Row, folder: Path, table: Path) -> Path:
    folders = dict.fromkeys((table.parent, folder))
    for place in folders:
        if (place / row.filename).is_file():
            return place / row.filename
    looked = " and ".join(map(str, folders))
    raise UserError(f"{table}:{row.line}: no image {row.filename}; looked in {looked}; correct the name or add it")


def _write_image(bag: BagWriter, row: Row, path: Path, matrix: npt.NDArray[np.float64] | None) -> None:
    data = path.read_bytes()
    encoding = next((name for magic, name in FORMATS.items() if data.startswith(magic)), None)
    if encoding is None:
        data, encoding = _as_png(path, data), "png"
    try:
        # A bag holds only what opens.
        height, width = decode_compressed(np.frombuffer(data, np.uint8), WHOLE_RANGE).shape[:2]
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    bag.encoded_image(IMAGE_TOPIC, row.stamp_ns, data, CAMERA_FRAME, encoding)
    if matrix is not None:
        bag.camera_info("/camera/camera_info", row.stamp_ns, CAMERA_FRAME, matrix, width, height)


def _as_png(path: Path, data: bytes) -> bytes:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if pixels is None:
        raise UserError(f"{path}: not an image that can be read ({len(data)} bytes); replace it or take its row out")
    return cv2.imencode(".png", pixels)[1].tobytes()


def _write_truth(bag: BagWriter, row: Row, pose_of: PoseOf) -> None:
    if row.pose is not None:
        base: Pose = row.pose if pose_of == "base" else row.pose @ FORWARD_MOUNT.inverse()
        bag.pose("/slam/pose", row.stamp_ns, "map", base)
        bag.pose("/ground_truth/pose", row.stamp_ns, "map", base)
    if row.geo is not None:
        bag.fix("/gps/fix", row.stamp_ns, BASE_FRAME, *row.geo, sigma=None)
    for name, value in row.labels.items():
        bag.text(label_topic(name), row.stamp_ns, value)
