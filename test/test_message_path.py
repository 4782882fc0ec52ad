"""Messages with any content, through what the callbacks and the worker do with them: no exception, a sound belief."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nav_msgs.msg import Odometry
from places import alike_along_the_way, straight_street, write_places, write_sessions
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, NavSatFix

from d2vpr_ros.describe import Extractor
from d2vpr_ros.errors import UserError
from d2vpr_ros.geodesy import LocalFrame
from d2vpr_ros.geometry import FORWARD_MOUNT, Pose
from d2vpr_ros.images.decode import PIXEL_BYTES, read_frame
from d2vpr_ros.localize import Estimate, Localizer, Match, RejectReason, State
from d2vpr_ros.localize.gps import GpsGate
from d2vpr_ros.localize.session import Arrival, LocalizerSession, SessionOptions
from d2vpr_ros.mapping.earth import Earth
from d2vpr_ros.nodes import messages
from d2vpr_ros.nodes import settings as node_settings
from d2vpr_ros.nodes.camera_mounts import CameraMounts
from d2vpr_ros.nodes.loading import Loaded, some_pictures
from d2vpr_ros.nodes.side_inputs import SideInputs

SECOND = 1_000_000_000
NOW_S = 1_000
GATE = GpsGate(5.0, 30.0, 2.0)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    extractor = Extractor.open("nano")
    descriptors = alike_along_the_way(20, seed=4, width=extractor.width)
    path = tmp_path_factory.mktemp("maps") / "m.d2map"
    place_map = write_places(path, straight_street(20), descriptors, extractor.identity)
    return Loaded(Localizer(place_map, extractor), Earth(LocalFrame(48.0, 9.0, 200.0), Pose.identity(), 1.0))


def begin(loaded: Loaded, said: list[str] | None = None) -> LocalizerSession:
    """As the node does; what it says of its inputs goes into the list."""
    loaded.localizer.reset()
    say = [].append if said is None else said.append
    return LocalizerSession(loaded.localizer, loaded.earth, SessionOptions(GATE, 1.0, GATE.top_speed_mps), 1, say)


def at(now_s: float, steady_s: float = 0.0) -> Arrival:
    """An image that came in just now."""
    return Arrival(steady_s, steady_s, round(now_s * SECOND))


def test_a_precision_is_tried_on_pictures_from_all_over_the_map(tmp_path: Path, loaded: Loaded) -> None:
    place_map = write_sessions(tmp_path / "town.d2map", ["monday", "tuesday"], 20)
    levels = [int(picture.mean()) for picture in some_pictures(place_map) or []]
    assert len(levels) == 16
    assert (levels[0], levels[-1]) == (0, 20 * 19 % 256)  # the first place and the last
    assert some_pictures(loaded.localizer.map) is None  # it holds none


numbers = st.one_of(
    st.floats(width=64), st.floats(-100.0, 100.0), st.sampled_from([0.0, 1e300, -1e300, 1e-300, float("inf")])
)
texts = st.one_of(st.sampled_from(["", "map", "/odom", "base_link"]), st.text(max_size=8))
near_now = st.integers(NOW_S - 2, NOW_S + 2)
seconds = st.one_of(near_now, near_now, st.integers(-(2**31), 2**31 - 1))


def stamped(draw: Any, message: Any) -> Any:
    message.header.stamp.sec = draw(seconds)
    message.header.stamp.nanosec = draw(st.integers(0, 2**32 - 1))  # a message may carry more than a second
    message.header.frame_id = draw(texts)
    return message


@st.composite
def odometries(draw: Any) -> Odometry:
    message = stamped(draw, Odometry())
    position, turned = message.pose.pose.position, message.pose.pose.orientation
    position.x, position.y, position.z = (draw(numbers) for _ in range(3))
    if draw(st.booleans()):
        turned.x, turned.y, turned.z, turned.w = (draw(numbers) for _ in range(4))
    message.child_frame_id = draw(texts)
    return message


@st.composite
def fixes(draw: Any) -> NavSatFix:
    message = stamped(draw, NavSatFix())
    message.status.status = draw(st.integers(-128, 127))
    message.latitude, message.longitude, message.altitude = (draw(numbers) for _ in range(3))
    message.position_covariance = np.array([draw(numbers) for _ in range(9)])
    message.position_covariance_type = draw(st.integers(0, 255))
    return message


@st.composite
def camera_infos(draw: Any) -> CameraInfo:
    message = stamped(draw, CameraInfo())
    message.width, message.height = draw(st.integers(0, 2**32 - 1)), draw(st.integers(0, 2**32 - 1))
    message.k = np.array([draw(numbers) for _ in range(9)])
    message.p = np.array([draw(numbers) for _ in range(12)])
    message.d = draw(st.lists(numbers, max_size=5))
    message.distortion_model = draw(texts)
    return message


@st.composite
def images(draw: Any) -> Image:
    """Half of them agree with themselves."""
    message = stamped(draw, Image())
    message.encoding = draw(st.one_of(st.sampled_from(sorted(PIXEL_BYTES)), st.text(max_size=8)))
    message.height, message.width = draw(st.integers(0, 9)), draw(st.integers(0, 9))
    message.step = message.width * PIXEL_BYTES.get(message.encoding, 1)
    message.is_bigendian = draw(st.integers(0, 1))
    size = message.step * message.height
    if draw(st.booleans()):
        size = draw(st.integers(0, 300))
        message.height, message.width, message.step = (draw(st.integers(0, 2**32 - 1)) for _ in range(3))
    message.data = draw(st.binary(min_size=size, max_size=size))
    return message


@st.composite
def compressed_images(draw: Any) -> CompressedImage:
    message = stamped(draw, CompressedImage())
    message.format = draw(texts)
    message.data = draw(st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"])) + draw(st.binary(max_size=40))
    return message


events = st.lists(
    st.one_of(odometries(), odometries(), fixes(), camera_infos(), images(), images(), compressed_images()), max_size=8
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(received=events)
def test_no_message_breaks_the_localizer(loaded: Loaded, received: list[Any]) -> None:
    session = begin(loaded)
    inputs = SideInputs(session)
    for number, sent in enumerate(received):
        message = deserialize_message(serialize_message(sent), type(sent))
        now_s = float(number)
        if isinstance(message, Odometry):
            inputs.take_odometry(message, now_s)
        elif isinstance(message, NavSatFix):
            inputs.take_fix(message)
        elif isinstance(message, CameraInfo):
            inputs.take_camera_info(message, "/camera/image_rect")
        else:
            try:
                frame = read_frame(message)
            except UserError as error:
                assert "\n" not in str(error)
                continue
            check(session.answer(frame, arrival=at(NOW_S, now_s)))
        image_ns = None if number % 2 else NOW_S * SECOND
        assert inputs.odometry_status(image_ns, now_s) and session.gps_status(None)


def check(estimate: Estimate) -> None:
    """Whatever was believed, it is a distribution over places of the map."""
    assert 0.0 <= estimate.probability <= 1.0
    assert all(np.isfinite([match.belief, match.similarity]).all() for match in estimate.matches)
    if estimate.standing is not None:
        standing = estimate.standing
        assert np.isfinite([standing.mass, standing.rival, standing.off_map, standing.fit, standing.images]).all()
        assert np.isfinite(standing.position).all() and np.isfinite(standing.real)
        assert standing.mass + standing.off_map <= 1.0 + 1e-6
    if estimate.pose is not None:
        assert np.isfinite(estimate.pose.numbers).all()


def test_an_encoding_that_would_forge_a_line_of_the_log_is_escaped() -> None:
    image = Image(height=1, width=1, encoding="rgb8\n[ERROR] all is lost" + 200 * "!", data=b"123")
    with pytest.raises(
        UserError, match=r"^image \(rgb8\\n\[ERROR\] all is lost!+\.\.\.\): unknown image encoding"
    ) as caught:
        read_frame(image)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def frame_at(stamp_s: float) -> Any:
    message = Image(height=4, width=4, step=4, encoding="mono8", data=bytes(range(16)))
    message.header.stamp.sec, message.header.stamp.nanosec = int(stamp_s), int(stamp_s % 1 * SECOND)
    return read_frame(message)


def test_an_image_from_the_future_is_named_and_not_looked_at(loaded: Loaded) -> None:
    session = begin(loaded)
    ages = [0.0, 3.0, -3.0, 0.5]
    estimates = [session.answer(frame_at(NOW_S + age), arrival=at(NOW_S)) for age in ages]
    assert [estimate.reject_reason is RejectReason.STALE_IMAGE for estimate in estimates] == [False, True, True, False]
    session.answer(frame_at(NOW_S + 3), arrival=at(NOW_S))
    assert session.problem == "stale image: its stamp is 3.0 s in the future by this node's clock"
    assert session.age_s == -3.0


def test_a_recording_that_starts_again_with_its_clock_starts_the_belief_anew(loaded: Loaded) -> None:
    said: list[str] = []
    session = begin(loaded, said)
    clock = itertools.chain([0], range(500, 505), range(500, 505))  # before /clock has begun, and two times round
    states = [session.answer(frame_at(s or 500), arrival=at(s)).state for s in clock]
    assert State.LOCALIZED not in states
    assert said == ["the images' stamps jumped back: starting anew"]


def test_a_mount_that_tf_does_not_know_is_named_once(loaded: Loaded) -> None:
    said: list[str] = []
    values = {parameter.name: parameter.default for parameter in node_settings.PARAMETERS} | {"camera_frame": "left"}
    asked: list[tuple[str, str]] = []

    def find_mount(base: str, camera: str) -> None:
        asked.append((base, camera))

    mounts = CameraMounts(node_settings.of_values(values), {}, find_mount, said.append)
    for second in range(10):
        assert mounts.has_mounts(loaded.localizer, frame_at(NOW_S + second), float(second))
    assert mounts.mounts_from[0] == "as the camera of the map: tf does not know base_link -> left"
    assert len(said) == 1 and mounts.mounts_from[0] in said[0]
    assert set(asked) == {("base_link", "left")} and len(asked) == 10  # it may come to be known yet


def test_odometry_after_a_jump_says_nothing_of_the_motion_to_it(loaded: Loaded) -> None:
    session = begin(loaded)
    inputs = SideInputs(session)
    for number, x in enumerate([0.0, 0.1, 0.2, 50.0, 50.1]):
        message = Odometry()
        message.header.stamp.sec, message.header.stamp.nanosec = NOW_S, number * 100_000_000
        message.pose.pose.position.x = x
        inputs.take_odometry(message, float(number))
        if number == 1:
            assert session.odometry_at(NOW_S * SECOND) is not None
    assert inputs.odometry_status(None, 4.0) == "jumped by 49.8 m and 0.0 rad in 0.10 s"
    assert inputs.odometry_status(None, 9.0) == "ok"
    assert session.odometry_at(NOW_S * SECOND + SECOND // 2) is None
    assert session.odometry_at(NOW_S * SECOND + SECOND // 2) is not None
    late = NOW_S * SECOND + 4 * SECOND
    assert inputs.odometry_status(late, 9.0) == "stale: the newest is 3.6 s older than the image"


@given(st.lists(st.floats(-1.0, 1.0), min_size=36, max_size=36), st.floats(1.0, 20.0))
def test_a_prior_stays_a_covariance_where_a_filter_in_two_dimensions_cuts_height_and_tilt_out(
    numbers: list[float], inflation: float
) -> None:
    factor = np.array(numbers).reshape(6, 6) + 0.01 * np.eye(6)
    covariance = factor @ factor.T + 1e-6 * np.eye(6)
    estimate = Estimate(0, State.LOCALIZED, RejectReason.NONE, (), 0.99, pose=Pose.identity(), covariance=covariance)
    published = messages.pose_prior(estimate, "map", inflation).pose.covariance.reshape(6, 6)
    ground = np.ix_([0, 1, 5], [0, 1, 5])
    assert np.allclose(published[ground], inflation * covariance[ground])
    assert np.allclose(published.diagonal(), inflation * covariance.diagonal())
    published[[2, 3, 4], [2, 3, 4]] = 1e-6  # as robot_localization does in two_d_mode; it keeps the other elements
    assert np.linalg.eigvalsh(published).min() > 0
    assert np.allclose(estimate.covariance, factor @ factor.T + 1e-6 * np.eye(6))  # its own is as it was


def test_candidates_are_published_where_the_base_would_be(loaded: Loaded) -> None:
    place_map, mast = loaded.localizer.map, Pose.of(0.5, 0.1, 1.2, *FORWARD_MOUNT.quaternion)
    matches = tuple(Match(rank, row, 0.9 - rank / 10, 0.1, rank == 0) for rank, row in enumerate([7, 3, 12]))
    estimate = Estimate(5 * SECOND, State.CANDIDATE, RejectReason.AMBIGUOUS, matches, 0.4)
    for mount in (None, mast):
        points = messages.read_cloud(messages.place_matches(estimate, place_map, mount, "map"), messages.MATCH_POINT)
        expected = [place_map.base_pose(match.row, mount).position for match in matches]
        assert np.allclose(np.stack([points["x"], points["y"], points["z"]], axis=1), expected, atol=1e-4)
    assert points["place_id"].tolist() == place_map.ids[[7, 3, 12]].tolist()
    assert points["stamp_sec"].tolist() == [7, 3, 12]
    assert points["rank"].tolist() == [0, 1, 2] and points["accepted"].tolist() == [1, 0, 0]
    assert messages.place_matches(replace(estimate, matches=()), place_map, None, "map").width == 0


def test_a_robot_that_drives_faster_than_it_is_said_to_is_told_once(loaded: Loaded) -> None:
    said: list[str] = []
    inputs = SideInputs(begin(loaded, said))
    for number in range(40):
        message = Odometry()
        message.header.stamp.sec, message.header.stamp.nanosec = NOW_S + number // 10, number % 10 * 100_000_000
        message.pose.pose.position.x = 0.1 * number if number < 20 else 2.0 + 0.32 * (number - 20)
        inputs.take_odometry(message, float(number))
        if number < 20:
            assert inputs.odometry_status(None, float(number)) == "ok"
    assert inputs.odometry_status(None, 40.0).startswith(
        "ok; has driven 3.2 m/s, more than top_speed_mps (2): set that"
    )
    assert len(said) == 1
