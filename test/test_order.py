"""Recordings in which time begins anew, or two nodes publish on one topic: named, never mixed."""

from __future__ import annotations

import pytest
from recorded import LEFT_MOUNT, RGB, SECOND

from d2vpr_ros.bags.drive import open_drive
from d2vpr_ros.bags.gps import read_track
from d2vpr_ros.bags.messages import make, make_header, make_pose, make_quaternion, make_vector
from d2vpr_ros.bags.pose_file import read_pose_file
from d2vpr_ros.bags.pose_topics import trajectory_from_bag
from d2vpr_ros.bags.reader import open_bag
from d2vpr_ros.bags.writer import BagWriter
from d2vpr_ros.errors import UserError
from d2vpr_ros.evaluation.numbers import image_numbers
from d2vpr_ros.geometry import Pose, turn


def message_of(topic, stamp_ns, x):
    """A message of each kind that is looked up by its stamp."""
    pose = Pose.planar(x, 0.0, 0.0)
    if topic == "/tf":
        transform = make(
            "geometry_msgs/msg/Transform", translation=make_vector((x, 0, 0)), rotation=make_quaternion(pose)
        )
        stamped = make("geometry_msgs/msg/TransformStamped", header=make_header(stamp_ns, "map"),
                       child_frame_id="base_link", transform=transform)  # fmt: skip
        return make("tf2_msgs/msg/TFMessage", transforms=[stamped])
    return make("geometry_msgs/msg/PoseStamped", header=make_header(stamp_ns, "map"), pose=make_pose(pose))


def two_runs(path, topic="/slam/pose"):
    """Ten seconds along x, then the simulator is reset: the same stamps again, recorded later, along another street."""
    with BagWriter(path) as bag:
        bag.transform(500 * SECOND, "base_link", "cam", LEFT_MOUNT, static=True)  # once, at the beginning
        for second in range(20):
            stamp, x = (second % 10 + 100) * SECOND, float(second if second < 10 else 1000 + second)
            recorded = (500 + second) * SECOND
            if topic == "/gps/fix":
                bag.fix(topic, stamp, "gps", 48.0 + 1e-5 * x, 9.0, 0.0, 1.0)
            else:
                bag.write(topic, recorded, message_of(topic, stamp, x))
            image = make("sensor_msgs/msg/Image", header=make_header(stamp, "cam"), height=2, width=2, encoding="mono8",
                         is_bigendian=0, step=2, data=RGB.reshape(-1)[:4])  # fmt: skip
            bag.write("/camera/image", recorded, image)
    return path


@pytest.mark.parametrize("topic", ["/slam/pose", "/tf"])
def test_a_recording_in_which_time_begins_anew_is_refused_with_the_second_and_both_cures(tmp_path, topic):
    path = two_runs(tmp_path / "bag", topic)
    with (
        open_bag(path) as bag,
        pytest.raises(UserError, match=rf"again 10\.000 s .* {topic}.* go back by 9\.000 s") as e,
    ):
        open_drive(bag, pose_topic=topic)
    assert "--end 10.000" in str(e.value) and "--start 10.000" in str(e.value)


@pytest.mark.parametrize(("part", "first"), [((0.0, 10.0), 0.0), ((10.0, 20.0), 1010.0)])
def test_each_run_of_it_can_be_taken_by_itself_and_has_its_own_poses(tmp_path, part, first):
    with open_bag(two_runs(tmp_path / "bag"), part) as bag:
        drive = open_drive(bag)
        frames = list(drive.frames())
    assert turn(drive.mount, LEFT_MOUNT) < 1e-6
    assert [frame.pose.position[0] - 0.3 - first for frame in frames] == pytest.approx(range(10))


def test_images_alone_that_begin_anew_are_refused_too_where_they_are_looked_up_by_stamp(tmp_path):
    path = tmp_path / "bag"
    with BagWriter(path) as bag:
        for second in range(20):
            bag.pose("/slam/pose", (100 + second) * SECOND, "map", Pose.planar(second, 0, 0))
    with BagWriter(tmp_path / "both") as both, open_bag(path) as poses, open_bag(two_runs(tmp_path / "two")) as images:
        for topic, recorded, message in poses.messages(["/slam/pose"]):
            both.write(topic, recorded + 400 * SECOND, message)
        for topic, recorded, message in images.messages(["/camera/image"]):
            both.write(topic, recorded, message)
    with open_bag(tmp_path / "both") as bag:
        with pytest.raises(UserError, match=r"again 10\.000 s into the recording: the stamps on /camera/image"):
            list(open_drive(bag).frames())
        with pytest.raises(UserError, match="time starts again"):
            image_numbers(bag, ["/camera/image"])
        assert len(list(open_drive(bag, with_poses=False).frames())) == 20  # their order is all that counts


def test_two_runs_at_the_same_times_are_refused_where_the_recording_began_anew_too(tmp_path):
    """As a recorder that goes by simulated time leaves it; and a file that two trajectories were put together in."""
    with BagWriter(tmp_path / "bag") as bag:
        for run in range(2):
            for second in range(10):
                bag.pose("/slam/pose", second * SECOND, "map", Pose.planar(second + 100.0 * run, 0, 0))
    said = "10 of its 20 poses are over 1 m from another of the same time: two runs"
    with open_bag(tmp_path / "bag") as bag, pytest.raises(UserError, match=f"/slam/pose: {said}"):
        trajectory_from_bag(bag, "/slam/pose")
    lines = [f"{second} {second + 100 * run} 0 0 0 0 0 1" for run in range(2) for second in range(10)]
    (tmp_path / "two.txt").write_text("\n".join(lines))
    with pytest.raises(UserError, match=f"two.txt: {said}"):
        read_pose_file(tmp_path / "two.txt", None, list)


def test_a_part_that_holds_nothing_is_refused(tmp_path):
    path, nothing = two_runs(tmp_path / "bag"), r"the chosen part is empty: the recording is 19\.00 s long"
    with pytest.raises(UserError, match=nothing), open_bag(path, (30.0, 40.0)):
        pass


def test_two_publishers_on_one_pose_topic_are_named_by_their_frames(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        for second in range(4):
            bag.pose("/pose", second * SECOND, "map" if second % 2 else "odom", Pose.planar(second, 0, 0))
            child = "base_link" if second % 2 else "imu_link"
            bag.odometry("/odom", second * SECOND, "odom", child, Pose.planar(second, 0, 0), (0,) * 6, None)
            bag.fix("/gps/fix", second * SECOND, "front" if second % 2 else "rear", 48.0, 9.0, 0.0, 1.0)
    with open_bag(tmp_path / "bag") as bag:
        with pytest.raises(UserError, match="/pose mixes the frames 'odom' and 'map'"):
            trajectory_from_bag(bag, "/pose")
        with pytest.raises(UserError, match="/odom mixes the frames 'imu_link' and 'base_link'"):
            trajectory_from_bag(bag, "/odom")
        with pytest.raises(UserError, match="/gps/fix mixes the frames 'rear' and 'front'"):
            read_track(bag, "/gps/fix")
