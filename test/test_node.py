"""The nodes on real DDS: images of a recorded drive in, answers out, and a clean end."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
import rclpy.serialization
from dds import own_domain
from mapped import build_map
from nav_msgs.msg import Odometry
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image, PointCloud2
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from d2vpr_ros import fields
from d2vpr_ros.bags.pose_topics import trajectory_from_bag
from d2vpr_ros.bags.reader import open_bag
from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import distance
from d2vpr_ros.mapping import read_map
from d2vpr_ros.multiview import GeometryParams
from d2vpr_ros.nodes import messages, spin
from d2vpr_ros.nodes.live_run import LiveRun, run_live
from d2vpr_ros.nodes.localizer import NEWEST_ONLY, LocalizerNode
from d2vpr_ros.nodes.outputs import LATCHED
from d2vpr_ros.nodes.player import BagPlayer, restamp
from d2vpr_ros.sim.drive import record_drive

WAIT_S = 30.0
TOWN = 7
RADIUS_M = 5.0


@pytest.fixture(scope="module")
def drives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drive at noon and its map, and a shorter one at dusk beside its track. In a smaller map nothing stands out."""
    folder = tmp_path_factory.mktemp("drives")
    record_drive(folder / "noon", TOWN, "noon", duration_s=45.0, rate_hz=2.5)
    record_drive(folder / "dusk", TOWN, "dusk", duration_s=8.0, rate_hz=2.5, lateral_offset_m=1.0, compressed=True)
    build_map(folder / "noon", folder / "town.d2map")
    return folder


@pytest.fixture(scope="module")
def run(drives: Path) -> LiveRun:
    with pytest.MonkeyPatch.context() as patch, own_domain(patch), open_bag(drives / "dusk") as bag:
        topics = ["/odom", "/camera/camera_info"]
        return run_live(bag, "/camera/image/compressed", topics, drives / "town.d2map")


def test_images_are_answered_with_their_candidates(run: LiveRun) -> None:
    assert len(run.sent_ns) == 20
    assert run.matches.keys() <= set(run.sent_ns)
    assert run.matches  # on a busy machine newer images overtake those that wait
    for points in run.matches.values():
        assert points["rank"].tolist() == list(range(len(points)))
        assert points["accepted"][1:].sum() == 0


def test_pose_priors_are_where_the_robot_was(run: LiveRun, drives: Path) -> None:
    with open_bag(drives / "dusk") as bag:
        truth = trajectory_from_bag(bag, "/ground_truth/pose")
    assert run.priors
    off_m = []
    for stamp_ns, prior in run.priors.items():
        at = truth.at(stamp_ns, max_gap_s=1.0)
        assert at is not None
        off_m.append(distance(prior.pose, at))
        assert prior.frame == "map"
        assert (np.linalg.eigvalsh(prior.covariance) > 0).all()
    assert max(off_m) < RADIUS_M and np.median(off_m) < 0.5  # the robot drives 1 m beside the places


def test_a_pose_prior_comes_with_each_accepted_match_and_with_no_other(run: LiveRun) -> None:
    accepted = {stamp_ns for stamp_ns, points in run.matches.items() if points["accepted"].any()}
    assert accepted == set(run.priors)


def test_matches_carry_the_inliers_of_landmarks(run: LiveRun) -> None:
    of_best = [points["inliers"][0] for points in run.matches.values() if points["accepted"].any()]
    assert sum(inliers >= GeometryParams().least_inliers for inliers in of_best) > len(of_best) / 2


def test_the_camera_info_beside_the_images_is_used(run: LiveRun) -> None:
    assert run.diagnostics["intrinsics"] == "camera_info"


def test_the_localizer_ends_cleanly_on_sigint(run: LiveRun) -> None:
    assert run.exit_status == 0


