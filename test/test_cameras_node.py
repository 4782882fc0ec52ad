"""The localizer as a process with two cameras, over real DDS; and what it says of cameras that make no sense."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rclpy
from geometry_msgs.msg import PoseWithCovarianceStamped
from live_node import SECOND, STREET_M, WAIT_S, Robot, street, view
from places import straight_street
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import Image

from d2vpr_ros.describe import Extractor
from d2vpr_ros.fields import read_pose
from d2vpr_ros.geometry import FORWARD_MOUNT, Pose, distance, turn
from d2vpr_ros.images.frame import Frame
from d2vpr_ros.localize import Localizer
from d2vpr_ros.mapping import Camera, MapHeader, Session, read_map
from d2vpr_ros.mapping.store import NewPlace, create_map
from d2vpr_ros.nodes import messages, settings, spin
from d2vpr_ros.nodes.camera_mounts import CameraMounts, FindMount
from d2vpr_ros.nodes.localizer import LocalizerNode
from d2vpr_ros.nodes.newest import Newest

Picture = npt.NDArray[np.uint8]

FRONT = Pose.of(0.3, 0.0, 1.0, *FORWARD_MOUNT.quaternion)
LEFT = Pose(np.array([0.1, 0.2, 1.0]), (Rotation.from_euler("z", 90, degrees=True) * FRONT.rotation).as_quat())
MOUNTS = (FRONT, LEFT)
NAMES = ("front", "left")


@pytest.fixture(scope="module")
def pictures() -> tuple[Picture, Picture]:
    return street(1), street(2)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory, pictures: tuple[Picture, Picture]) -> Path:
    """A street that both cameras saw, a place of each every metre."""
    return map_street(tmp_path_factory.mktemp("maps") / "town.d2map", pictures, 2)


def map_street(path: Path, pictures: tuple[Picture, Picture], cameras: int) -> Path:
    extractor = Extractor.open("nano")
    header = MapHeader(extractor.identity, extractor.width, "map", 1.0, None)
    with create_map(path, header) as writer:
        session = writer.begin_session(Session("street"))
        for name, mount, picture in list(zip(NAMES, MOUNTS, pictures, strict=True))[:cameras]:
            height, width = view(picture, 0).shape[:2]
            camera = writer.add_camera(session, Camera(name, width, height, mount))
            for metres, base in enumerate(straight_street(STREET_M)):
                descriptor = extractor.describe([view(picture, metres)])[0]
                writer.add_place(session, camera, NewPlace(metres * SECOND, base @ mount, descriptor))
    return path


def mount_parameter(name: str, mount: Pose) -> str:
    return f"camera.{name}.mount:={list(mount.numbers)}"


BOTH = ("cameras:=[front,left]", *map(mount_parameter, NAMES, MOUNTS))


@pytest.fixture
def robot(town: Path, pictures: tuple[Picture, Picture], domain_id: int) -> Iterator[Robot]:
    """A robot that spins in the background, and the localizer as a process of its own."""
    command = [sys.executable, "-m", "d2vpr_ros.nodes.localizer", "--ros-args"]
    for parameter in (f"map:={town}", "min_probability:=0.8", *BOTH):
        command += ["-p", parameter]
    rclpy.init(args=[])
    found, executor, stop = Robot(pictures[0]), SingleThreadedExecutor(), threading.Event()
    executor.add_node(found)

    def spin_on() -> None:
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.05)

    thread = threading.Thread(target=spin_on)
    thread.start()
    process = subprocess.Popen(command)
    try:
        yield found
    finally:
        process.send_signal(signal.SIGINT)
        status = process.wait(WAIT_S)
        stop.set()
        thread.join()
        found.destroy_node()
        rclpy.try_shutdown()
    assert status == 0


def image(robot: Robot, rgb: Picture) -> Image:
    height, width = rgb.shape[:2]
    header = robot.header("camera")
    return Image(header=header, height=height, width=width, encoding="rgb8", step=3 * width, data=rgb.tobytes())


def test_the_images_of_both_cameras_say_where_the_base_is(robot: Robot, pictures: tuple[Picture, Picture]) -> None:
    outputs = [robot.create_publisher(Image, f"{name}/image", 1) for name in NAMES]
    robot.listen(PoseWithCovarianceStamped, "~/pose_prior")
    robot.wait_until(lambda: all(output.get_subscription_count() > 0 for output in outputs))
    robot.wait_for_publishers("~/pose_prior", "~/place_matches")
    for metres in range(3, 25):
        robot.now_s += 1.0
        robot.odometry(Pose.planar(metres + 1.0, 0.0, 0.0), ahead_s=1.0)  # there when the image of that time comes
        camera = metres % 2
        message = image(robot, view(pictures[camera], metres))
        outputs[camera].publish(message)
        points = messages.read_cloud(robot.wait_for_answer(message.header), messages.MATCH_POINT)
        truth = Pose.planar(float(metres), 0.0, 0.0)
        if metres > 14:
            assert points["accepted"][0] and points["camera"][0] == camera
            assert np.hypot(points["x"][0] - metres, points["y"][0]) < 1.0
            assert points["place_id"][0] // (STREET_M + 1) == camera

            def prior_of(stamp: Any = message.header.stamp) -> list[Any]:
                return [one for one in robot.received("~/pose_prior") if one.header.stamp == stamp]

            robot.wait_until(lambda: bool(prior_of()))
            pose = read_pose(prior_of()[0].pose.pose)
            assert distance(pose, truth) < 1.0 and turn(pose, truth) < 0.2
    values = robot.diagnostics()
    assert values["front.mount"] == "camera.front.mount" and values["left.mount"] == "camera.left.mount"
    assert {"front.input_hz", "left.input_age_s"} <= values.keys() and "mount" not in values


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        (["cameras:=[front,front]"], "parameter 'cameras' has 'front' twice; give each camera a name of its own"),
        (
            ["cameras:=[front,'']"],
            "parameter 'cameras': a camera is named ''; expected names of letters, digits and _",
        ),
        (["cameras:=[front,a-b]"], "parameter 'cameras': a camera is named 'a-b'; expected names of letters"),
        (["cameras:=front"], "parameter 'cameras' is 'front'; expected a list of names, for example"),
        (
            [*BOTH, "camera_mount:=[0.0,0.0,0.0,0.0,0.0,0.0,1.0]"],
            "is for a camera without a name; for one of 'cameras'",
        ),
        ([*BOTH, "camera_frame:=eye"], "parameter 'camera_frame' is for one camera"),
        ([*BOTH[:2], "camera.left.mount:=[1.0]"], "parameter 'camera.left.mount' is [1.0]; expected seven numbers"),
        ([*BOTH[:2], "camera.left.mount:=7"], "parameter 'camera.left.mount' is 7; expected a list of numbers"),
    ],
)
def test_cameras_that_make_no_sense_end_the_localizer_with_one_line(
    parameters: list[str],
    said: str,
    domain_id: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    words = [word for parameter in ["map:=x.d2map", *parameters] for word in ("-p", parameter)]
    monkeypatch.setattr(sys, "argv", ["d2vpr_localizer", "--ros-args", *words])
    assert spin.run(LocalizerNode) == 2
    output = "".join(capfd.readouterr())
    assert said in output
    assert "Traceback" not in output


def test_a_second_camera_without_a_mount_fails_to_be_configured(
    town: Path, domain_id: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # where tf2 is not installed
    words = [word for parameter in (f"map:={town}", *BOTH[:2], "autostart:=false") for word in ("-p", parameter)]
    rclpy.init(args=["--ros-args", *words])
    try:
        node = LocalizerNode()
        node.start()
        assert node.trigger_configure() is TransitionCallbackReturn.FAILURE
        node.destroy_node()
    finally:
        rclpy.try_shutdown()
    said = "".join(capfd.readouterr())
    assert "parameter 'camera.left.mount' is missing: the mount of each of several cameras must be known" in said


def test_a_camera_that_sends_faster_does_not_starve_the_other() -> None:
    newest: Newest[str] = Newest()
    taken = []
    for number in range(6):
        for again in range(3):
            newest.put(f"front {number}.{again}", 0)
        if number % 2 == 0:
            newest.put(f"left {number}", 1)
        taken.append(newest.take())
    assert taken == ["front 0.2", "left 0", "front 2.2", "left 2", "front 4.2", "left 4"]


def camera_mounts(find_mount: FindMount | None, said: list[str], **mounts: Pose) -> CameraMounts:
    """As the node makes it for two cameras, of which these mounts are given."""
    values: dict[str, Any] = {parameter.name: parameter.default for parameter in settings.PARAMETERS}
    values |= {"cameras": list(NAMES)}
    values |= {f"camera.{name}.mount": list(mounts[name].numbers) if name in mounts else [0.0] for name in NAMES}
    return CameraMounts(settings.of_values(values), {}, find_mount, said.append)


def frame(camera: str) -> Frame:
    return Frame(np.zeros((48, 64, 3), np.uint8), SECOND, camera)


def test_images_wait_until_tf_says_where_each_camera_sits(town: Path) -> None:
    said: list[str] = []
    in_tf: dict[str, Pose] = {}
    mounts = camera_mounts(lambda base, camera: in_tf.get(camera), said, front=FRONT)
    localizer = Localizer(read_map(town), Extractor.open("nano"))
    assert not mounts.has_mounts(localizer, frame("front_eye"), 0.0, 0)
    assert mounts.problem == "the mount of left on base_link is unknown"
    assert not mounts.has_mounts(localizer, frame("left_eye"), 1.0, 1)
    assert not mounts.has_mounts(localizer, frame("left_eye"), 7.0, 1)
    (once,) = said
    assert once.startswith("the mount of left is unknown: tf does not know base_link -> left_eye; publish it or set")
    in_tf["left_eye"] = LEFT
    assert mounts.has_mounts(localizer, frame("left_eye"), 8.0, 1) and mounts.has_mounts(localizer, frame("x"), 8.0, 0)
    assert mounts.mounts_from == ["camera.front.mount", "tf: base_link -> left_eye"]
    found = [mount.numbers for mount in localizer.cameras.mounts if mount is not None]
    assert found == [FRONT.numbers, LEFT.numbers]


def test_the_images_of_a_camera_that_sees_nothing_of_the_map_are_left_out(
    tmp_path: Path, pictures: tuple[Picture, Picture]
) -> None:
    said: list[str] = []
    mounts = camera_mounts(None, said, front=FRONT, left=LEFT)
    localizer = Localizer(read_map(map_street(tmp_path / "front.d2map", pictures, 1)), Extractor.open("nano"))
    answered = [mounts.has_mounts(localizer, frame(NAMES[number % 2]), number, number % 2) for number in range(6)]
    assert answered == [True, False] * 3
    assert mounts.mounts_from == ["camera.front.mount", "camera.left.mount; it sees nothing of the map"]
    (once,) = said
    assert once.startswith("camera left sees what was mapped at 0% of the map's places, so its images are not answered")
