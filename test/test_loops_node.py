"""Loops closed while the robot drives, on real DDS: the same closures and poses as the command finds."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Path as PathMessage
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Float64MultiArray
from test_map_builder_node import IMAGES, INFO, MOUNT, Peer, spinning
from visualization_msgs.msg import Marker, MarkerArray

from d2vpr_ros.bags.messages import make_header, make_pose
from d2vpr_ros.bags.pose_topics import trajectory_from_bag
from d2vpr_ros.bags.reader import Bag, open_bag
from d2vpr_ros.bags.writer import BagWriter
from d2vpr_ros.cli.main import main as d2vpr
from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import Pose, distance
from d2vpr_ros.loops.closure import KINDS, Closure
from d2vpr_ros.mapping import PlaceMap, read_map
from d2vpr_ros.mapping.database import connect
from d2vpr_ros.mapping.loop_table import read_closures
from d2vpr_ros.nodes import loop_messages
from d2vpr_ros.nodes.map_builder import MapBuilderNode
from d2vpr_ros.nodes.messages import read_cloud
from d2vpr_ros.nodes.outputs import LATCHED
from d2vpr_ros.nodes.player import BagPlayer
from d2vpr_ros.sim.drive import ODOM, TRUTH, record_drive
from d2vpr_ros.sim.routes import length, loops
from d2vpr_ros.sim.town import build_town

SPACING, SPEED_MPS = 3.0, 20.0
PATIENCE_S = 300.0
REMAP = ("-r", f"image/compressed:={IMAGES}", "-r", f"odom:={ODOM}", "-r", f"camera_info:={INFO}")


def arguments(path: Path, *parameters: str) -> list[str]:
    words = ["--ros-args", *REMAP]
    for parameter in (
        f"map:={path}", "image_transport:=compressed", "pose_source:=odom", f"spacing_m:={SPACING}", MOUNT,
        "close_loops:=true", "optimize_s:=0.5", *parameters,
    ):  # fmt: skip
        words += ["-p", parameter]
    return words


class Listener(Peer):
    """Also keeps what the node says of loops."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: dict[str, list[Any]] = {}
        for kind, name, qos in (
            (PoseWithCovarianceStamped, "loop_closure", 10), (Float64MultiArray, "loop_stamps", 10),
            (PointCloud2, "loop_closures", LATCHED), (PathMessage, "path", LATCHED), (MarkerArray, "markers", 1),
        ):  # fmt: skip
            kept = self.heard.setdefault(name, [])
            self.create_subscription(kind, f"/d2vpr_map_builder/{name}", kept.append, qos)

    def wait_patiently(self, true: Callable[[], bool]) -> None:
        """As `wait_until`, for what takes seconds of computing."""
        with self._changed:
            assert self._changed.wait_for(true, PATIENCE_S), self._states[-1:]


@dataclass(frozen=True)
class Both:
    """The map of the node, with what it said, and the command's."""

    live: PlaceMap
    verb: PlaceMap
    heard: dict[str, list[Any]]
    offset_ns: int
    saved: str


@contextmanager
def playing(bag: Bag, path: Path) -> Iterator[tuple[Listener, BagPlayer]]:
    """A drive played to a node that builds a map of it and closes its loops."""
    rclpy.init(args=arguments(path))
    node, peer, player = MapBuilderNode(), Listener(), BagPlayer(bag, [IMAGES, ODOM, INFO])
    node.start()
    with spinning(node, peer, player):
        peer.wait_until(lambda: all(player.listeners(topic) for topic in (IMAGES, ODOM, INFO)))
        player.start()
        yield peer, player
    rclpy.try_shutdown()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """A drive once round the smallest block of a town and on along 50 m that it knows, with odometry alone."""
    from dds import own_domain

    folder = tmp_path_factory.mktemp("loop")
    way = min(loops(build_town(7)), key=length)
    speed = {"speed_mps": SPEED_MPS, "rate_hz": SPEED_MPS / SPACING * 0.99}
    record_drive(folder / "drive", 7, way=way, laps=1.25, compressed=True, **speed)
    words = ["evaluate-loops", str(folder / "drive"), "-o", str(folder / "verb.d2map"), "--spacing", str(SPACING)]
    for option, name in (("--json", "loops.json"), ("--csv", "closures.csv"), ("--page", "loops.html")):
        words += [option, str(folder / name)]
    assert d2vpr(words) == 0  # builds and closes as `map build --close-loops` does
    path = folder / "live.d2map"
    with (
        pytest.MonkeyPatch.context() as patch,
        own_domain(patch),
        open_bag(folder / "drive") as bag,
        playing(bag, path) as (peer, player),
    ):
        # Else `save` would wait for what closes loops, on a busy machine longer than a caller does.
        peer.wait_patiently(lambda: path_length(peer) == places(folder / "verb.d2map"))
        saved = peer.save()
        assert saved.success, saved.message
        peer.wait_patiently(lambda: path_length(peer) == places(path))
    yield Both(read_map(path), read_map(folder / "verb.d2map"), peer.heard, player.offset_ns, saved.message)


