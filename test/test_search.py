"""Search is exact, can be kept to a region and to sessions, and goes on when the shared database is out of reach."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from hypothesis import given, settings
from hypothesis import strategies as st
from places import IDENTITY, unit_rows
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from d2vpr_ros.cli.main import main as d2vpr
from d2vpr_ros.describe import Extractor, ModelIdentity
from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import Pose
from d2vpr_ros.mapping import Camera, Index, MapHeader, PlaceMap, Session, read_map
from d2vpr_ros.mapping.restriction import UNRESTRICTED, Region, Restriction
from d2vpr_ros.mapping.search import LocalSearch, Search, open_search
from d2vpr_ros.mapping.store import NewPlace, create_map, open_writable
from d2vpr_ros.nodes.localizer import LocalizerNode

WAIT_S = 30.0
PLACES = 40

HAVE_MILVUS = find_spec("pymilvus") is not None and find_spec("milvus_lite") is not None
needs_milvus = pytest.mark.skipif(
    not HAVE_MILVUS,
    reason="pymilvus and milvus-lite are not installed; install them: pip install -r requirements/milvus.txt",
)
if HAVE_MILVUS:
    from milvus_lite.adapter.grpc.server import start_server_in_thread
    from pymilvus import MilvusClient

    from d2vpr_ros.mapping.milvus_push import push_map
    from d2vpr_ros.mapping.milvus_search import MilvusPlaces, expression, open_places
    from d2vpr_ros.mapping.shared_search import SharedSearch


def two_drives(path: Path, model: ModelIdentity = IDENTITY, seed: int = 1, width: int = 64) -> PlaceMap:
    """A street driven twice, 1 m between places: session 1 along y = 0, session 2 along y = 3."""
    descriptors = iter(unit_rows(PLACES, seed, width))
    with create_map(path, MapHeader(model, width, "map", 1.0)) as writer:
        for y in (0.0, 3.0):
            session = writer.begin_session(Session(f"y {y:g}"))
            camera = writer.add_camera(session, Camera("front", 6, 4, Pose.identity()))
            for x in range(PLACES // 2):
                stamp_ns = seed * 10**12 + writer.stored * 10**9
                writer.add_place(session, camera, NewPlace(stamp_ns, Pose.planar(float(x), y, 0.0), next(descriptors)))
    return read_map(path)


@pytest.fixture
def place_map(tmp_path: Path) -> PlaceMap:
    return two_drives(tmp_path / "street.d2map")


# In memory


@given(seed=st.integers(0, 1000), k=st.integers(1, 40), count=st.integers(0, 30), queries=st.integers(1, 3))
def test_a_search_among_some_rows_finds_what_a_direct_comparison_finds_there(
    seed: int, k: int, count: int, queries: int
) -> None:
    places, asked = unit_rows(30, seed), unit_rows(queries, seed + 1)
    among = np.random.default_rng(seed).permutation(30)[:count].astype(np.int64)
    similarities, rows = Index.of(places).search(asked, k, among)
    direct = asked @ places[among].T
    best = np.argsort(-direct, axis=1)[:, :k]
    assert rows.shape == (queries, min(k, count))
    assert np.array_equal(rows, among[best])
    assert np.allclose(similarities, np.take_along_axis(direct, best, axis=1), atol=1e-5)


@settings(max_examples=10, deadline=None)
@given(count=st.sampled_from([2_000, 20_500]), k=st.integers(1, 300), restricted=st.booleans())
def test_one_query_spread_over_threads_finds_what_many_at_once_find(count: int, k: int, restricted: bool) -> None:
    index, asked = large_index(count), unit_rows(2, seed=8, width=520)
    among = np.arange(0, count, 3) if restricted else None
    together = index.search(asked, k, among)
    with patch("d2vpr_ros.mapping.index._SPLIT_FROM", 1):  # however few
        alone = [index.search(asked[row : row + 1], k, among) for row in range(2)]
    for at_once, one_by_one in zip(together, zip(*alone, strict=True), strict=True):
        assert np.array_equal(at_once, np.concatenate(one_by_one))


def test_an_index_that_grew_is_the_one_that_was_made_at_once() -> None:
    places, asked = unit_rows(6_000, seed=1), unit_rows(5, seed=2)
    grown = Index.of(places[:4_990])
    for first in range(4_990, 5_020):  # past 5000 it goes over to half precision
        grown.add(places[first : first + 1])
    grown.add(places[5_020:])
    for ours, theirs in zip(grown.search(asked, 20), Index.of(places).search(asked, 20), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@cache
def large_index(count: int) -> Index:
    return Index.of(unit_rows(count, seed=7, width=520))


def test_a_region_is_a_circle_on_the_ground(place_map: PlaceMap) -> None:
    rows = Restriction(Region(x=5.0, y=0.0, radius_m=3.0)).rows(place_map)
    assert rows is not None
    assert place_map.positions[rows][:, :2].tolist() == [[x, 0.0] for x in range(2, 9)] + [[5.0, 3.0]]


def test_a_restriction_to_sessions_and_a_region_holds_to_both(place_map: PlaceMap) -> None:
    restriction = Restriction(Region(x=0.0, y=0.0, radius_m=4.0), frozenset({2}))
    rows = restriction.rows(place_map)
    assert rows is not None
    assert place_map.positions[rows][:, 0].tolist() == [0.0, 1.0, 2.0]
    assert set(place_map.sessions[rows]) == {2}
    assert UNRESTRICTED.rows(place_map) is None


@pytest.mark.parametrize("numbers", [(float("nan"), 0.0, 1.0), (0.0, float("inf"), 1.0), (0.0, 0.0, -1.0)])
def test_a_region_of_impossible_numbers_is_refused(numbers: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="not a region"):
        Region(*numbers)


def test_local_search_gives_fewer_places_where_fewer_are_allowed(place_map: PlaceMap) -> None:
    search = LocalSearch(place_map)
    similarities, rows = search.nearest(place_map.descriptors[25], 10, Restriction(Region(0.0, 0.0, 1.0)))
    assert sorted(rows.tolist()) == [0, 1]
    assert len(similarities) == 2
    assert search.nearest(place_map.descriptors[25], 10, Restriction(sessions=frozenset()))[1].tolist() == []
    assert search.nearest(place_map.descriptors[25], 1)[1].tolist() == [25]


def test_milvus_is_needed_by_nothing_that_does_not_ask_for_it() -> None:
    program = (
        "import sys; sys.modules['pymilvus'] = None\n"
        "import d2vpr_ros.localize\n"
        "from d2vpr_ros.errors import UserError\n"
        "try:\n    import d2vpr_ros.mapping.milvus\n"
        "except UserError as error:\n    print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "Milvus needs a package that is not installed (pymilvus); install it: pip install" in result.stdout


# In Milvus


class Server:
    """Milvus Lite as a server on a port of this machine, which can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, 0
        self.start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        self._server, self._database, self._port = start_server_in_thread(str(self._folder), port=self._port)

    def stop(self) -> None:
        self._server.stop(grace=0).wait()
        self._database.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "milvus")
    yield server
    server.stop()


