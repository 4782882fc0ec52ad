"""The map builder on real DDS: the same places as the command makes of a recording, and none lost however it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from d2vpr_ros.bags.reader import open_bag
from d2vpr_ros.bags.trajectory import PoseColumns
from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import Pose
from d2vpr_ros.mapping import PlaceMap, read_map
from d2vpr_ros.nodes import spin
from d2vpr_ros.nodes.map_builder import MapBuilderNode
from d2vpr_ros.nodes.player import BagPlayer
from d2vpr_ros.nodes.poses import PoseWindow
from d2vpr_ros.nodes.waiting import WaitingImages
from d2vpr_ros.sim.render import CAMERA_MOUNT

WAIT_S = 30.0
SECOND = 1_000_000_000
IMAGES, POSES, INFO = "/camera/image/compressed", "/slam/pose", "/camera/camera_info"
MOUNT = f"camera_mount:={list(CAMERA_MOUNT.numbers)}"
REMAP = ["-r", f"image/compressed:={IMAGES}", "-r", f"pose:={POSES}", "-r", f"camera_info:={INFO}"]


def arguments(path: Path, *parameters: str) -> list[str]:
    """What a launch file hands to the node."""
    words = ["--ros-args", *REMAP]
    for parameter in (f"map:={path}", "image_transport:=compressed", "spacing_m:=2.0", MOUNT, *parameters):
        words += ["-p", parameter]
    return words


@pytest.fixture(scope="module")
def drives(short_drive: Path) -> Path:
    return short_drive


class Peer(Node):
    """Calls the node's services and reads its diagnostics."""

    def __init__(self) -> None:
        super().__init__("peer")
        self._changed = threading.Condition()
        self._states: list[dict[str, str]] = []
        self.create_subscription(DiagnosticArray, "/diagnostics", self._take, 10)

    def _take(self, message: DiagnosticArray) -> None:
        with self._changed:
            self._states.append({item.key: item.value for item in message.status[0].values})
            self._changed.notify_all()

    def call(self, kind: Any, name: str, request: Any) -> Any:
        client = self.create_client(kind, f"/d2vpr_map_builder/{name}")
        assert client.wait_for_service(WAIT_S)
        future, done = client.call_async(request), threading.Event()
        future.add_done_callback(lambda _: done.set())
        assert done.wait(WAIT_S)
        return future.result()

    def save(self) -> Any:
        return self.call(Trigger, "save", Trigger.Request())

    def wait_until(self, true: Callable[[], bool]) -> None:
        """Asked anew with each of the node's diagnostics."""
        with self._changed:
            assert self._changed.wait_for(true, WAIT_S), self._states[-1:]

    def wait_for_state(self, fits: Callable[[dict[str, str]], bool]) -> dict[str, str]:
        self.wait_until(lambda: any(map(fits, self._states)))
        return next(filter(fits, self._states))


@contextmanager
def spinning(*nodes: Node) -> Iterator[None]:
    executor, stop = SingleThreadedExecutor(), threading.Event()
    for node in nodes:
        executor.add_node(node)

    def spin_until_stopped() -> None:
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.05)

    thread = threading.Thread(target=spin_until_stopped)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        for node in nodes:
            getattr(node, "stop", bool)()
            node.destroy_node()  # else the next test's peers would take it for the node they wait for


def play(player: BagPlayer, peer: Peer) -> None:
    """The whole drive, once somebody listens to every topic."""
    peer.wait_until(lambda: all(player.listeners(topic) for topic in (IMAGES, POSES, INFO)))
    player.start()
    assert player.done.wait(WAIT_S)


@dataclass(frozen=True)
class Live:
    """What a live build of the drive left, and what it said meanwhile."""

    place_map: PlaceMap
    offset_ns: int
    saved: str
    state: dict[str, str]


@pytest.fixture(scope="module")
def live(drives: Path) -> Iterator[Live]:
    from dds import own_domain

    path = drives / "live.d2map"
    with pytest.MonkeyPatch.context() as patch, own_domain(patch), open_bag(drives / "noon") as bag:
        rclpy.init(args=arguments(path))
        node, peer, player = MapBuilderNode(), Peer(), BagPlayer(bag, [IMAGES, POSES, INFO])
        node.start()
        with spinning(node, peer, player):
            play(player, peer)
            saved = peer.save()
            assert saved.success
            state = peer.wait_for_state(lambda state: state["places"] == str(len(read_map(path))))
        rclpy.try_shutdown()
    yield Live(read_map(path), player.offset_ns, saved.message, state)


