"""Several cameras in one drive: names, mounts, intrinsics, and the options that say them."""

from __future__ import annotations

import argparse

import numpy as np
import pytest
from recorded import RGB, SECOND

from d2vpr_ros.bags.drive import MAX_GAP_S, open_drive
from d2vpr_ros.bags.messages import make, make_header
from d2vpr_ros.bags.reader import open_bag
from d2vpr_ros.bags.writer import BagWriter
from d2vpr_ros.cli.drive_options import add_drive_arguments, open_asked_drive
from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import FORWARD_MOUNT, Pose, distance, turn

FRONT = Pose.planar(0.5, 0, 0) @ FORWARD_MOUNT
LEFT = Pose.planar(0, 0.3, np.pi / 2) @ FORWARD_MOUNT
K = np.array([[500.0, 0, 15.5], [0, 510, 11.5], [0, 0, 1]])


def close(a, b):
    return distance(a, b) < 1e-6 and turn(a, b) < 1e-6


@pytest.fixture
def rig(tmp_path):
    """Two cameras on a robot that drives 1 m/s along x, the left one an instant later, and PNGs from a third."""
    with BagWriter(tmp_path / "rig") as bag:
        bag.transform(0, "base_link", "front_optical", FRONT, static=True)
        bag.transform(0, "base_link", "left_optical", LEFT, static=True)
        for second in range(4):
            stamp = second * SECOND
            bag.pose("/slam/pose", stamp, "map", Pose.planar(second, 0, 0))
            bag.camera_info("/front/camera_info", stamp, "front_optical", K, 32, 24)
            bag.image("/front/image_raw", stamp, RGB, "front_optical")
            bag.image("/left/image_raw", stamp + 1, RGB[:, ::-1], "left_optical")
            bag.image("/image", stamp, RGB, "left_optical")
    with open_bag(tmp_path / "rig") as bag:
        yield bag


def test_several_cameras_give_one_stream_in_the_bags_order(rig):
    drive = open_drive(rig, ["/left/image_raw", "front/image_raw"])
    frames = list(drive.frames())
    assert [posed.frame.camera for posed in frames] == ["front", "left"] * 3 + ["front"]
    assert list(drive.cameras) == ["left", "front"]
    assert close(frames[2].pose, Pose.planar(1, 0, 0) @ FRONT)
    assert close(frames[3].pose, Pose.planar(1 + 1e-9, 0, 0) @ LEFT)
    assert np.array_equal(frames[3].frame.rgb, RGB[:, ::-1])
    assert (drive.images, drive.total, drive.outside) == (8, 8, 1)


def test_keep_is_asked_with_the_camera_its_pose_and_its_stamp(rig):
    asked = []

    def keep(camera, pose, stamp_ns):
        asked.append((camera, stamp_ns))
        return camera == "left" and pose.position[0] > 1

    drive = open_drive(rig, ["/front/image_raw", "/left/image_raw"])
    assert [posed.frame.stamp_ns for posed in drive.frames(keep)] == [SECOND + 1, 2 * SECOND + 1]
    assert asked[:3] == [("front", 0), ("left", 1), ("front", SECOND)]
    assert drive.skipped == 5


def test_mounts_come_from_tf_or_are_given_by_name(rig):
    topics = ["/front/image_raw", "/left/image_raw", "/image"]
    high = Pose.planar(0, 0, 0, z=2.0) @ FORWARD_MOUNT
    drive = open_drive(rig, topics, mounts={"left": high})
    assert list(drive.cameras) == ["front", "left", "left_optical"]  # /image has no namespace
    assert close(drive.cameras["front"].mount, FRONT)
    assert close(drive.cameras["left"].mount, high)
    assert close(drive.cameras["left_optical"].mount, LEFT)
    with pytest.raises(UserError, match=r"--mount with 2 cameras: .*the cameras are front, left$"):
        open_drive(rig, topics[:2], mount=high)
    with pytest.raises(UserError, match=r"--mount-of rear: no such camera; the cameras are front, left$"):
        open_drive(rig, topics[:2], mounts={"rear": high})


def test_poses_of_the_first_camera_place_the_others_by_their_mounts(rig):
    drive = open_drive(rig, ["/front/image_raw", "/left/image_raw"], pose_of="camera_optical")
    front, left = (posed.pose for posed, _ in zip(drive.frames(), range(2), strict=False))
    assert close(front, Pose.planar(0, 0, 0))
    assert close(left, Pose.planar(1e-9, 0, 0) @ FRONT.inverse() @ LEFT)


def test_odometry_of_an_imu_is_carried_to_camera_and_base(tmp_path):
    imu = Pose.planar(0.1, 0, np.pi)
    with BagWriter(tmp_path / "bag") as bag:
        bag.transform(0, "base_link", "imu", imu, static=True)
        bag.transform(0, "base_link", "front_optical", FRONT, static=True)
        bag.odometry("/vio", 0, "odom", "imu", Pose.planar(7, 0, 0))
        bag.image("/front/image", 0, RGB, "front_optical")
    with open_bag(tmp_path / "bag") as bag:
        drive = open_drive(bag)
        assert close(drive.mount, FRONT)
        assert close(next(drive.frames()).pose, Pose.planar(7, 0, 0) @ imu.inverse() @ FRONT)