def places(path: Path) -> int:
    return len(read_map(path))


def path_length(peer: Listener) -> int:
    return len(peer.heard["path"][-1].poses) if peer.heard["path"] else -1


def closures_of(place_map: PlaceMap) -> list[Closure]:
    with connect(place_map.path) as connection:
        return list(read_closures(connection, place_map.path))


def test_the_node_finds_the_closures_of_the_command(both: Both) -> None:
    live, verb = closures_of(both.live), closures_of(both.verb)
    assert len(live) > 3
    assert [(one.old, one.new, one.kind, one.run) for one in live] == [
        (one.old, one.new, one.kind, one.run) for one in verb
    ]
    for mine, theirs in zip(live, verb, strict=True):
        assert np.allclose(mine.pose.numbers, theirs.pose.numbers, atol=1e-3)


def test_the_map_that_it_saves_is_corrected_as_the_commands(both: Both) -> None:
    assert (both.live.stamps_ns - both.offset_ns).tolist() == both.verb.stamps_ns.tolist()
    assert np.allclose(both.live.positions, both.verb.positions, atol=1e-2)
    assert both.live.header.frame == "map"
    graph = both.live.path.with_suffix(".g2o").read_text(encoding="utf-8")
    assert graph.count("VERTEX_SE3:QUAT") == len(both.live)
    assert graph.count("EDGE_SE3:QUAT") == len(both.live) - 1 + len(closures_of(both.live))


def test_each_closure_is_published_once_with_the_stamps_of_both_images(both: Both) -> None:
    stamps = dict(zip(both.live.ids.tolist(), both.live.stamps_ns.tolist(), strict=True))
    closures = closures_of(both.live)
    assert len(both.heard["loop_closure"]) == len(both.heard["loop_stamps"]) == len(closures)
    for closure, message, pair in zip(closures, both.heard["loop_closure"], both.heard["loop_stamps"], strict=True):
        name, _, old = message.header.frame_id.partition("@")
        seconds, _, rest = old.partition(".")
        assert name == "base_link" and len(rest) == 9
        assert int(seconds) * 10**9 + int(rest) == stamps[closure.old]
        assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == stamps[closure.new]
        assert message.pose.pose.position.x == pytest.approx(closure.pose.position[0])
        assert np.allclose(message.pose.covariance, closure.covariance.ravel())
        assert list(pair.data) == pytest.approx([1e-9 * stamps[closure.new], 1e-9 * stamps[closure.old]], abs=1e-6)


def test_the_cloud_the_path_and_the_markers_show_the_corrected_drive(both: Both) -> None:
    points = read_cloud(both.heard["loop_closures"][-1], loop_messages.CLOSURE_POINT)
    closures = closures_of(both.live)
    assert points["old_id"].tolist() == [one.old for one in closures]
    assert points["accepted"].all() and {KINDS[kind] for kind in points["kind"]} == {one.kind for one in closures}
    path = both.heard["path"][-1]
    assert path.header.frame_id == "map"
    positions = [[one.pose.position.x, one.pose.position.y, one.pose.position.z] for one in path.poses]
    assert np.allclose(positions, both.live.base_poses()[0][: len(positions)], atol=1e-3)
    lines = both.heard["markers"][-1].markers[0]
    assert lines.type == Marker.LINE_LIST and len(lines.points) == 2 * len(closures)