def localizer_process(*parameters: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "d2vpr_ros.nodes.localizer", "--ros-args"]
    command += [word for parameter in parameters for word in ("-p", parameter)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_the_localizer_ends_cleanly_on_sigterm(drives: Path, domain_id: int) -> None:
    process = localizer_process(f"map:={drives / 'town.d2map'}")
    assert process.stdout is not None
    for line in process.stdout:
        if "waiting for images" in line:
            break
    process.send_signal(signal.SIGTERM)
    rest = process.stdout.read()
    assert process.wait(WAIT_S) == 0, rest
    assert "Traceback" not in rest


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        (["map:=nowhere.d2map"], "map nowhere.d2map does not exist"),
        ([], "parameter 'map' is empty"),
        (["map:=3"], "parameter 'map' is 3; expected text"),
        (["min_images:=2.5"], "parameter 'min_images' is 2.5; expected a whole number"),
        (["min_images:=1000"], "parameter 'min_images' is 1000; expected 1 to 500"),
        (["off_map_prior:=1.0"], "parameter 'off_map_prior' is 1.0; expected 0.0 to 0.9999"),
        (["map:=x.d2map", "device:=tpu"], "parameter 'device' is 'tpu'; expected one of auto, cpu, cuda"),
        (["map:=x.d2map", "camera_mount:=[1.0]"], "parameter 'camera_mount' is [1.0]; expected seven numbers"),
        (["rubbish"], "the ROS arguments cannot be read"),
    ],
)
def test_a_wrong_parameter_ends_the_localizer_with_one_line(
    parameters: list[str],
    said: str,
    domain_id: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    words = [word for parameter in parameters for word in ("-p", parameter)]
    monkeypatch.setattr(sys, "argv", ["d2vpr_localizer", "--ros-args", *words])
    assert spin.run(LocalizerNode) == 2
    output = "".join(capfd.readouterr())
    assert said in output
    assert "Traceback" not in output


class Peer(Node):
    """Sends images to the localizer and keeps what it says."""

    def __init__(self) -> None:
        super().__init__("peer")
        self.images = self.create_publisher(Image, "image", NEWEST_ONLY)
        self.changed = threading.Condition()
        self.received: list[Any] = []

    def listen(self, kind: type, topic: str, qos: object = 10) -> None:
        self.create_subscription(kind, topic, self._take, qos)

    def _take(self, message: Any) -> None:
        with self.changed:
            self.received.append(message)
            self.changed.notify_all()

    def wait_for(self, fits: Callable[[Any], bool]) -> Any:
        """The first message that fits."""
        with self.changed:
            assert self.changed.wait_for(lambda: any(map(fits, self.received)), WAIT_S)
            return next(filter(fits, self.received))

    def send(self, encoding: str, height: int, width: int, pixel_bytes: int, stamp_s: int) -> None:
        """One image of noise."""
        noise = np.random.default_rng(stamp_s).integers(0, 255, height * width * pixel_bytes, dtype=np.uint8)
        header = Header(stamp=messages.to_time(stamp_s * 1_000_000_000), frame_id="camera")
        self.images.publish(
            Image(header=header, height=height, width=width, encoding=encoding, step=width * pixel_bytes,
                  data=noise.tobytes())
        )  # fmt: skip


@pytest.fixture
def live(drives: Path, domain_id: int) -> Iterator[tuple[LocalizerNode, Peer]]:
    """An active localizer in this process and a peer in the same DDS domain, spinning in the background."""
    rclpy.init(args=["--ros-args", "-p", f"map:={drives / 'town.d2map'}", "-p", "verify:=never"])
    node, peer = LocalizerNode(), Peer()
    node.start()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    executor.add_node(peer)
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.05)

    thread = threading.Thread(target=spin)
    thread.start()
    with peer.changed:
        assert peer.changed.wait_for(lambda: peer.images.get_subscription_count() > 0, WAIT_S)
    yield node, peer
    stop.set()
    thread.join()
    node.stop()
    node.destroy_node()
    peer.destroy_node()
    rclpy.try_shutdown()


