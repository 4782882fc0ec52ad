"""A folder of images and a table of poses becomes a bag that a drive is read from."""

from __future__ import annotations

import argparse

import cv2
import numpy as np
import pytest

from d2vpr_ros.bags.drive import open_drive
from d2vpr_ros.bags.from_images import bag_from_images
from d2vpr_ros.bags.reader import open_bag
from d2vpr_ros.cli import bag_from_images as command
from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import FORWARD_MOUNT, Pose, distance, turn

SECOND = 1_000_000_000
HEADER = "filename,timestamp,x,y,z,qx,qy,qz,qw,season,place"


def picture(i):
    return np.full((24, 32, 3), (10 * i, 100, 200), np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Four JPEGs in images/, driven along x, the last without a pose; two seasons."""
    (tmp_path / "images").mkdir()
    lines = [HEADER]
    for i in range(4):
        cv2.imwrite(str(tmp_path / "images" / f"{i}.jpg"), picture(i)[..., ::-1])
        pose = f"{i},0,0,0,0,0,1" if i < 3 else ",,,,,,"
        lines.append(f"images/{i}.jpg,{i * 0.1},{pose},{'snow' if i % 2 else 'green'},{i // 2}")
    (tmp_path / "poses.csv").write_text("\n".join(lines))
    return tmp_path


def rewrite(folder, *lines):
    (folder / "poses.csv").write_text("\n".join(lines))


def convert(folder, **options):
    return bag_from_images(folder / "images", folder / "poses.csv", folder / "bag", **options)


def texts(bag, topic):
    return [(time_ns, message.data) for _, time_ns, message in bag.messages([topic])]


def test_images_poses_and_labels_come_back_from_the_bag(folder):
    summary = convert(folder)
    assert (summary.images, summary.posed, summary.geotagged) == (4, 3, 0)
    assert summary.notes == ("1 images have no pose",)
    with open_bag(folder / "bag") as bag:
        drive = open_drive(bag)
        frames = list(drive.frames())
        assert texts(bag, "/ground_truth/place")[1:3] == [(SECOND // 10, "0"), (SECOND // 5, "1")]
        assert texts(bag, "/ground_truth/season")[3] == (3 * SECOND // 10, "snow")
        jpegs = [bytes(m.data) for _, _, m in bag.messages(["/camera/image/compressed"])]
        truth = [m.pose.position.x for _, _, m in bag.messages(["/ground_truth/pose"])]
    assert drive.pose_source == "/slam/pose"
    assert [f.frame.stamp_ns for f in frames] == [0, SECOND // 10, SECOND // 5]
    assert [f.pose.position[0] for f in frames] == truth == [0.0, 1.0, 2.0]
    assert np.abs(frames[2].frame.rgb.astype(int) - picture(2)).max() < 6
    assert jpegs == [(folder / "images" / f"{i}.jpg").read_bytes() for i in range(4)]  # not encoded again


def test_poses_of_the_camera_become_poses_of_the_base(folder):
    convert(folder, pose_of="camera_optical")
    with open_bag(folder / "bag") as bag:
        drive = open_drive(bag)
        frames = list(drive.frames())
        base = next(m.pose.orientation for _, _, m in bag.messages(["/slam/pose"]))
    assert all(distance(f.pose, Pose.planar(i, 0, 0)) < 1e-9 for i, f in enumerate(frames))
    assert all(turn(f.pose, Pose.identity()) < 1e-6 for f in frames)
    assert turn(Pose.of(0, 0, 0, base.x, base.y, base.z, base.w), FORWARD_MOUNT.inverse()) < 1e-6


def test_rows_are_chosen_by_column_and_by_number(folder):
    assert convert(folder, where={"season": "snow"}).images == 2
    assert bag_from_images(folder, folder / "poses.csv", folder / "odd", every=2, offset=1).images == 2
    with open_bag(folder / "odd") as bag:
        assert [text for _, text in texts(bag, "/ground_truth/filename")] == ["images/1.jpg", "images/3.jpg"]


def test_the_command_prints_what_it_did(folder, capsys):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    arguments = [str(folder), str(folder / "poses.csv"), "-o", str(folder / "bag"), "--where", "season=green"]
    assert command.main(parser.parse_args(arguments)) == 0
    shown = capsys.readouterr().out
    assert "2 images over 0.2 s, 2 with a pose" in shown
    assert "/ground_truth/place" in shown
    with pytest.raises(UserError, match="--where season: expected COLUMN=VALUE"):
        command.main(parser.parse_args([*arguments[:-1], "season"]))


@pytest.mark.parametrize(
    ("stamps", "note", "expected"),
    [
        (("", "", ""), "no row has a timestamp: images are stamped 1 s apart", [0, 1, 2]),
        (("5", "", "7"), "1 of 3 rows have no timestamp: images are stamped 1 s apart", [0, 1, 2]),
        (("5", "6", "5"), "1 of 3 timestamps repeat an earlier one: images are stamped 1 s apart", [0, 1, 2]),
        (("5", "9", "7"), "out of order: images are sorted by them", [5, 7, 9]),
    ],
)
def test_stamps_that_cannot_be_used_become_one_a_second_and_it_is_said(folder, stamps, note, expected):
    rewrite(folder, "filename,timestamp", *(f"images/{i}.jpg,{stamp}" for i, stamp in enumerate(stamps)))
    notes = convert(folder).notes
    assert note in notes[0]
    with open_bag(folder / "bag") as bag:
        assert [t // SECOND for _, t, _ in bag.messages(["/camera/image/compressed"])] == expected


def test_stamps_keep_their_nanoseconds(folder):
    rewrite(folder, "filename,timestamp", "images/0.jpg,1719999999.123456789")
    convert(folder)
    with open_bag(folder / "bag") as bag:
        assert bag.start_ns == 1719999999123456789


def test_latitude_and_longitude_become_fixes(folder):
    rewrite(folder, "filename,lat,lon,alt", "images/0.jpg,55.7,13.2,", "images/1.jpg,55.7001,13.2,", "images/2.jpg,,,")
    summary = convert(folder)
    assert (summary.posed, summary.geotagged) == (0, 2)
    with open_bag(folder / "bag") as bag:
        frames = list(open_drive(bag).frames())
    assert [f.geo[0] for f in frames] == pytest.approx([55.7, 55.7001], abs=1e-7)
    assert frames[1].pose.position == pytest.approx([0, 11.1, 0], abs=0.1)


def test_other_formats_lose_nothing_and_intrinsics_become_camera_info(folder):
    cv2.imwrite(str(folder / "images" / "0.bmp"), picture(3)[..., ::-1])
    cv2.imwrite(str(folder / "images" / "1.png"), picture(4)[..., 0])
    rewrite(folder, HEADER, "0.bmp,0,0,0,0,0,0,0,1,,", "images/1.png,1,0,0,0,0,0,0,1,,")
    (folder / "K.txt").write_text("500 0 16\n0 501 12\n0 0 1\n")
    convert(folder, intrinsics=folder / "K.txt")
    with open_bag(folder / "bag") as bag:
        first, second = (f.frame.rgb for f in open_drive(bag).frames())
        info = next(m for _, _, m in bag.messages(["/camera/camera_info"]))
    assert np.array_equal(first, picture(3))
    assert np.array_equal(second, np.full((24, 32, 3), 40))
    assert (info.k.tolist(), info.width) == ([500, 0, 16, 0, 501, 12, 0, 0, 1], 32)


@pytest.mark.parametrize(
    ("lines", "options", "says"),
    [
        (("name,x", "a,1"), {}, "no column `filename`"),
        ((HEADER,), {}, "a header line but no rows"),
        ((HEADER, "images/9.jpg,0" + "," * 9), {}, r"poses\.csv:2: no image images/9\.jpg; looked in"),
        ((HEADER, "images/0.jpg,soon" + "," * 9), {}, r"poses\.csv:2: timestamp is 'soon', expected seconds"),
        ((HEADER, "images/0.jpg,1719999999123456789" + "," * 9), {}, "expected seconds from 0"),
        ((HEADER, "images/0.jpg,0,1,2,three,0,0,0,1,,"), {}, "z is 'three', expected a number"),
        ((HEADER, "images/0.jpg,0,1,2,3,0,0,0,,,"), {}, "qw empty beside the others"),
        ((HEADER, "images/0.jpg,0,1,2,3,0,0,0,0,,"), {}, "not a pose"),
        ((HEADER, "images/0.jpg,0,1,2,3,0,0,0,1,,,,"), {}, "13 cells under 11 columns"),
        (("filename,lat,lon", "images/0.jpg,155,13"), {}, "not on the earth"),
        (None, {"where": {"saison": "snow"}}, "no column saison for --where; it has filename"),
        (None, {"where": {"season": "autumn"}}, "no row with season=autumn; that column has green, snow"),
        (None, {"offset": 4}, "no row left of 4"),
        (None, {"every": 0}, "expected every >= 1"),
        (None, {"intrinsics": "nothing.txt"}, "cannot be read as a 3 x 3 camera matrix"),
    ],
)
def test_a_wrong_table_or_option_is_named_in_one_line_and_leaves_no_bag(folder, lines, options, says):
    if lines is not None:
        rewrite(folder, *lines)
    with pytest.raises(UserError, match=says) as caught:
        convert(folder, **options)
    assert "\n" not in str(caught.value)
    assert not (folder / "bag").exists()


@pytest.mark.parametrize(
    "content", [b"", b"words, not a picture", b"\xff\xd8\xff\xe0\x00\x10JFIF", b"\x89PNG\r\n\x1a\nxx"]
)
def test_an_unreadable_image_is_named(folder, content):
    (folder / "images" / "2.jpg").write_bytes(content)
    with pytest.raises(UserError, match=r"2\.jpg: .*(read|damaged)"):
        convert(folder)
    assert not (folder / "bag").exists()


def test_missing_folders_tables_and_foreign_tables_are_named(folder):
    with pytest.raises(UserError, match="no such folder of images"):
        bag_from_images(folder / "none", folder / "poses.csv", folder / "bag")
    with pytest.raises(UserError, match="no such file"):
        bag_from_images(folder, folder / "none.csv", folder / "bag")
    with pytest.raises(UserError, match=r"cannot be read as a CSV table|no column"):
        bag_from_images(folder, folder / "images" / "0.jpg", folder / "bag")


@pytest.mark.footage
@pytest.mark.parametrize(
    ("name", "options", "with_pose"),
    [
        ("campus_loop_ros", {"every": 10}, 8),
        ("sevenscenes_tsdf", {"every": 50, "pose_of": "camera_optical"}, 10),
        ("opensfm_lund", {"every": 10}, 3),
        ("grief_stromovka_pairs", {"every": 40, "where": {"traverse": "season_01"}}, 0),
        ("ie_tower", {"every": 40, "where": {"floor": "floor3"}}, 0),
    ],
)
def test_real_footage_becomes_bags(tmp_path, footage, name, options, with_pose):
    if not (footage / name / "poses.csv").is_file():
        pytest.skip(f"no {name} in the footage folder")
    summary = bag_from_images(footage / name, footage / name / "poses.csv", tmp_path / "bag", **options)
    assert summary.posed + summary.geotagged == with_pose
    with open_bag(tmp_path / "bag") as bag:
        assert bag.topics["/camera/image/compressed"].count == summary.images > 0
        if with_pose:
            assert len(list(open_drive(bag).frames())) == with_pose