def test_the_command_finds_the_visit_and_says_what_it_was_worth(both: Both) -> None:
    folder = both.verb.path.parent
    numbers = json.loads((folder / "loops.json").read_text(encoding="utf-8"))
    assert (numbers["visits"], numbers["visits_found"], numbers["wrong_closures"]) == (1, 1, 0)
    assert numbers["long_visits"] == 1 and numbers["revisited_closed"] > 0.85
    assert numbers["closure_error_m"] < 0.1 and numbers["revisit_error_p95_m"] < 0.2
    assert numbers["trajectory_error_after_m"] < 0.6 * numbers["trajectory_error_before_m"]
    with (folder / "closures.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(int(row["old_place"]), int(row["new_place"])) for row in rows] == [
        (one.old, one.new) for one in closures_of(both.verb)
    ]
    assert all(row["right"] == row["kept"] == "1" for row in rows)
    page = (folder / "loops.html").read_text(encoding="utf-8")
    assert "1 of 1 visits found, 0 of" in page and page.count("<polyline") == 3


def test_the_node_finds_itself_in_its_own_map_where_the_odometry_broke_off(
    both: Both, tmp_path: Path, domain_id: int
) -> None:
    """The first 120 m, then the second lap with odometry that begins anew at its zero."""
    whole, lap_s = both.verb.path.parent / "drive", length(min(loops(build_town(7)), key=length)) / SPEED_MPS
    broken_off(whole, tmp_path / "broken", 6.0, lap_s)
    path = tmp_path / "live.d2map"
    with open_bag(tmp_path / "broken") as bag:
        truth = trajectory_from_bag(bag, TRUTH)
        with playing(bag, path) as (peer, player):
            assert player.done.wait(PATIENCE_S)
            peer.wait_patiently(lambda: len(peer.heard["loop_closure"]) > 2)
            saved = peer.save()
            assert saved.success, saved.message
            peer.wait_patiently(lambda: path_length(peer) == places(path))
    found = read_map(path)
    assert len(found) > 50
    true = [truth.at(int(stamp) - player.offset_ns, 1.0) for stamp in found.stamps_ns]
    for row, pose in enumerate(true):
        assert true[0] is not None and pose is not None
        assert distance(found.base_pose(0).inverse() @ found.base_pose(row), true[0].inverse() @ pose) < 0.5
    assert np.allclose(
        [[one.pose.position.x, one.pose.position.y] for one in peer.heard["path"][-1].poses],
        found.base_poses()[0][:, :2], atol=1e-3,
    )  # fmt: skip


def broken_off(whole: Path, out: Path, until_s: float, again_s: float) -> None:
    """A bag of two parts of a drive, one right after the other; the odometry of the second begins at zero."""
    zero: Pose | None = None
    with open_bag(whole) as bag, BagWriter(out) as writer:
        for topic, recorded_ns, message in bag.messages([IMAGES, INFO, ODOM, TRUTH]):
            seconds = 1e-9 * (recorded_ns - bag.start_ns)
            if until_s <= seconds < again_s:
                continue
            stamp_ns = recorded_ns - (round(1e9 * (again_s - until_s - 0.2)) if seconds >= again_s else 0)
            if topic == ODOM and seconds >= again_s:
                at, turned = message.pose.pose.position, message.pose.pose.orientation
                pose = Pose.of(at.x, at.y, at.z, turned.x, turned.y, turned.z, turned.w)
                zero = zero or pose.inverse()
                message = replace(message, pose=replace(message.pose, pose=make_pose(zero @ pose)))
            writer.write(topic, stamp_ns, replace(message, header=make_header(stamp_ns, message.header.frame_id)))


def test_closing_and_its_transform_are_refused_where_they_cannot_be(tmp_path: Path, domain_id: int) -> None:
    for parameters, message in (
        (("pose_source:=gps",), "'close_loops' is true and 'pose_source' is gps"),
        (("publish_tf:=true",), "'publish_tf' is true, but tf2_msgs is not installed here"),
    ):
        rclpy.init(args=arguments(tmp_path / "town.d2map", *parameters))
        node = MapBuilderNode()
        with pytest.raises(UserError, match=message):
            node.start()
        node.destroy_node()
        rclpy.try_shutdown()


def test_a_refused_closure_is_red() -> None:
    ends = {1: np.zeros(3), 2: np.ones(3)}
    kept, refused = (
        Closure(1, 2, Pose.identity(), np.eye(6), "metric", 0.99, 30, run=1, weight=weight) for weight in (1.0, 0.0)
    )
    lines = loop_messages.markers([kept, refused], ends, 0, "map").markers[0]
    assert [colour.r > colour.g for colour in lines.colors] == [False, False, True, True]