def test_the_node_makes_the_same_places_as_the_command(live: Live, drives: Path) -> None:
    verb = read_map(drives / "verb.d2map")
    assert (live.place_map.stamps_ns - live.offset_ns).tolist() == verb.stamps_ns.tolist()
    assert len(verb) > 5
    assert np.allclose(live.place_map.positions, verb.positions, atol=1e-9)
    assert np.allclose(live.place_map.quaternions, verb.quaternions, atol=1e-9)
    assert ((live.place_map.descriptors * verb.descriptors).sum(axis=1) > 0.999).all()
    mine, theirs = (next(iter(found.camera_table.values())) for found in (live.place_map, verb))
    assert (mine.name, mine.width, mine.height, mine.k) == (theirs.name, theirs.width, theirs.height, theirs.k)
    assert np.allclose(mine.mount.numbers, theirs.mount.numbers)


def test_the_node_says_how_many_places_are_safe_and_what_it_left_out(live: Live) -> None:
    assert live.saved.startswith(f"{len(live.place_map)} places are safe in ")
    assert live.state["state"] == "MAPPING"
    assert int(live.state["left out: too close to the last place"]) > 0


def test_several_cameras_fill_one_map(drives: Path, tmp_path: Path, domain_id: int) -> None:
    """Both of them see the same pictures here, and are told where they sit."""
    path = tmp_path / "town.d2map"
    left = Pose.of(0.0, 0.5, 1.0, -(0.5**0.5), 0.0, 0.0, 0.5**0.5)
    mounts = {"front": CAMERA_MOUNT, "left": left}
    words = ["--ros-args", "-r", f"pose:={POSES}"]
    for name, mount in mounts.items():
        words += ["-r", f"{name}/image/compressed:={IMAGES}", "-r", f"{name}/camera_info:={INFO}"]
        words += ["-p", f"camera.{name}.mount:={list(mount.numbers)}"]
    for parameter in (f"map:={path}", "image_transport:=compressed", "spacing_m:=2.0", "cameras:=[front,left]"):
        words += ["-p", parameter]
    with open_bag(drives / "noon") as bag:
        rclpy.init(args=words)
        node, peer, player = MapBuilderNode(), Peer(), BagPlayer(bag, [IMAGES, POSES, INFO])
        node.start()
        with spinning(node, peer, player):
            peer.wait_until(lambda: player.listeners(IMAGES) == 2)
            play(player, peer)
            assert peer.save().success
        rclpy.try_shutdown()
    built, verb = read_map(path), read_map(drives / "verb.d2map")
    assert {camera.name: camera.mount.numbers for camera in built.camera_table.values()} == {
        name: pytest.approx(mount.numbers) for name, mount in mounts.items()
    }
    for camera, found in built.camera_table.items():
        assert found.k is not None
        bases = built.base_poses()[0][built.cameras == camera]
        assert len(bases) > 5
        if found.name == "front":
            assert np.allclose(bases, verb.base_poses()[0], atol=1e-6)


def test_a_stopped_build_is_a_whole_session(live: Live) -> None:
    (session,) = live.place_map.session_table.values()
    assert (session.name, session.complete) == ("live", True)
    assert not live.place_map.path.with_name("live.d2map-wal").exists()


