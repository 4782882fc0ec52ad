"""`d2vpr doctor`: what it says of what it observed, and what it observes on real DDS."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rclpy
from nav_msgs.msg import Odometry
from places import straight_street, unit_rows, write_places, write_sessions
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, NavSatFix
from std_msgs.msg import Header

from d2vpr_ros.cli.main import main as d2vpr
from d2vpr_ros.describe import Extractor
from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import FORWARD_MOUNT
from d2vpr_ros.localize.gps import GpsFix
from d2vpr_ros.nodes import doctor_checks as checks
from d2vpr_ros.nodes import doctor_machine as machine
from d2vpr_ros.nodes import doctor_tf
from d2vpr_ros.nodes.doctor_facts import (
    CameraInfoFacts,
    DeviceFacts,
    GpsFacts,
    ImageFacts,
    MapFacts,
    MiddlewareFacts,
    MountFacts,
    OdometryFacts,
    Sender,
    SimTime,
    Stream,
    SystemFacts,
)
from d2vpr_ros.nodes.doctor_inspect import inspect_middleware, read_parameters
from d2vpr_ros.nodes.messages import to_time
from d2vpr_ros.share import share_folder

FASTDDS = share_folder() / "config" / "fastdds.xml"
DAY_S = 86_400.0


def stream(topic: str = "/front/image", kind: str = checks.IMAGE, age_s: float = 0.02, rate_hz: float = 10.0) -> Stream:
    """Two seconds of messages."""
    at = tuple(number / rate_hz for number in range(int(2 * rate_hz)))
    stamps = tuple(1_700_000_000_000_000_000 + int(second * 1e9) for second in at)
    return Stream(topic, (kind,), (Sender("/camera"),), stamps, (age_s,) * len(at), at, "front_optical")


SHOWN = ImageFacts(stream(), 921_600, (640, 480), "rgb8")
MOVED = OdometryFacts(replace(stream("/odom", checks.ODOMETRY), frame_id="odom"), "base_link")


def of_image(image: ImageFacts, wanted: bool = False, clock: bool = False) -> str:
    return "\n".join(map(str, checks.check_image(image, ["/front/image"], 3.0, 1.0, SimTime(wanted, clock))))


def of_odometry(odometry: OdometryFacts | None, topics: tuple[str, ...] = ("/odom",)) -> str:
    return "\n".join(map(str, checks.check_odometry(odometry, topics, "base_link", [SHOWN], 3.0, 2.0)))


def test_what_is_well_is_said_with_what_to_launch() -> None:
    assert of_image(SHOWN).splitlines() == [
        "OK   /front/image: 10.0 messages/s",
        "OK   /front/image: 20 ms from stamp to here",
        "OK   /front/image: 640 x 480, rgb8 - image_topic:=/front/image",
    ]
    assert of_odometry(MOVED).splitlines() == [
        "OK   /odom: 10.0 messages/s",
        "OK   /odom: odom -> base_link",
    ]
    moved = of_odometry(replace(MOVED, child_frame_id="imu_link", on_base=True))
    assert "OK   /odom: odom -> imu_link, moved to base_link by the transform between" in moved
    compressed = replace(SHOWN, stream=stream("/front/image/compressed", checks.COMPRESSED_IMAGE))
    assert "image_topic:=/front/image image_transport:=compressed" in of_image(compressed)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (Stream("/front/image"), "FAIL /front/image: no publisher - there is: /front/image"),
        (Stream("/front/image", ("nav_msgs/msg/Path",)), "FAIL /front/image: is nav_msgs/msg/Path; expected"),
        (Stream("/front/image", (checks.IMAGE,), (Sender("/cam"),)), "FAIL /front/image: no message in 3 s"),
        (
            replace(stream(), senders=(Sender("/cam", "Best effort publisher and reliable subscription"),)),
            "FAIL /front/image: /cam has QoS that the localizer cannot receive: Best effort",
        ),
        (replace(stream(), senders=(Sender("/a"), Sender("/b"))), "WARN /front/image: 2 publishers mix on it: /a, /b"),
        (stream(rate_hz=0.5), "WARN /front/image: one message only"),
        (stream(rate_hz=0.9, age_s=0.1), "WARN /front/image: one message only"),
        (stream(age_s=3.0), "FAIL /front/image: images are 3.0 s old, more than max_age_s (1)"),
        (stream(age_s=-2.0), "WARN /front/image: stamps are 2.0 s in the future"),
        (stream(age_s=400 * DAY_S), "WARN /front/image: stamps are 400 days old: a recording? - ros2 bag play --clock"),
        (replace(stream(), stamps_ns=(0,) * 20), "FAIL /front/image: stamps are 0"),
        (replace(stream(), stamps_ns=(5,) * 20), "WARN /front/image: stamps repeat or go back"),
    ],
)
def test_what_is_wrong_with_an_image_topic_is_one_line(changed: Stream, said: str) -> None:
    (line,) = [line for line in of_image(replace(SHOWN, stream=changed)).splitlines() if not line.startswith("OK")]
    assert line.startswith(said)
    assert " - " in line  # what to do


def test_the_clock_of_a_recording_is_asked_for_and_missed() -> None:
    old = replace(SHOWN, stream=stream(age_s=400 * DAY_S))
    assert "a recording? - set use_sim_time:=true" in of_image(old, clock=True)
    assert "one recording" in of_image(old, wanted=True, clock=True)
    assert "FAIL /front/image: use_sim_time is true, but /clock has no publisher" in of_image(SHOWN, wanted=True)


FIX = GpsFix(0, 48.0, 9.0, 2.0)
HEARD = GpsFacts(stream("/gps/fix", checks.NAVSATFIX), (FIX,), to_map_m=12.0)


@pytest.mark.parametrize(
    ("gps", "said"),
    [
        (HEARD, "OK   /gps/fix: exact to 2.0 m, 12 m from the nearest place of the map"),
        (replace(HEARD, to_map_m=None), "OK   /gps/fix: has a fix, exact to 2.0 m"),
        (
            replace(HEARD, to_map_m=5000.0),
            "WARN /gps/fix: 5000 m from the nearest place of the map - use a map of this place",
        ),
        (replace(HEARD, fixes=(), null_island=5), "WARN /gps/fix: 5 messages at 0 N 0 E, sent by receivers without"),
        (replace(HEARD, fixes=(), without=5), "WARN /gps/fix: 5 messages have no fix - wait until it has one"),
        (replace(HEARD, jumps_m=4000.0), "WARN /gps/fix: jumps by 4000 m, too far for a vehicle"),
    ],
)
def test_a_receiver_is_held_against_the_map_and_against_what_vehicles_can(gps: GpsFacts, said: str) -> None:
    assert any(str(line).startswith(said) for line in checks.check_gps(gps, 3.0, 30.0))
    assert checks.check_gps(None, 3.0, 30.0) == []


def test_odometry_whose_stamps_go_back_fails() -> None:
    back = replace(MOVED.stream, stamps_ns=(5 * 10**9, 6 * 10**9, 10**9))
    said = of_odometry(replace(MOVED, stream=back))
    assert "FAIL /odom: its stamps went back by 5.0 s - one publisher per topic" in said


def test_tf_in_a_namespace_is_named_with_the_remapping() -> None:
    said = str(doctor_tf.check_namespace(["/r1/tf_static"]))
    assert said.startswith("WARN tf: /tf_static has no publisher, but there is /r1/tf_")
    assert "-r /tf_static:=tf_static" in said


def test_an_image_that_cannot_be_decoded_fails_and_steers_no_terminal() -> None:
    said = of_image(replace(SHOWN, size=None, trouble="image (\x1b[2Jrgb): unknown image encoding"))
    assert "FAIL /front/image: image (\\x1b[2Jrgb): unknown image encoding" in said


@pytest.mark.parametrize(
    ("odometry", "topics", "said"),
    [
        (None, (), "WARN odometry: no topic of type nav_msgs/msg/Odometry"),
        (None, ("/a", "/b"), "WARN odometry: several topics or none called odom: /a, /b - choose one: --odom /a"),
        (replace(MOVED, child_frame_id="base_footprint"), ("/odom",), "WARN /odom: moves 'base_footprint', assumed"),
        (
            replace(MOVED, child_frame_id="rear_camera"),
            ("/odom",),
            "FAIL /odom: moves 'rear_camera', and tf has no transform to 'base_link': it is left out",
        ),
        (replace(MOVED, mixed=("map -> imu",)), ("/odom",), "FAIL /odom: mixes odom -> base_link, map -> imu - give"),
        (
            replace(MOVED, speed_mps=3.4),
            ("/odom",),
            "WARN /odom: 3.4 m/s, more than top_speed_mps (2) - set top_speed_mps:=5.1",
        ),
        (replace(MOVED, is_pose=False), ("/odom",), "FAIL /odom: its pose holds NaN"),
        (replace(MOVED, stream=stream("/odom", checks.ODOMETRY, rate_hz=2)), ("/odom",), "WARN /odom: 2.0 messages/s"),
        (
            replace(MOVED, stream=stream("/odom", checks.ODOMETRY, age_s=5.02)),
            ("/odom",),
            "FAIL /odom: its stamps are 5.0 s behind those of /front/image",
        ),
    ],
)
def test_what_is_wrong_with_odometry_is_one_line(
    odometry: OdometryFacts | None, topics: tuple[str, ...], said: str
) -> None:
    odometry = replace(odometry, stream=replace(odometry.stream, frame_id="odom")) if odometry else None
    (line,) = [line for line in of_odometry(odometry, topics).splitlines() if not line.startswith("OK")]
    assert line.startswith(said)
    assert " - " in line


@pytest.mark.parametrize(
    ("info", "said"),
    [
        (CameraInfoFacts("/front/camera_info"), "WARN /front/camera_info: no CameraInfo beside /front/image"),
        (CameraInfoFacts("/front/camera_info", heard=True), "WARN /front/camera_info: the camera is not calibrated"),
        (CameraInfoFacts("/front/camera_info", True, (1920, 1080)), "WARN /front/camera_info: is for 1920 x 1080"),
        (CameraInfoFacts("/front/camera_info", True, (1280, 960)), "OK   /front/camera_info: calibrated, 1280 x 960"),
    ],
)
def test_intrinsics_are_held_against_the_images(info: CameraInfoFacts, said: str) -> None:
    assert str(checks.check_camera_info(info, SHOWN)).startswith(said)


@pytest.mark.parametrize(
    ("mount", "said"),
    [
        (MountFacts("base_link", "eye", given=FORWARD_MOUNT), "OK   mount: base_link -> eye from camera_mount: [0.0,"),
        (
            MountFacts("base_link", "eye", in_tf=FORWARD_MOUNT),
            "OK   mount: base_link -> eye from tf: [0.0, 0.0, 0.0, -0",
        ),
        (
            MountFacts("base_link", "eye", in_tf=FORWARD_MOUNT, node_reads_tf=False),
            "WARN mount: tf has base_link -> eye, but tf2_ros is not installed here - set camera_mount:=[0.0, 0.0",
        ),
        (
            MountFacts("base_link", "eye"),
            "WARN mount: tf does not connect base_link -> eye; that of the map is used - right if",
        ),
        (
            MountFacts("base_link", "eye", FORWARD_MOUNT, parameter="camera.left.mount", among_several=True),
            "OK   mount: base_link -> eye from camera.left.mount: [0.0,",
        ),
        (
            MountFacts("base_link", "eye", parameter="camera.left.mount", among_several=True),
            "FAIL mount: tf does not connect base_link -> eye; the mount of each of several cameras must be known - "
            "publish it in /tf_static or set camera.left.mount",
        ),
        (MountFacts("base_link", "", tf_readable=False), "WARN mount: tf cannot be read here (no tf2_msgs); that of"),
    ],
)
def test_the_mount_is_the_parameters_else_that_of_tf_else_the_maps(mount: MountFacts, said: str) -> None:
    assert str(doctor_tf.check_mount(mount, map_has_one=True)).startswith(said)


def test_two_publishers_of_one_transform_are_told_before_they_meet() -> None:
    alone = SystemFacts(odom_parent="map", tf_senders=("/robot/d2vpr_localizer",))
    both = replace(alone, tf_senders=("/amcl", "/robot/d2vpr_localizer"))
    untold = SystemFacts(tf_readable=False)
    assert str(doctor_tf.check_published_tf(alone, "map", "odom")) == "OK   tf map -> odom: no other publisher"
    assert "already has map -> odom, from one of /amcl - set" in str(doctor_tf.check_published_tf(both, "map", "odom"))
    assert "tf2_msgs is not installed" in str(doctor_tf.check_published_tf(untold, "map", "odom"))


def test_parameters_that_ros_would_ignore_are_named() -> None:
    known = {"min_images": 3, "max_age_s": 1.0}
    lines = machine.check_parameters("my.yaml", {"min_image": 4, "max_age_s": 2, "use_sim_time": True}, known)
    assert [str(line) for line in lines] == [
        "WARN my.yaml: the localizer has no parameter min_image - did you mean min_images?",
        "FAIL my.yaml: max_age_s is 2 - write it as its default, 1.0",
    ]


def test_a_params_file_is_read_for_the_localizer_and_no_other_node(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(
        "amcl: {ros__parameters: {map: 1}}\n/**/d2vpr_localizer: {ros__parameters: {map: x.d2map, a: {b: 2}}}\n"
    )
    assert read_parameters(path) == {"map": "x.d2map", "a.b": 2}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("amcl: {ros__parameters: {map: 1}}", "has no parameters for d2vpr_localizer; expected"),
        ("a: [1, 2", "is no YAML: while parsing .*; config/localize.yaml is an example$"),
        (None, r"cannot be read \(No such file or directory\); name"),
    ],
)
def test_a_params_file_that_is_none_is_one_line(text: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=said):
        read_parameters(path)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "WARN shared memory: 512 KB for images of 0.9 MB: many are lost - in every process"),
        ({"FASTRTPS_DEFAULT_PROFILES_FILE": str(FASTDDS)}, f"OK   shared memory: by {FASTDDS}"),
        (
            {"FASTRTPS_DEFAULT_PROFILES_FILE": "no.xml"},
            "FAIL shared memory: FASTRTPS_DEFAULT_PROFILES_FILE=no.xml: cann",
        ),
        (
            {"FASTRTPS_DEFAULT_PROFILES_FILE": str(FASTDDS), "ROS_DISTRO": "kilted"},
            "WARN shared memory: 512 KB for images of 0.9 MB: many are lost - in every process that sends or receives "
            "images: export FASTDDS_DEFAULT_PROFILES_FILE=fastdds.xml",
        ),
    ],
)
def test_shared_memory_too_small_for_the_images_is_told(environment: dict[str, str], said: str) -> None:
    ros = replace(inspect_middleware("rmw_fastrtps_cpp", environment), free_bytes=None)
    first, second = map(str, machine.check_middleware(ros, "fastdds.xml", [SHOWN]))
    assert first.startswith("OK   ROS 2: ")
    assert second.startswith(said)


def test_without_ros_the_way_to_it_is_told() -> None:
    (line,) = machine.check_middleware(MiddlewareFacts(trouble="No module named 'rclpy'"), "fastdds.xml", [])
    assert str(line).startswith("FAIL ROS 2: No module named 'rclpy' - source /opt/ros/")


def test_a_gpu_that_is_not_used_is_told() -> None:
    device = DeviceFacts("", "torch 2.9.0", "cpu", 4, has_gpu=True, describe_s=0.2)
    (line,) = machine.check_device(device, 0.1)
    assert str(line).startswith("WARN device: cpu, torch 2.9.0, 4 threads: 200 ms an image; an NVIDIA GPU")
    (line,) = machine.check_device(replace(device, has_gpu=False), 0.1)
    assert str(line).endswith("200 ms an image: one image in 2.0 is answered")


def test_threads_that_wait_for_busy_cores_are_told() -> None:
    device = DeviceFacts("", "torch 2.9.0", "cpu", 4, describe_s=2.0, one_thread_s=0.1)
    (line,) = machine.check_device(device, 0.1)
    assert str(line).startswith("WARN device: cpu, torch 2.9.0, 4 threads: 2000 ms an image; with one thread 100 ms")
    assert str(line).endswith("start the localizer with OMP_NUM_THREADS=1, or free the processor")


def test_a_map_without_metres_or_pictures_is_told() -> None:
    lines = machine.check_map(MapFacts("a.d2map", places=9, metric=False, pictures=4))
    assert [str(line).partition(" - ")[0] for line in lines] == [
        "OK   map: a.d2map: 9 places, not geo-tagged: no ~/fix",
        "WARN map: no metres: ~/place_matches is published, ~/pose_prior is not",
        "WARN map: 5 places have no picture, so geometry cannot verify them",
    ]


@contextmanager
def robot() -> Iterator[None]:
    """Images stamped in 2020, an uncalibrated camera, and odometry at 5 m/s."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = Node("robot", context=context)
    images = node.create_publisher(Image, "/front/image", 10)
    infos = node.create_publisher(CameraInfo, "/front/camera_info", 10)
    odometry = node.create_publisher(Odometry, "/odom", QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT))
    receiver = node.create_publisher(NavSatFix, "/gps/fix", 10)
    stop = threading.Event()

    def publish() -> None:
        stamp_ns = 1_600_000_000_000_000_000
        data = np.random.default_rng(0).integers(0, 255, 48 * 64 * 3, np.uint8).tobytes()
        message = Odometry(child_frame_id="base_link")
        while not stop.wait(0.02):
            stamp_ns += 20_000_000
            message.pose.pose.position.x += 0.1
            header = Header(stamp=to_time(stamp_ns), frame_id="front_optical")
            images.publish(Image(header=header, height=48, width=64, encoding="rgb8", step=192, data=data))
            infos.publish(CameraInfo(header=header, width=64, height=48))
            message.header = header
            odometry.publish(message)
            receiver.publish(NavSatFix(header=header))  # 0 N 0 E with the status of a fix

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        node.destroy_node()
        context.try_shutdown()


