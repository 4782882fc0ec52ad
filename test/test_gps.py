"""GPS: poses along its track or as an IMU turns them, and geo-tags beside other poses."""

from __future__ import annotations

import numpy as np
import pytest
from builds import CheapExtractor
from hypothesis import given
from hypothesis import strategies as st
from recorded import RGB, SECOND

from d2vpr_ros.bags.drive import NO_TOPIC, open_drive
from d2vpr_ros.bags.gps import plausible, read_track
from d2vpr_ros.bags.messages import make, make_header, make_quaternion, make_vector
from d2vpr_ros.bags.reader import open_bag
from d2vpr_ros.bags.writer import BagWriter
from d2vpr_ros.errors import UserError
from d2vpr_ros.geodesy import LocalFrame
from d2vpr_ros.geometry import FORWARD_MOUNT, Pose, distance, turn
from d2vpr_ros.mapping import BuildOptions, read_map
from d2vpr_ros.mapping.recording import build_map
from d2vpr_ros.mapping.summary import facts

LUND = LocalFrame(55.7, 13.2, 40.0)
CAMERA = Pose.planar(0.5, 0.2, 0.3, z=1.0) @ FORWARD_MOUNT


def close(a, b, metres=1e-6):
    return distance(a, b) < metres and turn(a, b) < 1e-6


def record_images(bag, stamps):
    bag.transform(0, "base_link", "cam", CAMERA, static=True)
    for stamp in stamps:
        bag.image("/front/image", round(stamp * SECOND), RGB, "cam")


def fix_at(enu):
    return LUND.to_geo(np.array([enu], dtype=float))[0]


def write_imu(bag, second, pose, covariance=(0.0,) * 9):
    message = make(
        "sensor_msgs/msg/Imu",
        header=make_header(round(second * SECOND), "imu"),
        orientation=make_quaternion(pose),
        orientation_covariance=np.array(covariance, dtype=float),
        angular_velocity=make_vector([0, 0, 0]),
        angular_velocity_covariance=np.zeros(9),
        linear_acceleration=make_vector([0, 0, 0]),
        linear_acceleration_covariance=np.zeros(9),
    )
    bag.write("/imu", round(second * SECOND), message)


