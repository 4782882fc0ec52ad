"""Poses from files beside a bag: TUM, KITTI, CSV."""

from __future__ import annotations

import numpy as np
import pytest
from recorded import LEFT_MOUNT, SECOND, record

from d2vpr_ros.bags.drive import open_drive
from d2vpr_ros.bags.reader import open_bag
from d2vpr_ros.errors import UserError
from d2vpr_ros.geodesy import LocalFrame
from d2vpr_ros.geometry import Pose, distance, turn

HEADER = "timestamp,x,y,z,qx,qy,qz,qw"


@pytest.fixture
def bag(tmp_path):
    """Images at 0.5, 1.5, ... 4.5 s."""
    with open_bag(record(tmp_path / "drive")) as bag:
        yield bag


def way(second):
    return Pose.planar(second, 2.0 * second, 0.1 * second, z=1.0)


def close(a, b):
    return distance(a, b) < 1e-6 and turn(a, b) < 1e-6


def numbers(pose):
    return " ".join(repr(number) for number in pose.numbers)


def matrix(pose):
    return " ".join(str(v) for v in np.column_stack([pose.rotation.as_matrix(), pose.position]).reshape(12))


def poses_of(bag, path, text, **options):
    path.write_text(text)
    return [posed.pose for posed in open_drive(bag, pose_file=path, **options).frames()]


def halfway(second):
    return Pose.planar(second + 0.5, 2.0 * second + 1.0, 0.1 * second + 0.05, z=1.0)


def test_a_tum_file_has_the_cameras_poses(bag, tmp_path):
    text = "# stamp x y z qx qy qz qw\n\n" + "\n".join(f"{s}.000000000 {numbers(way(s))}" for s in range(4))
    poses = poses_of(bag, tmp_path / "trajectory.txt", text)
    assert [close(pose, halfway(s)) for s, pose in enumerate(poses)] == [True] * 3


def test_stamps_of_a_file_keep_their_nanoseconds(tmp_path, bag):
    text = f"0.499999999 {numbers(way(0))}\n0.500000001 {numbers(way(1))}\n"
    poses = poses_of(bag, tmp_path / "fine.tum", text)
    assert close(poses[0], halfway(0))


def test_a_kitti_file_has_a_pose_for_each_image_or_times_beside_it(bag, tmp_path):
    kitti = "\n".join(matrix(way(s)) for s in range(5))
    poses = poses_of(bag, tmp_path / "00.txt", kitti)
    assert all(close(pose, way(s)) for s, pose in enumerate(poses))
    (tmp_path / "times.txt").write_text("\n".join(f"{s:e}" for s in range(5)))
    poses = poses_of(bag, tmp_path / "00.txt", kitti, pose_times=tmp_path / "times.txt")
    assert all(close(pose, halfway(s)) for s, pose in enumerate(poses))
    assert len(poses) == 4


def test_a_csv_has_poses_of_what_is_said(bag, tmp_path):
    text = "\n".join([HEADER, *(f"{s},{numbers(way(s)).replace(' ', ',')}" for s in (2, 0, 1, 3))])
    of_base = poses_of(bag, tmp_path / "poses.csv", text)
    of_camera = poses_of(bag, tmp_path / "poses.csv", text, pose_of="camera_optical")
    assert all(close(pose, halfway(s) @ LEFT_MOUNT) for s, pose in enumerate(of_base))
    assert all(close(pose, halfway(s)) for s, pose in enumerate(of_camera))
    assert len(of_base) == len(of_camera) == 3


def test_places_of_a_csv_tag_the_images_or_stand_for_poses(bag, tmp_path):
    lund = LocalFrame(55.7, 13.2, 10.0)
    geo = lund.to_geo(np.array([[3.0 * s, 0, 0] for s in range(4)])).tolist()
    rows = [f"{s},{numbers(way(s)).replace(' ', ',')},{lat!r},{lon!r},{alt!r}" for s, (lat, lon, alt) in enumerate(geo)]
    (tmp_path / "both.csv").write_text("\n".join([HEADER + ",lat,lon,alt", *rows]))
    drive = open_drive(bag, pose_file=tmp_path / "both.csv")
    tagged = next(drive.frames())
    assert drive.origin is None
    assert close(tagged.pose, halfway(0) @ LEFT_MOUNT)
    assert tagged.geo == pytest.approx(tuple(lund.to_geo(np.array([[1.5, 0, 0]]))[0]), abs=1e-5)
    (tmp_path / "places.csv").write_text(
        "\n".join(["timestamp,lat,lon", *(f"{s},{lat!r},{lon!r}" for s, (lat, lon, _) in enumerate(geo))])
    )
    drive = open_drive(bag, pose_file=tmp_path / "places.csv", pose_of="camera_optical")  # a track is of the robot
    assert distance(next(drive.frames()).pose, Pose.planar(1.5, 0, 0) @ LEFT_MOUNT) < 1e-4  # at another altitude
    assert drive.origin is not None


