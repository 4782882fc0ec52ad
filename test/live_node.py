"""A localizer and a robot on real DDS, in a street that is one long picture: cheap to start for a few messages."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry
from places import straight_street
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image, NavSatFix, PointCloud2
from std_msgs.msg import Header

from d2vpr_ros.describe import Extractor
from d2vpr_ros.geodesy import LocalFrame
from d2vpr_ros.geometry import FORWARD_MOUNT, Pose
from d2vpr_ros.mapping import Camera, MapHeader, Session
from d2vpr_ros.mapping.picture import encode_picture
from d2vpr_ros.mapping.store import NewPlace, create_map
from d2vpr_ros.nodes import messages
from d2vpr_ros.nodes.localizer import LocalizerNode

WAIT_S = 30.0
SECOND = 1_000_000_000
STREET_M = 30
ORIGIN = LocalFrame(48.7758, 9.1829, 245.0)
_HEIGHT, _WIDTH, _PIXELS_A_METRE = 120, 160, 20


def street(seed: int = 1) -> npt.NDArray[np.uint8]:
    """(H, W, 3) RGB: rectangles of every size and colour."""
    rng = np.random.default_rng(seed)
    wide = (STREET_M + 1) * _PIXELS_A_METRE + _WIDTH
    picture = np.full((_HEIGHT, wide, 3), 128, np.uint8)
    for _ in range(600):
        x, y, w, h = (int(v) for v in rng.integers([-20, -20, 4, 4], [wide, _HEIGHT, 60, 60]))
        colour = [int(v) for v in rng.integers(0, 255, 3)]
        cv2.rectangle(picture, (x, y), (x + w, y + h), colour, -1)
    return picture


def view(picture: npt.NDArray[np.uint8], metres: float) -> npt.NDArray[np.uint8]:
    """What the camera sees so far down the street."""
    left = round(_PIXELS_A_METRE * metres)
    return np.ascontiguousarray(picture[:, left : left + _WIDTH])


def map_street(
    path: Path,
    picture: npt.NDArray[np.uint8],
    origin: LocalFrame | None = ORIGIN,
    first_m: int = 0,
    *,
    pictures: bool = False,
) -> Path:
    """A map with a place every metre along the x axis, geo-tagged if it has an origin, and with pictures if asked."""
    extractor = Extractor.open("nano")
    header = MapHeader(extractor.identity, extractor.width, "map", 1.0, origin, geo_tagged=origin is not None)
    with create_map(path, header) as writer:
        session = writer.begin_session(Session("street"))
        camera = writer.add_camera(session, Camera("front", _WIDTH, _HEIGHT, FORWARD_MOUNT))
        for metres, base in list(enumerate(straight_street(STREET_M)))[first_m:]:
            descriptor = extractor.describe([view(picture, metres)])[0]
            pose = base @ FORWARD_MOUNT
            geo = tuple(origin.to_geo(pose.position[None])[0].tolist()) if origin else None
            jpeg = encode_picture(view(picture, metres)) if pictures else None
            writer.add_place(session, camera, NewPlace(metres * SECOND, pose, descriptor, jpeg, geo=geo))
    return path


class Robot(Node):
    """Drives down the street with stamps of its own time, a second a metre, and keeps what the localizer says.

    Its time is years from the localizer's clock, so that ages count from arrival and no test depends on its own speed.
    """

    def __init__(self, picture: npt.NDArray[np.uint8]) -> None:
        super().__init__("robot")
        self._picture = picture
        self.now_s = 1_000_000.0
        self._changed = threading.Condition()
        self._received: dict[str, list[Any]] = {}
        self._outputs = {
            kind: self.create_publisher(kind, topic, 10)
            for kind, topic in (
                (Image, "image"), (Odometry, "odom"), (NavSatFix, "gps/fix"), (CameraInfo, "camera_info"),
            )
        }  # fmt: skip
        self.listen(PointCloud2, "~/place_matches")
        self.listen(DiagnosticArray, "/diagnostics")

    def listen(self, kind: type, topic: str, qos: object = 10) -> None:
        """Keep what comes on a topic; ~ is the localizer."""
        self._received[topic] = []
        self.create_subscription(kind, topic.replace("~", "d2vpr_localizer"), partial(self._take, topic), qos)

    def _take(self, topic: str, message: Any) -> None:
        with self._changed:
            self._received[topic].append(message)
            self._changed.notify_all()

    def received(self, topic: str) -> list[Any]:
        with self._changed:
            return list(self._received[topic])

    def wait_until(self, is_true: Callable[[], bool], poll_s: float = WAIT_S) -> None:
        """Asked anew with each message received, and so often for what no message tells."""
        end_s = time.monotonic() + WAIT_S
        with self._changed:
            while not self._changed.wait_for(is_true, poll_s):
                assert time.monotonic() < end_s, self.diagnostics()

    def wait_for_listeners(self, kind: type = Image) -> None:
        self.wait_until(lambda: self._outputs[kind].get_subscription_count() > 0)

    def wait_for_publishers(self, *topics: str) -> None:
        """Until discovery has brought together what is listened to and who says it."""
        names = [topic.replace("~", "/d2vpr_localizer") for topic in topics]
        self.wait_until(lambda: all(self.count_publishers(name) > 0 for name in names))

    def set_parameter(self, name: str, value: object) -> str:
        """As `ros2 param set` does; why it is refused, empty if it is not."""
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        result = self.call(SetParameters, "~/set_parameters", request=request).results[0]
        assert result.successful != bool(result.reason)
        return str(result.reason)

    def call(
        self, kind: Any, service: str, while_waiting: Callable[[], object] | None = None, request: Any = None
    ) -> Any:
        """The response of a service; what is done meanwhile is done again and again."""
        client = self.create_client(kind, service.replace("~", "d2vpr_localizer"))
        assert client.wait_for_service(WAIT_S)
        future, done = client.call_async(request or kind.Request()), threading.Event()
        future.add_done_callback(lambda _: done.set())
        while while_waiting is not None and not done.is_set():
            while_waiting()
        assert done.wait(WAIT_S)
        return future.result()

    def diagnostics(self) -> dict[str, str]:
        """The newest values; empty before the first."""
        arrays = self.received("/diagnostics")
        return {item.key: item.value for item in arrays[-1].status[0].values} if arrays else {}

    def header(self, frame: str, ahead_s: float = 0.0) -> Header:
        return Header(stamp=messages.to_time(round((self.now_s + ahead_s) * SECOND)), frame_id=frame)

    def send(self, message: Any) -> None:
        self._outputs[type(message)].publish(message)

    def look(self, metres: float | None, after_s: float = 1.0) -> Any:
        """Show what is to be seen there, or noise for None; the answer's `~/place_matches`."""
        self.now_s += after_s
        noise = np.random.default_rng(int(self.now_s)).integers(0, 255, (_HEIGHT, _WIDTH, 3), dtype=np.uint8)
        rgb = noise if metres is None else view(self._picture, metres)
        header = self.header("camera")
        self.send(Image(header=header, height=_HEIGHT, width=_WIDTH, encoding="rgb8", step=3 * _WIDTH,
                        data=rgb.tobytes()))  # fmt: skip
        return self.wait_for_answer(header)

    def wait_for_answer(self, header: Header) -> Any:
        def answers() -> list[Any]:
            return [cloud for cloud in self.received("~/place_matches") if cloud.header.stamp == header.stamp]

        self.wait_until(lambda: bool(answers()))
        return answers()[0]

    def odometry(self, pose: Pose, ahead_s: float = 0.0) -> None:
        message = Odometry(header=self.header("odom", ahead_s), child_frame_id="base_link")
        at, turned = message.pose.pose.position, message.pose.pose.orientation
        at.x, at.y, at.z, turned.x, turned.y, turned.z, turned.w = pose.numbers
        self.send(message)

    def drive(self, first_m: int = 3, images: int = 6) -> list[Any]:
        """Down the street; the answers."""
        return [self.look(metres) for metres in range(first_m, first_m + images)]


@contextmanager
def localizer(
    map_path: Path, picture: npt.NDArray[np.uint8], *parameters: str, arguments: Sequence[str] = ()
) -> Iterator[tuple[LocalizerNode, Robot]]:
    """Both in this process, spinning in the background.

    Args:
        parameters: more of the localizer's, as `name:=value`.
        arguments: more of ROS's, for both.
    """
    words: Sequence[str] = (f"map:={map_path}", "min_probability:=0.8", "top_speed_mps:=5.0", *parameters)
    rclpy.init(args=["--ros-args", *arguments, *(word for parameter in words for word in ("-p", parameter))])
    node, robot = LocalizerNode(), Robot(picture)
    executor, stop = SingleThreadedExecutor(), threading.Event()

    def spin() -> None:
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.05)

    thread = threading.Thread(target=spin)
    try:
        node.start()
        executor.add_node(node)
        executor.add_node(robot)
        thread.start()
        robot.wait_for_listeners()
        yield node, robot
    finally:
        stop.set()
        if thread.ident is not None:
            thread.join()
        node.stop()
        node.destroy_node()
        robot.destroy_node()
        rclpy.try_shutdown()