def record_gps(path, imu_covariance=(0.0,) * 9):
    """A robot that slides east while it turns, its antenna 2 m ahead, its IMU upside down."""
    mount = Pose.of(0, 0, 0.2, 1, 0, 0, 0)
    with BagWriter(path) as bag:
        bag.transform(0, "base_link", "imu", mount, static=True)
        bag.transform(0, "base_link", "gps", Pose.planar(2, 0, 0, z=1.5), static=True)
        for tenth in range(31):
            base = Pose.planar(0.5 * tenth, 0, 0.1 * tenth)
            write_imu(bag, tenth / 10, base @ mount, imu_covariance)
            if tenth % 10 == 0:
                antenna = base.position + base.rotation.apply([2, 0, 1.5])
                bag.fix("/gps/fix", tenth * SECOND // 10, "gps", *fix_at(antenna), sigma=2.0)
        record_images(bag, [1.0, 1.7])
    return path


def test_an_imu_turns_gps_poses_and_says_where_the_antenna_points(tmp_path):
    with open_bag(record_gps(tmp_path / "bag", np.diag([0.01, 0.02, 0.03]).reshape(9))) as bag:
        drive = open_drive(bag, imu_topic="imu")
        frames = list(drive.frames())
        east = fix_at([2, 0, 1.5])  # the first fix is the frame's origin
    assert (drive.origin.latitude, drive.origin.longitude) == pytest.approx((east[0], east[1]), abs=1e-9)
    first = Pose.planar(5.0 - 2.0, 0, 1.0, z=-1.5)
    assert close(frames[0].pose, first @ CAMERA, metres=1e-3)
    assert turn(frames[1].pose, Pose.planar(0, 0, 1.7) @ CAMERA) < 1e-6  # the IMU's own rate, not the fixes'
    assert frames[0].geo == pytest.approx(tuple(fix_at((Pose.planar(5.0, 0, 1.0) @ CAMERA).position)), abs=1e-6)
    assert np.diag(frames[0].covariance)[3:] == pytest.approx([0.01, 0.02, 0.03])
    arm = (first @ CAMERA).position - first.position
    assert frames[0].covariance[0, 0] == pytest.approx(4.0 + 0.03 * arm[1] ** 2 + 0.02 * arm[2] ** 2, rel=1e-3)


def test_an_imu_that_faces_elsewhere_than_the_robot_drives_is_said(tmp_path, caplog):
    def drive(name, imu_yaw):
        with BagWriter(tmp_path / name) as bag:
            for second in range(5):
                bag.fix("/gps/fix", second * SECOND, "", *fix_at([0, 3.0 * second, 0]), sigma=None)
                write_imu(bag, second, Pose.planar(0, 0, imu_yaw))
            bag.transform(0, "base_link", "imu", Pose.identity(), static=True)
            record_images(bag, [1.0])
        with open_bag(tmp_path / name) as bag:
            open_drive(bag, imu_topic="/imu")

    drive("enu", np.pi / 2)
    assert "REP-145" not in caplog.text
    drive("ned", 0.0)
    assert "travel is 90 degrees off the heading of the IMU" in caplog.text


def test_an_imu_without_orientation_or_another_topic_is_refused(tmp_path):
    nothing = (-1.0, *(0.0,) * 8)
    with open_bag(record_gps(tmp_path / "bag", nothing)) as bag:
        with pytest.raises(UserError, match="no message on /imu has an orientation"):
            open_drive(bag, imu_topic="/imu")
        with pytest.raises(UserError, match=r"/front/image is sensor_msgs/msg/Image; beside --imu-topic, --imu-topic"):
            open_drive(bag, imu_topic="/front/image")
        with pytest.raises(
            UserError, match=r"/tf_static is .*; beside --imu-topic, --pose-topic has to be .*NavSatFix"
        ):
            open_drive(bag, pose_topic="/tf_static", imu_topic="/imu")


def test_a_gps_track_carries_the_receivers_covariance_and_a_heading_as_good_as_that(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        for second in range(4):
            bag.fix("/gps/fix", second * SECOND, "gps", *fix_at([3.0 * second, 0, 0]), sigma=0.1 * (1 + second))
            bag.fix("/rtk/fix", second * SECOND, "gps", *fix_at([3.0 * second, 0, 0]), sigma=None)
        record_images(bag, [1.5])
    with open_bag(tmp_path / "bag") as bag:
        known = next(open_drive(bag, pose_topic="/gps/fix", mount=FORWARD_MOUNT).frames()).covariance
        unknown = next(open_drive(bag, pose_topic="/rtk/fix", mount=FORWARD_MOUNT).frames()).covariance
    assert unknown is None
    assert np.diag(known)[:3] == pytest.approx([0.09, 0.09, 0.36])  # of the worse of the two fixes
    assert known[5, 5] == pytest.approx(2 * 0.09 / 2.0**2)


@pytest.mark.parametrize(("sigma", "is_told"), [(9.0, True), (1.5, False)])
def test_a_map_of_inexact_fixes_is_told_with_the_way_out_and_says_how_exact_it_is(tmp_path, caplog, sigma, is_told):
    with BagWriter(tmp_path / "bag") as bag:
        for second in range(4):
            bag.fix("/gps/fix", second * SECOND, "gps", *fix_at([3.0 * second, 0, 0]), sigma=sigma)
        record_images(bag, [0.5, 1.5, 2.5])
    with open_bag(tmp_path / "bag") as bag:
        drive = open_drive(bag, pose_topic="/gps/fix", mount=FORWARD_MOUNT)
        build_map(tmp_path / "map.d2map", drive, CheapExtractor(), BuildOptions(keep_all=True))
    told = f"bag: the fixes on /gps/fix are exact to {sigma} m only"
    assert (told in caplog.text and "--geo-topic /gps/fix" in caplog.text) == is_told
    assert facts(read_map(tmp_path / "map.d2map"))["poses"].startswith(f"exact to {sigma:.2f} m")


def test_fixes_before_the_receiver_has_one_and_jumps_no_vehicle_makes_are_left_out_and_counted(tmp_path, caplog):
    """Wherever in the drive they are: at the beginning, in between, and at the end."""
    with BagWriter(tmp_path / "bag") as bag:
        for second in range(30):
            place = fix_at([3.0 * second, 0, 0])
            if second < 4 or second == 15:
                place = (0.0, 0.0, 0.0)
            elif second in (10, 11, 29):
                place = fix_at([3.0 * second, 4000.0, 0])
            bag.fix("/gps/fix", second * SECOND, "gps", *place, sigma=None)
        record_images(bag, [12.5])
    with open_bag(tmp_path / "bag") as bag:
        track = read_track(bag, "/gps/fix")
        (frame,) = open_drive(bag, pose_topic="/gps/fix", max_gap_s=5.0).frames()
    assert len(track.stamps_ns) == 22
    assert (np.diff(track.enu[:, 0]) > 2.9).all() and abs(track.enu[:, 1]).max() < 0.1
    assert track.origin.latitude == pytest.approx(55.7, abs=1e-3)
    assert frame.pose.position[0] == pytest.approx(3.0 * (12.5 - 4), abs=1.0)
    assert "5 fixes are left out: 0 N 0 E" in caplog.text
    assert "3 fixes are left out: too far from the others for a vehicle" in caplog.text


def test_a_receiver_that_never_had_a_fix_is_refused_as_a_source_of_poses(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        for second in range(3):
            bag.fix("/gps/fix", second * SECOND, "gps", 0.0, 0.0, 0.0, sigma=1.0)
        record_images(bag, [1.0])
    with open_bag(tmp_path / "bag") as bag, pytest.raises(UserError, match="none of the 3 messages on /gps/fix has a"):
        open_drive(bag, pose_topic="/gps/fix")


@given(st.integers(0, 1000), st.integers(1, 60))
def test_a_track_that_a_car_can_drive_is_kept_whole(seed, count):
    """Up to 50 m/s in any direction, fixes 0.1 to 10 s apart, each off by some tens of metres."""
    random = np.random.default_rng(seed)
    seconds = random.uniform(0.1, 10, count)
    steps = random.uniform(-35, 35, (count, 3)) * seconds[:, None]
    positions = np.cumsum(steps, axis=0) + random.uniform(-20, 20, (count, 3))
    stamps = (np.cumsum(seconds) * SECOND).astype(np.int64)
    assert plausible(stamps, positions, np.zeros(count)).all()


# Geo-tags


def record_tagged(path, topics=("/gps/fix",)):
    """Poses from SLAM and fixes beside them, one of which is none."""
    with BagWriter(path) as bag:
        for second in range(5):
            bag.pose("/slam/pose", second * SECOND, "map", Pose.planar(second, 0, 0))
            for topic in topics:
                lat, lon, alt = fix_at([10.0 * second, 0, 0])
                bag.fix(topic, second * SECOND, "gps", float("nan") if second == 2 else lat, lon,
                        float("nan") if second == 4 else alt, 1.0)  # fmt: skip
        record_images(bag, [0.5, 1.5, 3.5])
    return path


def test_images_are_tagged_from_the_fixes_beside_poses_of_another_source(tmp_path):
    with open_bag(record_tagged(tmp_path / "bag")) as bag:
        drive = open_drive(bag)
        tags = [posed.geo for posed in drive.frames()]
        assert drive.geo_tagged
        assert drive.origin is None  # the map frame is SLAM's
        bare = open_drive(bag, geo_topic=NO_TOPIC)
        assert not bare.geo_tagged
        assert next(bare.frames()).geo is None
    assert tags[0] == pytest.approx(tuple(fix_at([5, 0, 0])), abs=1e-5)
    assert tags[1] is None  # the fix at 2 s is none, and 1 s to 3 s is too far
    assert tags[2][:2] == pytest.approx(tuple(fix_at([35, 0, 0])[:2]), abs=1e-6)
    assert np.isnan(tags[2][2])


def test_of_several_receivers_one_has_to_be_named_and_it_has_to_have_a_fix(tmp_path):
    record_tagged(tmp_path / "bag", ("/left/fix", "/right/fix"))
    with open_bag(tmp_path / "bag") as bag:
        with pytest.raises(UserError, match="choose one with --geo-topic: /left/fix, /right/fix, or none"):
            open_drive(bag)
        assert open_drive(bag, geo_topic="left/fix").geo_tagged
    with BagWriter(tmp_path / "lost") as bag:
        bag.fix("/gps/fix", 0, "gps", float("nan"), 0.0, 0.0, None)
        bag.pose("/slam/pose", 0, "map", Pose.identity())
        record_images(bag, [0.0])
    with open_bag(tmp_path / "lost") as bag:
        assert not open_drive(bag).geo_tagged
        with pytest.raises(UserError, match="no message on /gps/fix has a fix"):
            open_drive(bag, geo_topic="/gps/fix")


def test_tags_cross_the_antimeridian(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        for second, longitude in enumerate((179.9999, -179.9999)):
            bag.pose("/slam/pose", second * SECOND, "map", Pose.planar(second, 0, 0))
            bag.fix("/gps/fix", second * SECOND, "gps", -17.0, longitude, 5.0, 1.0)
        record_images(bag, [0.5])
    with open_bag(tmp_path / "bag") as bag:
        _, longitude, _ = next(open_drive(bag).frames()).geo
    assert abs(longitude) == pytest.approx(180.0)