def test_an_image_stamped_with_the_bases_frame_does_not_look_up(tmp_path, caplog):
    with BagWriter(tmp_path / "bag") as bag:
        bag.odometry("/odom", 0, "odom", "base_link", Pose.planar(7, 0, 0))
        bag.image("/front/image", 0, RGB, "base_link")
    with open_bag(tmp_path / "bag") as bag:
        assert close(next(open_drive(bag).frames()).pose, Pose.planar(7, 0, 0) @ FORWARD_MOUNT)
        assert close(next(open_drive(bag, mount=FRONT).frames()).pose, Pose.planar(7, 0, 0) @ FRONT)
    assert caplog.text.count("tf_static has no mount of base_link on base_link") == 1


def test_intrinsics_come_from_the_camera_info_beside_the_topic(rig):
    cameras = open_drive(rig, ["/front/image_raw", "/left/image_raw"]).cameras
    calibration = cameras["front"].calibration
    assert calibration.k == tuple(K.reshape(9))
    assert (calibration.distortion_model, calibration.d) == ("plumb_bob", (0.0,) * 5)
    assert calibration.k_for(16, 12) == (250, 0, 7.5, 0, 255, 5.5, 0, 0, 1)  # the middle stays the middle
    assert calibration.k_for(24, 24) is None  # cut, nobody knows where
    assert cameras["left"].calibration is None


def test_a_rectified_topic_has_the_projection_matrix_and_an_uncalibrated_camera_nothing(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        bag.pose("/slam/pose", 0, "map", Pose.identity())
        for name in ("front/image_rect", "raw/image_raw"):
            bag.image(f"/{name}", 0, RGB, "cam")
            bag.camera_info(f"/{name.split('/')[0]}/camera_info", 0, "cam", np.zeros((3, 3)), 32, 24)
        info = make(
            "sensor_msgs/msg/CameraInfo", header=make_header(1, "cam"), height=24, width=32,
            distortion_model="plumb_bob", d=np.ones(5), k=K.reshape(9), r=np.eye(3).reshape(9),
            p=np.hstack([2 * K, np.ones((3, 1))]).reshape(12), binning_x=0, binning_y=0,
            roi=make("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False),
        )  # fmt: skip
        bag.write("/camera_info", 1, info)
        bag.image("/image_rect_color", 1, RGB, "cam")
    with open_bag(tmp_path / "bag") as bag:
        cameras = open_drive(bag, ["/front/image_rect", "/raw/image_raw", "/image_rect_color"]).cameras
    assert cameras["raw"].calibration is None
    assert cameras["front"].calibration is None
    assert cameras["cam"].calibration.k == tuple((2 * K).reshape(9))
    assert cameras["cam"].calibration.d == ()


def test_cameras_of_one_namespace_go_by_their_whole_topic(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        bag.pose("/slam/pose", 0, "map", Pose.identity())
        bag.image("/stereo/left", 0, RGB, "left")
        bag.image("/stereo/right", 0, RGB, "right")
    with open_bag(tmp_path / "bag") as bag:
        assert list(open_drive(bag, ["/stereo/left", "/stereo/right"]).cameras) == ["stereo/left", "stereo/right"]


def test_a_drive_can_be_read_without_poses(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        for second in range(3):
            bag.image("/front/image", second * SECOND, RGB, "cam")
    with open_bag(tmp_path / "bag") as bag:
        drive = open_drive(bag, with_poses=False)
        frames = list(drive.frames())
    assert (drive.poses, drive.pose_source, drive.origin) == (None, "", None)
    assert len(frames) == 3
    assert all(close(posed.pose, Pose.identity()) and posed.covariance is None for posed in frames)


# Options


def asked(bag, *words):
    parser = argparse.ArgumentParser()
    add_drive_arguments(parser)
    return open_asked_drive(bag, parser.parse_args([str(bag.path), *words]))


def test_the_options_say_topics_mounts_and_gaps(rig):
    numbers = ",".join(str(v) for v in LEFT.numbers)
    drive = asked(
        rig, "--image-topic", "/front/image_raw", "--image-topic", "/left/image_raw", "--pose-topic", "/slam/pose",
        "--mount-of", f"front={numbers}", "--max-gap", "0.5",
    )  # fmt: skip
    assert close(drive.cameras["front"].mount, LEFT)
    assert drive.max_gap_s == 0.5
    assert len(list(drive.frames())) == 4  # those at the poses' own stamps
    one = asked(rig, "--image-topic", "/image", "--mount", *(str(v) for v in FRONT.numbers))
    assert close(one.mount, FRONT)
    assert one.max_gap_s == MAX_GAP_S


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--mount", *"0000000"), "--mount: not a pose.*; expected seven numbers"),
        (("--mount-of", "front"), "--mount-of front: expected NAME=x,y,z,qx,qy,qz,qw"),
        (("--mount-of", "front=1,2,3"), "--mount-of front: .*; expected seven numbers"),
        (("--mount-of", "front=1,2,3,a,0,0,1"), "--mount-of front: .*'a'; expected seven numbers"),
        (("--max-gap", "0"), "--max-gap 0: expected seconds above 0"),
        (("--image-topic", "/image", "--map-frame", "odom"), "are in the frame map, not in odom as --map-frame says"),
        ((), "several image topics; choose one with --image-topic: /front/image_raw"),
    ],
)
def test_an_option_that_does_not_fit_is_named(rig, words, says):
    with pytest.raises(UserError, match=says) as caught:
        asked(rig, *words)
    assert "\n" not in str(caught.value)
