"""One live run: the localizer as a process of its own, a drive played to it over DDS, its answers collected."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from d2vpr_ros.bags.reader import Bag
from d2vpr_ros.errors import UserError
from d2vpr_ros.nodes.collector import Collector, ReceivedPrior
from d2vpr_ros.nodes.launching import camera_remappings
from d2vpr_ros.nodes.player import BagPlayer

_READY_TIMEOUT_S = 60.0
_LAST_ANSWERS_TIMEOUT_S = 5.0
_EXIT_TIMEOUT_S = 15.0


@dataclass(frozen=True, eq=False)
class LiveRun:
    """What a localizer said to a played drive; everything by the images' stamps as recorded, in nanoseconds.

    Attributes:
        sent_ns: the images played.
        matches: points of `~/place_matches` (dtype `messages.MATCH_POINT`).
        priors: pose priors.
        latencies_s: from an image's stamp to the arrival of its pose prior.
        diagnostics: newest values of `/diagnostics`.
        exit_status: of the localizer's process after SIGINT.
    """

    sent_ns: list[int]
    matches: dict[int, npt.NDArray[Any]]
    priors: dict[int, ReceivedPrior]
    latencies_s: dict[int, float]
    diagnostics: dict[str, str]
    exit_status: int


def run_live(
    bag: Bag,
    image_topic: str,
    other_topics: Sequence[str],
    map_path: Path,
    parameters: Sequence[str] = (),
    keep: Callable[[str, int], bool] = lambda *_: True,
    on_progress: Callable[[int], object] = lambda answered: None,
) -> LiveRun:
    """Play a bag to a freshly started localizer and collect what it answers.

    Args:
        other_topics: played beside the images; `/odom`, `/gps/fix` and the images' `camera_info` are connected to the
            localizer.
        parameters: more of the localizer's parameters, as `name:=value`.
        keep: which messages to play, by topic and number.
        on_progress: called with the number of images answered so far.

    Raises:
        UserError: the localizer does not come up; its own error stands above.
    """
    transport = "compressed" if "Compressed" in bag.topics[image_topic].msgtype else "raw"
    command = [sys.executable, "-m", "d2vpr_ros.nodes.localizer", "--ros-args"]
    for name, topic in camera_remappings((), (), image_topic, transport):
        command += ["-r", f"{name}:={topic}"]
    for parameter in (f"map:={map_path}", f"image_transport:={transport}", *parameters):
        command += ["-p", parameter]
    rclpy.init(args=[])
    try:
        collector, player = Collector(), BagPlayer(bag, [image_topic, *other_topics], keep)
        localizer = subprocess.Popen(command)
        try:
            with _spinning(collector, player):
                _wait_until_listening(player, image_topic, localizer)
                player.start()
                while not player.done.wait(0.5):
                    on_progress(len(collector.matches))
                collector.wait_for_matches(len(player.sent_ns[image_topic]), _LAST_ANSWERS_TIMEOUT_S)
                on_progress(len(collector.matches))
        finally:
            player.stop()
            localizer.send_signal(signal.SIGINT)
            exit_status = localizer.wait(_EXIT_TIMEOUT_S)
    finally:
        rclpy.try_shutdown()
    back = player.offset_ns
    return LiveRun(
        sent_ns=player.sent_ns[image_topic],
        matches={stamp - back: points for stamp, points in collector.matches.items()},
        priors={stamp - back: prior for stamp, prior in collector.priors.items()},
        latencies_s={stamp - back: (prior.received_ns - stamp) * 1e-9 for stamp, prior in collector.priors.items()},
        diagnostics=collector.diagnostics,
        exit_status=exit_status,
    )


def isolate_ros(profile: Path, log_folder: Path) -> None:
    """Keep a run on this machine to itself: local discovery, room for images in shared memory, logs in its own folder.

    Has to be called before rclpy is initialised; what the user has set stays.
    """
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    os.environ.setdefault("FASTRTPS_DEFAULT_PROFILES_FILE", str(profile))
    os.environ.setdefault("ROS_LOG_DIR", str(log_folder))


@contextmanager
def _spinning(*nodes: Node) -> Iterator[None]:
    executor = SingleThreadedExecutor()
    for node in nodes:
        executor.add_node(node)
    stopping = threading.Event()

    def spin() -> None:
        while not stopping.is_set():
            executor.spin_once(timeout_sec=0.1)

    thread = threading.Thread(target=spin, name="spin")
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
        for node in nodes:
            node.destroy_node()


def _wait_until_listening(player: BagPlayer, topic: str, localizer: subprocess.Popen[bytes]) -> None:
    """Discovery has no event to wait for, so its count is asked for while the process is watched."""
    for _ in range(int(_READY_TIMEOUT_S / 0.1)):
        if player.listeners(topic) > 0:
            return
        try:
            status = localizer.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
        raise UserError(f"the localizer did not start (exit status {status}); its reason is printed above")
    raise UserError(f"the localizer did not subscribe to {topic} within {_READY_TIMEOUT_S:.0f} s")