def test_a_living_system_is_examined(tmp_path: Path, domain_id: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Its map was made by another model."""
    path = tmp_path / "site.d2map"
    write_places(path, straight_street(3), unit_rows(3, seed=1))
    with robot():
        status = d2vpr(["doctor", "--topic", "/front/image", "--map", str(path), "--seconds", "1"])
    said = capsys.readouterr().out
    assert status == 1
    for line in (
        "OK   ROS 2: ",
        "days old: a recording? - ros2 bag play --clock",
        "OK   /front/image: 64 x 48, rgb8 - image_topic:=/front/image",
        "WARN /front/camera_info: the camera is not calibrated",
        "WARN mount: ",
        "messages at 0 N 0 E, sent by receivers without a fix",
        "WARN /odom: 5.0 m/s, more than top_speed_mps (2) - set top_speed_mps:=7.5, or the robot is lost",
        f"FAIL map: map {path} was made by another model",
        "OK   map: ",
        "device: cpu",
    ):
        assert line in said, said


def test_cameras_with_names_are_examined_each(
    tmp_path: Path, domain_id: int, capsys: pytest.CaptureFixture[str]
) -> None:
    mount = "{mount: [0.0, 0.0, 1.0, -0.5, 0.5, -0.5, 0.5]}"
    path = tmp_path / "my.yaml"
    cameras = f"cameras: [front, left]\n    camera: {{front: {mount}, lefd: {mount}}}"
    path.write_text(f"d2vpr_localizer:\n  ros__parameters:\n    {cameras}\n")
    with robot():
        assert d2vpr(["doctor", "--params-file", str(path), "--seconds", "1"]) == 1
    said = capsys.readouterr().out
    for line in (
        "no parameter camera.lefd.mount - did you mean camera.left.mount?",
        "OK   /front/image: 64 x 48, rgb8",
        "OK   mount: base_link -> front_optical from camera.front.mount: [0.0, 0.0, 1.0,",
        "FAIL /left/image: no publisher",
    ):
        assert line in said, said


def test_without_a_topic_the_image_topics_are_listed(domain_id: int, capsys: pytest.CaptureFixture[str]) -> None:
    with robot():
        d2vpr(["doctor", "--seconds", "0.1"])
    said = capsys.readouterr().out
    assert "OK   images: /front/image (sensor_msgs/msg/Image) - d2vpr doctor --topic /front/image" in said


def test_a_topic_that_is_no_name_is_a_mistake_and_not_a_traceback(
    domain_id: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert d2vpr(["doctor", "--topic", "front image"]) == 2
    assert "error: 'front image' is no topic's name" in capsys.readouterr().err


def test_a_map_made_by_the_weights_at_hand_fits(tmp_path: Path) -> None:
    from d2vpr_ros.nodes.doctor_inspect import inspect_device

    extractor = Extractor.open()
    path = tmp_path / "site.d2map"
    write_places(path, straight_street(3), unit_rows(3, 1, extractor.width), extractor.identity)
    device, found = inspect_device({}, str(path))
    assert device.describe_s > 0
    assert found == MapFacts(str(path), places=3, metric=True)


def test_features_that_do_not_run_here_are_told_where_a_map_has_pictures(tmp_path: Path) -> None:
    from d2vpr_ros.nodes.doctor_inspect import inspect_map

    path = tmp_path / "town.d2map"
    write_sessions(path, ["monday"], 3)
    line = str(machine.check_map(inspect_map(str(path), None, {"features": "nowhere.onnx"}))[-1])
    assert line.startswith("FAIL features: ") and "nowhere.onnx" in line
    assert line.endswith("set features to weights that run here, or verify to never")
    assert not inspect_map(str(path), None, {"features": "nowhere.onnx", "verify": "never"}).features


def test_it_ends_cleanly_on_sigint(domain_id: int) -> None:
    command = [sys.executable, "-m", "d2vpr_ros.cli.main", "doctor", "--topic", "/nothing", "--seconds", "60"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    watcher_context = rclpy.Context()
    rclpy.init(context=watcher_context)
    watcher = Node("watcher", context=watcher_context)
    try:
        for _ in range(600):  # discovery has no event to wait for
            if "d2vpr_doctor" in watcher.get_node_names():
                break
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.1)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        watcher.destroy_node()
        watcher_context.try_shutdown()
    assert process.returncode == 130
    assert "Traceback" not in output
