"""A session: odometry that begins anew, GPS, time and loss are handled alike, live and with recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from live_node import SECOND, Robot, localizer, map_street, street, view
from places import WIDTH, Describes, alike_along_the_way, straight_street, unit_rows, write_places
from sensor_msgs.msg import Image

from d2vpr_ros.bags.drive import open_drive
from d2vpr_ros.bags.reader import open_bag
from d2vpr_ros.bags.writer import BagWriter
from d2vpr_ros.describe import Extractor
from d2vpr_ros.evaluation.offline import answer_drive, describe_drive
from d2vpr_ros.fields import read_pose
from d2vpr_ros.geometry import Pose, distance
from d2vpr_ros.images.frame import Frame
from d2vpr_ros.localize import Acceptance, Estimate, Localizer, LocalizerOptions, State
from d2vpr_ros.localize.odometry import MotionBuffer
from d2vpr_ros.localize.session import LocalizerSession, inflation
from d2vpr_ros.mapping import read_map
from d2vpr_ros.nodes import messages
from d2vpr_ros.nodes.localizer import LocalizerNode

LONG_M = 200
BLACK = np.zeros((8, 8, 3), np.uint8)


@pytest.fixture
def session(tmp_path: Path) -> LocalizerSession:
    """In a street of 200 m, a place a metre."""
    looks = alike_along_the_way(LONG_M, seed=4, width=WIDTH)
    return LocalizerSession(Localizer(write_places(tmp_path / "m.d2map", straight_street(LONG_M), looks), Describes()))


def drive(
    session: LocalizerSession, rows: range, first_s: float, *, zero: float | None = 0.0, missed: int = 0
) -> list[Estimate]:
    """A metre and a second an image.

    Args:
        zero: where on the street the odometry is zero; None without odometry.
        missed: so many of its first messages are not heard.
    """
    looks = session.localizer.map.descriptors[list(rows)] + 0.7 * unit_rows(len(rows), seed=rows.start)
    looks /= np.linalg.norm(looks, axis=1, keepdims=True)
    answers = []
    for number, (row, look) in enumerate(zip(rows, looks, strict=True)):
        stamp = round((first_s + number) * SECOND)
        for tenth in range(-9, 1):
            if zero is not None and (number > 0 or tenth == 0) and number >= missed:
                moved = Pose.planar(row - zero + tenth / 10, 0.0, 0.0)
                session.take_odometry(stamp + tenth * SECOND // 10, moved, 0.0)
        answers.append(session.answer(Frame(BLACK, stamp, "front"), 0, look))
    return answers


def anew(estimates: list[Estimate]) -> int:
    return sum(one.anew for one in estimates)


def wrong(estimates: list[Estimate], rows: range) -> int:
    poses = [(one.pose, row) for one, row in zip(estimates, rows, strict=True) if one.pose is not None]
    return sum(distance(pose, Pose.planar(float(row), 0.0, 0.0)) > 5.0 for pose, row in poses)


def test_only_the_first_answer_is_new_to_whoever_listens(session: LocalizerSession) -> None:
    estimates = drive(session, range(10, 40), 0.0)
    assert anew(estimates) == 1
    first = next(one for one in estimates if one.pose is not None)
    assert first.anew


def test_answers_near_one_another_are_to_be_trusted_less_by_a_filter(session: LocalizerSession) -> None:
    answers = [one for one in drive(session, range(10, 30), 0.0) if one.pose is not None]
    correlated_m = session.localizer.params.correlated_spacings * session.localizer.spacing_m
    assert answers[0].inflation == 1.0
    assert len(answers) > 15
    assert all(one.inflation == pytest.approx(1 / np.tanh(0.5 / correlated_m), rel=0.25) for one in answers[1:])
    assert inflation(0.0) == 1e4 and inflation(np.inf) == 1.0


@pytest.mark.parametrize("step", [0.05, 0.2, 1.0, 4.0])
def test_a_filter_fed_with_inflated_covariances_knows_how_exact_it_is(step: float) -> None:
    """Answers whose errors are alike over one length; a filter takes the mean of 400 of them for independent."""
    random, rho, runs = np.random.default_rng(0), np.exp(-step), 2000
    error = random.normal(size=runs)
    total, weight = error.copy(), 1.0
    for _ in range(400):
        error = rho * error + np.sqrt(1 - rho**2) * random.normal(size=runs)
        total, weight = total + error / inflation(step), weight + 1 / inflation(step)
    within = np.abs(total / weight) <= 2 / np.sqrt(weight)
    assert 0.92 <= within.mean() <= 0.98


@pytest.mark.parametrize("missed", [0, 1, 2])
@pytest.mark.parametrize("pause_s", [2.0, 10.0, 40.0])
def test_a_robot_carried_while_its_odometry_starts_again_is_never_told_wrong_and_then_told_anew(
    session: LocalizerSession, pause_s: float, missed: int
) -> None:
    """The first messages after the pause are missed, as while nodes find each other: zero itself is not heard."""
    before = drive(session, range(20, 60), 0.0, zero=20.0)
    assert before[-1].pose is not None
    rows = range(100, 140)
    after = drive(session, rows, 40.0 + pause_s, zero=100.0, missed=missed)
    assert session.motion.epoch == 1
    assert wrong(after, rows) == 0
    assert after[-1].pose is not None and anew(after) == 1


def test_a_gap_in_the_odometry_of_a_robot_that_drives_on_is_no_new_beginning(session: LocalizerSession) -> None:
    drive(session, range(20, 60), 0.0)
    rows = range(62, 80)
    after = drive(session, rows, 42.0)
    assert session.motion.epoch == 0 and wrong(after, rows) == 0
    assert anew(after) == 0


def test_a_robot_carried_while_its_odometry_goes_on_is_told_anew_however_soon_it_is_found(
    session: LocalizerSession,
) -> None:
    drive(session, range(20, 60), 0.0)
    rows = range(130, 170)
    after = drive(session, rows, 40.0, zero=70.0)
    assert session.motion.epoch == 0 and wrong(after, rows) == 0
    assert after[-1].pose is not None and anew(after) == 1


def test_after_being_lost_time_that_begins_anew_and_a_request_answers_are_new(session: LocalizerSession) -> None:
    drive(session, range(20, 50), 100.0)
    assert anew(drive(session, range(20, 50), 0.0)) == 1, "time began anew"
    session.forget()
    assert anew(drive(session, range(50, 80), 30.0)) == 1
    noise = unit_rows(60, seed=5)
    lost = [session.answer(Frame(BLACK, (60 + n) * SECOND, "front"), 0, one) for n, one in enumerate(noise)]
    assert State.LOST in {one.state for one in lost}
    assert anew(drive(session, range(92, 120), 130.0)) == 1


def motion_of(node: LocalizerNode) -> MotionBuffer:
    assert node._answering is not None
    return node._answering.session.motion


def record(path: Path, picture: npt.NDArray[np.uint8]) -> Path:
    """Down the street, then further on, where the odometry has started again and its zero was not heard."""
    ways = [(float(metres), metres - 2.0) for metres in range(3, 14)]
    ways += [(float(metres), metres - 21.5) for metres in range(22, 30)]
    with BagWriter(path) as bag:
        for number, (metres, x) in enumerate(ways):
            stamp = (1_000_000 + number + 2 * (metres >= 22)) * SECOND
            bag.odometry("/odom", stamp, "odom", "base_link", Pose.planar(x, 0.0, 0.0))
            bag.image("/camera/image", stamp, view(picture, metres), "camera")
    return path


def play(path: Path, node: LocalizerNode, robot: Robot) -> list[Any]:
    """What the live node answers to each image, as rows of `~/place_matches`."""
    answers = []
    with open_bag(path) as bag:
        for topic, stamp, message in bag.messages(["/odom", "/camera/image"]):
            robot.now_s = stamp / SECOND
            if topic == "/odom":
                robot.odometry(read_pose(message.pose.pose))
                robot.wait_until(lambda at=stamp: motion_of(node).at(at) is not None, poll_s=0.02)  # type: ignore[misc]
                continue
            header, size = robot.header("camera"), {"height": message.height, "width": message.width}
            robot.send(Image(header=header, encoding="rgb8", step=message.step, data=message.data.tobytes(), **size))
            answers.append(messages.read_cloud(robot.wait_for_answer(header), messages.MATCH_POINT))
    return answers


def test_a_bag_played_to_the_live_node_and_put_to_a_localizer_gets_the_same_answers(
    tmp_path: Path, domain_id: int
) -> None:
    picture = street(1)
    map_path, bag_path = map_street(tmp_path / "street.d2map", picture), record(tmp_path / "drive", picture)
    with localizer(map_path, picture) as (node, robot):
        live, epoch = play(bag_path, node, robot), motion_of(node).epoch

    extractor = Extractor.open("nano")
    options = LocalizerOptions(top_speed_mps=5.0, acceptance=Acceptance(0.8))
    offline = Localizer(read_map(map_path), extractor, options)
    with open_bag(bag_path) as bag:
        images = describe_drive(open_drive(bag, with_poses=False), "/odom", extractor)
        said = [one.estimate for one in answer_drive(offline, images, lambda camera, estimate: None, "drive")]

    accepted = [one.state is State.LOCALIZED for one in said]
    assert [bool(points["accepted"][0]) for points in live] == accepted
    assert any(accepted[:11]) and any(accepted[11:]) and epoch == 1
    for points, one in zip(live, said, strict=True):
        assert points["probability"][0] == pytest.approx(one.probability, abs=1e-6)
        assert points["place_id"].tolist() == [offline.map.ids[match.row] for match in one.matches]