def test_a_killed_node_has_lost_nothing_and_the_next_one_appends(
    drives: Path, tmp_path: Path, domain_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "town.d2map"
    command = [sys.executable, "-m", "d2vpr_ros.nodes.map_builder", *arguments(path)]
    with open_bag(drives / "noon") as bag:
        rclpy.init()
        process = subprocess.Popen(command)
        try:
            peer, player = Peer(), BagPlayer(bag, [IMAGES, POSES, INFO])
            with spinning(peer, player):
                play(player, peer)
                saved = int(peer.save().message.split()[0])
        finally:
            process.kill()
            process.wait()
            rclpy.try_shutdown()
    assert saved == len(read_map(drives / "verb.d2map"))
    assert len(read_map(path)) == saved

    rclpy.init(args=arguments(path, "append:=true"))
    node = MapBuilderNode()
    node.start()
    node.stop()
    node.destroy_node()
    rclpy.try_shutdown()
    sessions = read_map(path).session_table.values()
    assert [session.complete for session in sessions] == [False, True]


def test_a_paused_node_ignores_images(drives: Path, tmp_path: Path, domain_id: int) -> None:
    with open_bag(drives / "noon") as bag:
        rclpy.init(args=arguments(tmp_path / "town.d2map"))
        node, peer, player = MapBuilderNode(), Peer(), BagPlayer(bag, [IMAGES, POSES, INFO])
        node.start()
        with spinning(node, peer, player):
            assert peer.call(SetBool, "pause", SetBool.Request(data=True)).message == "paused"
            peer.wait_until(lambda: player.listeners(IMAGES) > 0)
            player.start()
            state = peer.wait_for_state(lambda state: state["input_hz"] != "0.0")
            assert (state["state"], state["waiting_for_pose"]) == ("PAUSED", "0")
            assert peer.save().message.startswith("0 places")
        rclpy.try_shutdown()
    assert not (tmp_path / "town.d2map").exists()


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ([], "exists already; choose another name, or add to it: --ros-args -p append"),
        (["append:=true", "map_frame:=elsewhere"], "is in the frame map, the poses are in elsewhere"),
        (["pose_source:=tf"], "tf2_ros is not installed here"),
        (["map:=''"], "parameter 'map' is empty"),
        (["spacing_m:=0.0"], "parameter 'spacing_m' is 0.0; expected"),
        (["image_range:=[5.0]"], "parameter 'image_range' is [5.0]; expected two numbers, such as [0.0, 4095.0]"),
    ],
)
def test_a_wrong_parameter_ends_the_node_with_one_line(
    parameters: list[str],
    said: str,
    drives: Path,
    domain_id: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    before = (drives / "verb.d2map").read_bytes()
    monkeypatch.setattr(sys, "argv", ["d2vpr_map_builder", *arguments(drives / "verb.d2map", *parameters)])
    assert spin.run(MapBuilderNode) == 2
    output = "".join(capfd.readouterr())
    assert said in output
    assert "Traceback" not in output
    assert (drives / "verb.d2map").read_bytes() == before


def test_poses_in_another_frame_end_the_node_with_the_way_out(
    tmp_path: Path, domain_id: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Wrong(MapBuilderNode):
        """Hears a pose of odometry as soon as it spins."""

        def start(self) -> None:
            super().start()
            message = PoseStamped()
            message.header.frame_id = "odom"
            self.create_timer(0.01, lambda: self._pose_input._take(message))

    monkeypatch.setattr(sys, "argv", ["d2vpr_map_builder", *arguments(tmp_path / "town.d2map")])
    assert spin.run(Wrong) == 2
    assert "has poses in the frame odom, the map is in map" in "".join(capfd.readouterr())


def test_odometry_of_another_frame_than_the_base_makes_no_poses(
    tmp_path: Path, domain_id: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class OfImu(MapBuilderNode):
        """Hears odometry of an IMU and of the base as soon as it spins."""

        def start(self) -> None:
            super().start()
            self.create_timer(0.01, self._hear)

        def _hear(self) -> None:
            for second, child in enumerate(("imu_link", "base_link")):
                message = Odometry(child_frame_id=child)
                message.header.frame_id, message.header.stamp.sec = "odom", second
                self._pose_input._take(message)
            poses = self._pose_input.poses
            raise UserError(f"known at {[at for at in (0, 1) if poses.at(at * SECOND, 0.0)]} s")

    monkeypatch.setattr(sys, "argv", ["d2vpr_map_builder", *arguments(tmp_path / "town.d2map", "pose_source:=odom")])
    assert spin.run(OfImu) == 2
    said = "".join(capfd.readouterr())
    assert "/odom is that of imu_link, not of base_link" in said and "known at [1] s" in said


def test_live_poses_are_interpolated_as_recorded_ones() -> None:
    draw, columns, window = np.random.default_rng(3), PoseColumns(), PoseWindow()
    stamps = np.cumsum(draw.integers(SECOND // 20, SECOND // 2, 50)) + 1_767_261_600 * SECOND
    for stamp in stamps.reshape(-1, 2)[:, ::-1].ravel().tolist():  # each pair comes the wrong way round
        pose = Pose.of(*draw.normal(size=7))
        covariance = np.diag(draw.uniform(0.1, 1.0, 6)).reshape(36)
        columns.add(stamp, pose.numbers, covariance)
        window.add(stamp, pose, covariance)
    recorded = columns.trajectory("map")
    assert recorded is not None
    for stamp in draw.integers(stamps[0] - SECOND, stamps[-1] + SECOND, 200).tolist() + stamps[:3].tolist():
        expected, found = recorded.at(stamp, 0.3), window.at(stamp, 0.3)
        assert (expected is None) == (found is None)
        if expected is not None and found is not None:
            assert found[0].numbers == pytest.approx(expected.numbers, abs=1e-12)
            assert np.array_equal(found[1], recorded.covariance_at(stamp))


def test_images_wait_for_their_pose_but_not_for_ever() -> None:
    poses, waiting = PoseWindow(), WaitingImages()
    for second in (1, 2, 3):
        stamp = SimpleNamespace(sec=second, nanosec=0)
        waiting.add(SimpleNamespace(header=SimpleNamespace(stamp=stamp), data=b"jpeg"), steady_s=second)
    poses.add(2 * SECOND, Pose.identity())

    def ready(now_s: float) -> list[int]:
        found = waiting.ready(lambda arrival: poses.is_settled(arrival.stamp_ns), now_s)
        return [arrival.stamp_ns // SECOND for arrival in found]

    assert ready(3.0) == [1, 2]
    assert ready(7.9) == []
    assert ready(8.1) == [3]


def test_the_node_ends_cleanly_on_sigterm(tmp_path: Path, domain_id: int) -> None:
    command = [sys.executable, "-m", "d2vpr_ros.nodes.map_builder", *arguments(tmp_path / "town.d2map")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "waiting for images" in line:
            break
    process.send_signal(signal.SIGTERM)
    rest = process.stdout.read()
    assert process.wait(WAIT_S) == 0, rest
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []  # a map without places is no map