def answers(stamp_s: int) -> Callable[[Any], bool]:
    return lambda message: isinstance(message, PointCloud2) and message.header.stamp.sec == stamp_s


def test_grey_and_16_bit_images_are_answered_and_an_empty_one_does_no_harm(live: tuple[LocalizerNode, Peer]) -> None:
    _, peer = live
    peer.listen(PointCloud2, "d2vpr_localizer/place_matches")
    for stamp_s, (encoding, height, pixel_bytes) in enumerate(
        [("mono8", 48, 1), ("mono16", 48, 2), ("rgb8", 0, 3), ("bgr8", 48, 3)], start=1
    ):
        peer.send(encoding, height, 64, pixel_bytes, stamp_s)
        if height:
            cloud = peer.wait_for(answers(stamp_s))
            assert cloud.width > 0
            assert (messages.read_cloud(cloud, messages.MATCH_POINT)["accepted"] == 0).all()


def test_match_images_are_made_when_someone_looks(live: tuple[LocalizerNode, Peer]) -> None:
    node, peer = live
    peer.listen(CompressedImage, "d2vpr_localizer/match_image/compressed")
    with peer.changed:
        assert peer.changed.wait_for(lambda: node._outputs._pictures.get_subscription_count() > 0, WAIT_S)
    peer.send("rgb8", 48, 64, 3, 1)
    picture = peer.wait_for(lambda message: isinstance(message, CompressedImage))
    assert bytes(picture.data[:3]) == b"\xff\xd8\xff"


def test_the_maps_places_are_there_for_whoever_comes_late(live: tuple[LocalizerNode, Peer], drives: Path) -> None:
    _, peer = live
    peer.listen(PointCloud2, "d2vpr_localizer/map_places", LATCHED)
    cloud = peer.wait_for(lambda message: isinstance(message, PointCloud2))
    points = messages.read_cloud(cloud, messages.PLACE_POINT)
    assert np.allclose(points["x"], read_map(drives / "town.d2map").positions[:, 0], atol=1e-3)


def test_relocalize_says_that_no_image_came_or_what_the_images_say(live: tuple[LocalizerNode, Peer]) -> None:
    _, peer = live
    peer.listen(PointCloud2, "d2vpr_localizer/place_matches")
    client = peer.create_client(Trigger, "d2vpr_localizer/relocalize")
    assert client.wait_for_service(WAIT_S)
    future = client.call_async(Trigger.Request())
    stamp_s = 0
    while not future.done():
        stamp_s += 1
        peer.send("rgb8", 48, 64, 3, stamp_s)
        peer.wait_for(answers(stamp_s))
    assert not future.result().success
    assert future.result().message.startswith(("LOST", "CANDIDATE"))


def test_a_lifecycle_manager_is_told_of_a_bad_map_by_failure(domain_id: int) -> None:
    rclpy.init(args=["--ros-args", "-p", "map:=nowhere.d2map", "-p", "autostart:=false"])
    try:
        node = LocalizerNode()
        node.start()
        assert node.trigger_configure() is TransitionCallbackReturn.FAILURE
        node.destroy_node()
    finally:
        rclpy.try_shutdown()


def test_the_player_moves_stamps_and_nothing_else(drives: Path) -> None:
    with open_bag(drives / "noon") as bag:
        _, _, _, cdr = next(bag.raw(["/odom"]))
    stamp_ns, moved = restamp(cdr, 5_500_000_000)
    original, shifted = (rclpy.serialization.deserialize_message(data, Odometry) for data in (cdr, moved))
    assert fields.stamp_ns(shifted.header) == stamp_ns + 5_500_000_000
    shifted.header.stamp = original.header.stamp
    assert shifted == original


def test_the_truth_is_never_played(drives: Path, domain_id: int) -> None:
    rclpy.init()
    try:
        with open_bag(drives / "noon") as bag, pytest.raises(UserError, match="never played"):
            BagPlayer(bag, ["/camera/image", "/ground_truth/pose"])
    finally:
        rclpy.try_shutdown()