TUM = f"0 {numbers(way(0))}\n"
KITTI = matrix(way(0)) + "\n"


@pytest.mark.parametrize(
    ("name", "text", "options", "says"),
    [
        ("a.txt", None, {}, r"a\.txt: no such file; expected TUM"),
        ("a.txt", "# nothing\n", {}, r"a\.txt: no poses; expected TUM"),
        ("a.txt", "\x00\xff", {}, r"1 words on the first line; expected TUM"),
        ("a.txt", "1 2 3\n", {}, r"a\.txt:1: 3 words on the first line; expected TUM"),
        ("a.txt", TUM + "\n1 2 3\n", {}, r"a\.txt:3: 3 numbers, expected 8"),
        ("a.txt", TUM + "1 0 0 zero 0 0 0 1\n", {}, r"a\.txt:2: could not convert string to float: 'zero'"),
        ("a.txt", TUM + "1 0 0 nan 0 0 0 1\n", {}, r"a\.txt:2: a number is not finite"),
        ("a.txt", TUM + "1 0 0 0 0 0 0 0\n", {}, r"a\.txt:2: the quaternion is zero"),
        ("a.txt", TUM + "-1 0 0 0 0 0 0 1\n", {}, r"a\.txt:2: timestamp is -1, expected seconds"),
        ("a.txt", TUM, {"pose_times": "times.txt"}, r"a\.txt has stamps; leave --pose-times out"),
        ("a.txt", TUM, {"pose_topic": "/slam/pose"}, "and --pose-topic: give only one source of poses"),
        ("a.txt", KITTI * 2, {}, r"2 poses, but 5 stamps in the bag's first image topic; .*--pose-times"),
        ("a.txt", KITTI * 2, {"pose_times": "times.txt"}, r"2 poses, but 3 stamps in .*times\.txt"),
        ("a.txt", KITTI + "0 " * 12 + "\n", {}, r"a\.txt:2: no rotation in the first three columns"),
        (
            "a.csv",
            "x,y\n1,2\n",
            {},
            r"no column `timestamp`; expected a CSV file with a header line such as timestamp,x",
        ),
        ("a.csv", HEADER + "\n1,0,0,0,0,0,0,\n", {}, r"a\.csv:2: qw empty beside the others"),
        ("a.csv", HEADER + "\nsoon,0,0,0,0,0,0,1\n", {}, r"a\.csv:2: timestamp is 'soon'"),
        ("a.csv", "timestamp,place\n1,here\n", {}, r"no row has a pose"),
    ],
)
def test_a_file_that_does_not_fit_is_named_with_its_line(bag, tmp_path, name, text, options, says):
    (tmp_path / "times.txt").write_text("0\n1\n2\n")
    if text is not None:
        (tmp_path / name).write_text(text)
    if "pose_times" in options:
        options = {"pose_times": tmp_path / options["pose_times"]}
    with pytest.raises(UserError, match=says) as caught:
        open_drive(bag, pose_file=tmp_path / name, **options)
    assert "\n" not in str(caught.value)


def test_times_without_poses_are_refused(bag, tmp_path):
    with pytest.raises(UserError, match="without --poses"):
        open_drive(bag, pose_times=tmp_path / "times.txt")


def test_poses_of_another_day_are_said_with_both_times(bag, tmp_path):
    (tmp_path / "a.tum").write_text(f"{TUM}1700000000 {numbers(way(1))}\n")
    drive = open_drive(bag, pose_file=tmp_path / "a.tum")
    with pytest.raises(UserError, match=r"from 0\.500 s to 4\.500 s, .*a\.tum from 0\.000 s to 1700000000\.000 s"):
        list(drive.frames())
    assert drive.in_gaps == 5
    assert SECOND == 1_000_000_000