@pytest.fixture
def opened() -> Iterator[list[Search]]:
    """Searches to close at the end."""
    searches: list[Search] = []
    yield searches
    for search in searches:
        search.close()


def fail(line: str) -> None:
    raise AssertionError(line)


@needs_milvus
def test_a_collection_finds_what_the_map_finds(tmp_path: Path, place_map: PlaceMap, opened: list[Search]) -> None:
    uri = str(tmp_path / "fleet.db")
    assert push_map(place_map, uri, "street") == 0
    local, shared = LocalSearch(place_map), open_search(uri, "", place_map, fail)
    opened.append(shared)
    assert shared.status == "milvus"
    regions = (None, Region(5.0, 0.0, 3.0), Region(1000.0, 0.0, 3.0))
    for region in regions:
        for sessions in (None, frozenset({2}), frozenset({1, 2}), frozenset({7}), frozenset[int]()):
            restriction = Restriction(region, sessions)
            for k in (1, 5, 100):
                similarities, rows = shared.nearest(place_map.descriptors[25], k, restriction)
                expected = local.nearest(place_map.descriptors[25], k, restriction)
                assert np.array_equal(rows, expected[1])
                assert np.allclose(similarities, expected[0], atol=1e-6)


@needs_milvus
def test_uploading_again_makes_the_collection_what_the_map_is_now(tmp_path: Path, place_map: PlaceMap) -> None:
    uri = str(tmp_path / "fleet.db")
    push_map(place_map, uri, "street")
    with open_writable(place_map.path) as writer:
        writer.add_place(2, 2, NewPlace(5, Pose.planar(90.0, 3.0, 0.0), unit_rows(1, seed=5)[0]))
        for table, column in (("descriptors", "place"), ("places", "id")):
            writer.connection.execute(f"DELETE FROM {table} WHERE {column} <= 15")
    changed = read_map(place_map.path)
    assert push_map(changed, uri, "street") == 15
    assert push_map(changed, uri, "street") == 0
    places = open_places(uri, "street", changed)
    assert sorted(places.nearest(changed.descriptors[0], 100)[1].tolist()) == list(range(PLACES - 15 + 1))
    places.close()
    older = open_places(uri, "street", place_map)  # a robot that has not got the new map yet
    assert sorted(older.nearest(changed.descriptors[-1], 100)[1].tolist()) == list(range(15, PLACES))
    older.close()


