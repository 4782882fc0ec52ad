"""Poses from a file beside the bag: TUM, KITTI or CSV."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from d2vpr_ros.bags.gps import GpsTrack, make_track
from d2vpr_ros.bags.gps_poses import poses_along
from d2vpr_ros.bags.pose_table import read_stamp, read_stamped_rows
from d2vpr_ros.bags.trajectory import PoseColumns, PoseOf, Trajectory
from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import Pose

_FORMATS = (
    "TUM (stamp x y z qx qy qz qw), KITTI (12 numbers, the upper rows of a 4 x 4 matrix), or a .csv with a header "
    "(timestamp,x,y,z,qx,qy,qz,qw)"
)


@dataclass(frozen=True, eq=False)
class PoseFile:
    """What a file of poses holds.

    Attributes:
        trajectory: in the frame `map`; without poses but with latitudes and longitudes, along those.
        pose_of: whose poses, where the format says it: TUM's and KITTI's are the camera's.
        geo: the latitudes and longitudes of a CSV, if it has them.
    """

    trajectory: Trajectory
    pose_of: PoseOf | None
    geo: GpsTrack | None = None


def read_pose_file(path: Path, times: Path | None, image_stamps: Callable[[], Sequence[int]]) -> PoseFile:
    """Read a file of poses; the format is told by a .csv ending, else by the numbers on the first line.

    Args:
        times: the seconds of KITTI's poses, one a line.
        image_stamps: header stamps of the drive's images in the order they were taken, nanoseconds; asked for KITTI's
            poses without `times`, which are one for each image.

    Raises:
        UserError: the file cannot be read, is of no such format, or has a line that does not fit, named.
    """
    if path.suffix.lower() == ".csv":
        if times is not None:
            raise _times_unused(times, path)
        return _from_csv(path)
    lines = list(_lines(path))
    if not lines:
        raise UserError(f"{path}: no poses; expected {_FORMATS}")
    count = len(lines[0][1])
    if count == 8:
        if times is not None:
            raise _times_unused(times, path)
        return PoseFile(_from_tum(path, lines), "camera_optical")
    if count == 12:
        return PoseFile(_from_kitti(path, lines, times, image_stamps), "camera_optical")
    raise UserError(f"{path}:{lines[0][0]}: {count} words on the first line; expected {_FORMATS}")


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and words of the lines that are neither empty nor a comment."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                words = line.split()
                if words and not words[0].startswith("#"):
                    yield number, words
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; expected {_FORMATS}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text: {error}; expected {_FORMATS}") from error


def _floats(path: Path, number: int, words: Sequence[str], count: int) -> list[float]:
    if len(words) != count:
        raise UserError(f"{path}:{number}: {len(words)} numbers, expected {count} as on the lines before")
    try:
        values = [float(word) for word in words]
    except ValueError as error:
        raise UserError(f"{path}:{number}: {error}; expected {count} numbers") from error
    if not np.isfinite(values).all():
        raise UserError(f"{path}:{number}: a number is not finite; remove the line")
    return values


def _from_tum(path: Path, lines: Sequence[tuple[int, list[str]]]) -> Trajectory:
    columns = PoseColumns()
    for number, words in lines:
        numbers = _floats(path, number, words, 8)[1:]
        if not any(numbers[3:]):
            raise UserError(f"{path}:{number}: the quaternion is zero; expected stamp x y z qx qy qz qw")
        columns.add(read_stamp(f"{path}:{number}", words[0]), numbers)
    return _whole(path, columns)


def _from_kitti(
    path: Path, lines: Sequence[tuple[int, list[str]]], times: Path | None, image_stamps: Callable[[], Sequence[int]]
) -> Trajectory:
    matrices = np.array([_floats(path, number, words, 12) for number, words in lines]).reshape(-1, 3, 4)
    rotations = matrices[:, :, :3]
    off = np.abs(rotations @ rotations.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
    wrong = np.flatnonzero((off > 0.01) | (np.linalg.det(rotations) < 0))
    if len(wrong):
        raise UserError(
            f"{path}:{lines[wrong[0]][0]}: no rotation in the first three columns; expected the upper three rows of a "
            "4 x 4 matrix, row by row"
        )
    if times is not None:
        source = str(times)
        stamps: Sequence[int] = [read_stamp(f"{times}:{number}", " ".join(words)) for number, words in _lines(times)]
    else:
        source, stamps = "the bag's first image topic", image_stamps()
    if len(stamps) != len(lines):
        raise UserError(
            f"{path}: {len(lines)} poses, but {len(stamps)} stamps in {source}; KITTI poses need a stamp for each "
            "line; give --pose-times, a file with the seconds of each line"
        )
    columns = PoseColumns()
    for stamp, matrix, quaternion in zip(stamps, matrices, Rotation.from_matrix(rotations).as_quat(), strict=True):
        columns.add(int(stamp), (*matrix[:, 3].tolist(), *quaternion.tolist()))
    return _whole(path, columns)


def _from_csv(path: Path) -> PoseFile:
    rows = read_stamped_rows(path)
    tagged = [(row.stamp_ns, row.geo) for row in rows if row.geo is not None]
    geo = None
    if tagged:
        stamps = np.array([stamp for stamp, _ in tagged], dtype=np.int64)
        geo = make_track(path, stamps, np.array([place for _, place in tagged], dtype=np.float64))
    columns = PoseColumns()
    for row in rows:
        if row.pose is not None:
            columns.add(row.stamp_ns, row.pose.numbers)
    columns.check_one_way(str(path))
    trajectory = columns.trajectory("map")
    if trajectory is not None:
        return PoseFile(trajectory, None, geo)
    if geo is not None:
        return PoseFile(poses_along(geo, Pose.identity().position), None)
    raise UserError(f"{path}: no row has a pose (x,y,z,qx,qy,qz,qw) or a place (lat,lon); expected {_FORMATS}")


def _whole(path: Path, columns: PoseColumns) -> Trajectory:
    columns.check_one_way(str(path))
    trajectory = columns.trajectory("map")
    if trajectory is None:
        raise UserError(f"{path}: none of its {len(columns)} poses has a rotation; expected {_FORMATS}")
    return trajectory


def _times_unused(times: Path, path: Path) -> UserError:
    return UserError(f"--pose-times {times}: {path} has stamps; leave --pose-times out (only KITTI files need it)")
