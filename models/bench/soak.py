"""The localizer as a process, fed with images over DDS for a long time: does its memory grow, does it end when told to?

    python -m models.bench.soak --minutes 30 --hz 30
    python -m models.bench.soak --minutes 10 --weights nano.onnx --drive my_drive --image-topic /front/image_raw

Without --drive a drive through the simulated town is recorded and mapped first. Its images come again and again, there
and back, with stamps of now. Every 10 s the resident memory is read; the growth is the slope of a line through what
was read after the first two minutes. At the end the process gets SIGINT. Latencies are from an image's stamp to the
arrival of the answer; images that the localizer had no time for have none (the newest wins).
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import rclpy
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header

from d2vpr_ros.bags.reader import open_bag
from d2vpr_ros.cli.main import main as d2vpr
from d2vpr_ros.fields import stamp_ns
from d2vpr_ros.images.decode import decode_image
from d2vpr_ros.nodes.live_run import isolate_ros
from d2vpr_ros.nodes.messages import to_time
from d2vpr_ros.share import share_folder

EVERY_S = 10.0
WARM_S = 120.0
IMAGES = 60  # kept as messages, so that the sender costs little
EXIT_S = 30.0


@dataclass
class Sent:
    """What was sent and what came back.

    Attributes:
        memory: (seconds since the start, MB resident), every 10 s.
        answers_s, priors_s: from each answered image's stamp to the arrival of `~/place_matches` and `~/pose_prior`.
    """

    images: int = 0
    memory: list[tuple[float, float]] = field(default_factory=list)
    answers_s: list[float] = field(default_factory=list)
    priors_s: list[float] = field(default_factory=list)


class Camera(Node):
    """Publishes pictures and takes the time of the answers."""

    def __init__(self, pictures: list[bytes], height: int, width: int, sent: Sent) -> None:
        super().__init__("soak_camera")
        self._messages = [
            Image(height=height, width=width, encoding="rgb8", step=3 * width, data=picture) for picture in pictures
        ]
        self._sent = sent
        self._output = self.create_publisher(Image, "image", QoSProfile(depth=1))
        latest = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
        for kind, topic, kept in (
            (PointCloud2, "place_matches", sent.answers_s),
            (PoseWithCovarianceStamped, "pose_prior", sent.priors_s),
        ):
            self.create_subscription(kind, f"d2vpr_localizer/{topic}", self._timing(kept), latest)

    def _timing(self, kept: list[float]) -> Callable[[object], None]:
        def take(message: object) -> None:
            kept.append((self.get_clock().now().nanoseconds - stamp_ns(message.header)) * 1e-9)  # type: ignore[attr-defined]

        return take

    @property
    def listened_to(self) -> bool:
        return bool(self._output.get_subscription_count() > 0)

    def send(self) -> None:
        """The next picture, there and back along the drive."""
        count = len(self._messages)
        at = self._sent.images % (2 * count)
        message = self._messages[at if at < count else 2 * count - 1 - at]
        message.header = Header(stamp=to_time(self.get_clock().now().nanoseconds), frame_id="camera")
        self._output.publish(message)
        self._sent.images += 1


def soak(command: list[str], pictures: list[bytes], height: int, width: int, minutes: float, hz: float) -> bool:
    """Run it; whether memory stayed and the process ended."""
    sent = Sent()
    started_s = time.monotonic()
    node = subprocess.Popen(command)
    rclpy.init()
    camera, executor, stop = Camera(pictures, height, width, sent), SingleThreadedExecutor(), threading.Event()
    executor.add_node(camera)

    def spin() -> None:
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.1)

    spinning = threading.Thread(target=spin)
    spinning.start()
    try:
        while not camera.listened_to:  # discovery has no event to wait for
            if stop.wait(0.05) or node.poll() is not None:
                raise SystemExit("the localizer did not start; its reason is printed above")
        print(f"ready after {time.monotonic() - started_s:.1f} s", flush=True)
        feed(camera, node, sent, minutes, hz)
    finally:
        asked_s = time.monotonic()
        node.send_signal(signal.SIGINT)
        try:
            status = str(node.wait(EXIT_S))
        except subprocess.TimeoutExpired:
            node.kill()
            status = f"none within {EXIT_S:.0f} s: killed"
        ended_s = time.monotonic() - asked_s
        stop.set()
        spinning.join()
        rclpy.try_shutdown()
    return report(sent, minutes, hz, status, ended_s)


def feed(camera: Camera, node: subprocess.Popen[bytes], sent: Sent, minutes: float, hz: float) -> None:
    """Send at the rate, and read the memory every 10 s."""
    started_s = time.monotonic()
    read = 0
    while (now_s := time.monotonic() - started_s) < 60 * minutes and node.poll() is None:
        if now_s >= read * EVERY_S:
            sent.memory.append((now_s, resident_mb(node.pid)))
            read += 1
            if read % 6 == 1:
                print(f"{now_s / 60:5.1f} min  {sent.memory[-1][1]:7.1f} MB  {sent.images} images", flush=True)
        camera.send()
        time.sleep(max(0.0, started_s + sent.images / hz - time.monotonic()))


def report(sent: Sent, minutes: float, hz: float, status: str, ended_s: float) -> bool:
    """Print a table; whether all is well."""
    warm = [(at_s, mb) for at_s, mb in sent.memory if at_s >= min(WARM_S, 30 * minutes)]
    times_s, memory_mb = np.array(warm).T
    slope = float(np.polyfit(times_s, memory_mb, 1)[0]) * 3600 if len(warm) > 2 else float("nan")
    answered = len(sent.answers_s) / max(sent.images, 1)
    print("| minutes | input Hz | images | answered | memory MB | growth MB/h | exit | after s |")
    print("|---:|---:|---:|---:|---:|---:|---|---:|")
    print(
        f"| {minutes:g} | {hz:g} | {sent.images} | {answered:.1%} | {warm[0][1]:.1f} to {warm[-1][1]:.1f} "
        f"| {slope:+.1f} | {status} | {ended_s:.2f} |"
    )
    for name, latencies in (("place_matches", sent.answers_s), ("pose_prior", sent.priors_s)):
        if latencies:
            p50, p95 = np.percentile(latencies, [50, 95]) * 1e3
            print(f"stamp to ~/{name}: p50 {p50:.0f} ms, p95 {p95:.0f} ms ({len(latencies)})")
    return status == "0"


def resident_mb(pid: int) -> float:
    """Resident memory of a process; Linux."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--hz", type=float, default=30.0)
    parser.add_argument("--weights", default="nano", help="as the localizer's parameter")
    parser.add_argument("--drive", type=Path, help="a bag with poses (default: the simulated town)")
    parser.add_argument("--image-topic", default="/camera/image")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        isolate_ros(share_folder() / "config" / "fastdds.xml", Path(folder) / "log")
        drive, site = args.drive or Path(folder) / "drive", Path(folder) / "site.d2map"
        if args.drive is None and d2vpr(
            ["sim", "drive", "-o", str(drive), "--duration", "40", "--width", "640", "--height", "480"]
        ):
            raise SystemExit("no drive through the simulated town")
        if d2vpr(["map", "build", str(drive), "-o", str(site), "--weights", args.weights]):
            raise SystemExit("no map of the drive")
        with open_bag(drive) as bag:
            pictures = [decode_image(image) for _, _, image in bag.messages([args.image_topic])]
        height, width = pictures[0].shape[:2]
        command = [sys.executable, "-m", "d2vpr_ros.nodes.localizer", "--ros-args"]
        command += ["-p", f"map:={site}", "-p", f"weights:={args.weights}"]
        chosen = [picture.tobytes() for picture in pictures[:IMAGES]]
        raise SystemExit(0 if soak(command, chosen, height, width, args.minutes, args.hz) else 1)


if __name__ == "__main__":
    main()