@needs_milvus
def test_a_collection_of_something_else_is_refused(tmp_path: Path, place_map: PlaceMap) -> None:
    uri = str(tmp_path / "fleet.db")
    push_map(place_map, uri, "street")
    client = MilvusClient(uri)
    client.create_collection("theirs", dimension=64)
    client.close()
    small = ModelIdentity("small", "0" * 64, "preprocessing", "")
    refusals = {
        "street": [
            (two_drives(tmp_path / "other.d2map", seed=2), "holds another map than"),
            (two_drives(tmp_path / "small.d2map", small), "architecture 'nano' against 'small'"),
            (two_drives(tmp_path / "wide.d2map", width=96), "numbers 64 against 96"),
        ],
        "theirs": [(place_map, "was not made by `d2vpr map push`")],
    }
    for collection, maps in refusals.items():
        for other, why in maps:
            attempts: tuple[Callable[..., Any], ...] = (
                lambda other, name: push_map(other, uri, name),
                lambda other, name: open_places(uri, name, other),
            )
            for attempt in attempts:
                with pytest.raises(UserError, match=why):
                    attempt(other, collection)


@needs_milvus
def test_what_is_asked_for_and_not_there_is_named(tmp_path: Path, server: Server, place_map: PlaceMap) -> None:
    for backend, collection, why in (
        (server.uri, "", "has no collection street; upload the map: d2vpr map push"),
        (server.uri, "x; drop", "'x; drop' cannot be a collection's name"),
        (str(tmp_path / "no.db"), "", "does not exist; make it: d2vpr map push"),
        ("qdrant", "", "parameter 'search_backend' is 'qdrant'; expected faiss, http://host:19530"),
        ("http://me:secret@host:19530", "", "'host:19530'; expected faiss"),
    ):
        with pytest.raises(UserError, match=why):
            open_search(backend, collection, place_map, fail)


@needs_milvus
def test_a_lost_connection_leaves_the_robot_on_its_own_map_until_milvus_is_back(
    server: Server, place_map: PlaceMap, opened: list[Search]
) -> None:
    push_map(place_map, server.uri, "street")
    said: list[str] = []
    back = threading.Event()

    def say(line: str) -> None:
        said.append(line)
        if line.startswith("Milvus answers again"):
            back.set()

    def connect() -> MilvusPlaces:
        return open_places(server.uri, "street", place_map)

    search = SharedSearch(LocalSearch(place_map), connect, say, retry_s=0.05)
    opened.append(search)
    query = place_map.descriptors[25]
    assert search.status == "milvus"
    before = search.nearest(query, 5)
    server.stop()
    lost = [search.nearest(query, 5) for _ in range(3)]
    assert search.status.startswith("local (milvus lost: ")
    assert len(said) == 1
    assert "the map in memory is searched until it answers again" in said[0]
    server.start()
    assert back.wait(WAIT_S)
    assert search.status == "milvus"
    assert len(said) == 2
    for similarities, rows in [*lost, search.nearest(query, 5)]:
        assert np.array_equal(rows, before[1])
        assert np.allclose(similarities, before[0], atol=1e-6)


@needs_milvus
def test_the_localizer_searches_there_and_says_in_diagnostics_when_it_no_longer_does(
    tmp_path: Path, server: Server, domain_id: int
) -> None:
    extractor = Extractor.open("nano")
    place_map = two_drives(tmp_path / "street.d2map", extractor.identity, width=extractor.width)
    push_map(place_map, server.uri, "town")
    said: list[str] = []

    def listen(message: DiagnosticArray) -> None:
        said.extend(pair.value for pair in message.status[0].values if pair.key == "search_backend")

    parameters = [f"map:={place_map.path}", f"search_backend:={server.uri}", "search_collection:=town"]
    rclpy.init(args=["--ros-args", *(word for parameter in parameters for word in ("-p", parameter))])
    node, peer = LocalizerNode(), rclpy.create_node("peer", use_global_arguments=False)
    executor = SingleThreadedExecutor()
    try:
        node.start()
        peer.create_subscription(DiagnosticArray, "/diagnostics", listen, 10)
        images = peer.create_publisher(Image, "image", 1)

        def show() -> None:
            now = peer.get_clock().now().to_msg()
            images.publish(Image(header=Header(stamp=now), height=6, width=4, step=12, encoding="rgb8", data=PIXELS))

        peer.create_timer(0.2, show)  # no faster: the database answers from this very process
        executor.add_node(node)
        executor.add_node(peer)

        def spin_until(beginning: str) -> None:
            deadline_s = time.monotonic() + WAIT_S
            while not (said and said[-1].startswith(beginning)):
                assert time.monotonic() < deadline_s, said
                executor.spin_once(timeout_sec=0.1)

        spin_until("milvus")
        server.stop()
        spin_until("local (milvus lost: ")
        server.start()
    finally:
        node.stop()
        node.destroy_node()
        peer.destroy_node()
        rclpy.try_shutdown()


PIXELS = bytes(range(72))


@needs_milvus
def test_a_server_that_accepts_and_is_silent_is_given_up(place_map: PlaceMap, opened: list[Search]) -> None:
    said: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        search = open_search(f"http://127.0.0.1:{silent.getsockname()[1]}", "street", place_map, said.append)
        opened.append(search)
        assert search.nearest(place_map.descriptors[25], 1)[1].tolist() == [25]
    assert search.status.startswith("local (milvus lost: ")
    assert len(said) == 1


@needs_milvus
def test_map_push_says_what_it_did_and_how_to_search_there(
    tmp_path: Path, place_map: PlaceMap, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = str(tmp_path / "fleet.db")
    assert d2vpr(["map", "push", str(place_map.path), "--to", uri]) == 0
    said, noise = capsys.readouterr()
    assert "Traceback" not in noise
    assert f"collection street holds the {PLACES} places" in said
    assert f"search_backend:={uri} -p search_collection:=street" in said
    with socket.create_server(("127.0.0.1", 0)) as closed:
        refusing = f"http://127.0.0.1:{closed.getsockname()[1]}"
    for target, why in (
        ("fleet.sqlite", "--to fleet.sqlite: expected http://host:19530"),
        (refusing, "not be uploaded"),
    ):
        assert d2vpr(["map", "push", str(place_map.path), "--to", target]) == 2
        assert why in capsys.readouterr().err


@needs_milvus
def test_a_filter_is_made_of_numbers_only() -> None:
    restriction = Restriction(Region(np.float64(0.0), 0.0, np.float64(1.0)), frozenset({np.int64(3), 1}))
    box = "x >= -1.001 and x <= 1.001 and y >= -1.001 and y <= 1.001"
    assert expression(restriction) == f"{box} and session in [1, 3]"
    assert expression(UNRESTRICTED) == ""
