"""What the localizer says to other programs, on real DDS."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from dds import own_domain
from geometry_msgs.msg import PoseWithCovarianceStamped
from live_node import ORIGIN, STREET_M, Robot, localizer, map_street, street
from nav_msgs.msg import Odometry
from sensor_msgs.msg import CameraInfo, Image, NavSatFix, NavSatStatus
from std_srvs.srv import Empty, Trigger

from d2vpr_ros.nodes import messages
from d2vpr_ros.nodes.localizer import LocalizerNode

PRIOR, FIX, INITIAL = "~/pose_prior", "~/fix", "/initialpose"
Picture = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def picture() -> Picture:
    return street()


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory, picture: Picture) -> Path:
    return map_street(tmp_path_factory.mktemp("maps") / "street.d2map", picture)


# The street is short: of twenty-odd places all that look alike lie near.
PARAMETERS = ("publish_initialpose:=when_lost_recovered", "gps_gate_least_m:=5.0", "min_probability:=0.5")


@pytest.fixture(scope="module")
def live(town: Path, picture: Picture) -> Iterator[tuple[LocalizerNode, Robot]]:
    """One localizer for the tests of this module, and a robot that has just driven down the street."""
    with (
        pytest.MonkeyPatch.context() as patch,
        own_domain(patch),
        localizer(town, picture, *PARAMETERS) as (node, robot),
    ):
        robot.listen(PoseWithCovarianceStamped, PRIOR)
        robot.listen(NavSatFix, FIX)
        robot.wait_for_publishers(PRIOR, FIX)
        answered = robot.drive()
        robot.wait_until(lambda: len(robot.received(FIX)) == len(answered))
        yield node, robot


def stamps(received: list[Any]) -> set[tuple[int, int]]:
    return {(message.header.stamp.sec, message.header.stamp.nanosec) for message in received}


def test_a_geo_tagged_map_gives_a_fix_where_the_robot_is(live: tuple[LocalizerNode, Robot]) -> None:
    _, robot = live
    known = [fix for fix in robot.received(FIX) if fix.status.status == NavSatStatus.STATUS_FIX]
    assert len(known) >= 2
    robot.wait_until(lambda: stamps(known) == stamps(robot.received(PRIOR)))
    for fix, prior in zip(known, robot.received(PRIOR), strict=True):
        east, north, up = ORIGIN.to_enu(np.array([[fix.latitude, fix.longitude, fix.altitude]]))[0]
        at = prior.pose.pose.position
        assert (east, north, up) == pytest.approx((at.x, at.y, at.z), abs=1e-3)
        assert fix.position_covariance_type == NavSatFix.COVARIANCE_TYPE_KNOWN
        assert fix.position_covariance[0] == pytest.approx(prior.pose.covariance[0])
        assert fix.header.frame_id == "base_link"


def test_a_robot_that_is_found_sets_amcl_once(live: tuple[LocalizerNode, Robot]) -> None:
    """The robot begins to listen late: what nobody heard is said when somebody does."""
    _, robot = live
    robot.listen(PoseWithCovarianceStamped, INITIAL)
    robot.drive(first_m=9, images=3)
    robot.wait_until(lambda: bool(robot.received(INITIAL)))
    way = iter(range(3, STREET_M))
    called = robot.call(Trigger, "~/relocalize", while_waiting=lambda: robot.look(next(way)))
    robot.wait_until(lambda: len(robot.received(INITIAL)) == 2)
    assert called.success and "initialpose" not in called.message
    for message in robot.received(INITIAL):
        covariance = np.array(message.pose.covariance).reshape(6, 6)
        assert (covariance == np.diag(np.diag(covariance))).all()
        assert (np.diag(covariance) > 0).all() and np.isfinite(covariance).all()
        assert (message.pose.pose.position.z, message.pose.pose.orientation.x) == (0.0, 0.0)
        assert message.header.frame_id == "map"


def test_the_reference_names_every_key_of_the_diagnostics(live: tuple[LocalizerNode, Robot]) -> None:
    _, robot = live
    robot.wait_until(lambda: bool(robot.diagnostics()))
    reference = (Path(__file__).resolve().parent.parent / "docs" / "reference.md").read_text(encoding="utf-8")
    table = reference.split("### Keys of `/diagnostics`")[1].split("### ")[0]
    assert [key for key in robot.diagnostics() if f"`{key}`" not in table] == []


def test_only_places_around_the_last_fix_are_looked_at(live: tuple[LocalizerNode, Robot]) -> None:
    _, robot = live
    latitude, longitude, altitude = ORIGIN.to_geo(np.array([[12.0, 0.0, 0.0]]))[0]
    fix = NavSatFix(header=robot.header("gps", ahead_s=1.0), latitude=latitude, longitude=longitude, altitude=altitude)
    fix.position_covariance = np.diag([1.0, 1.0, 4.0]).ravel()
    fix.position_covariance_type = NavSatFix.COVARIANCE_TYPE_DIAGONAL_KNOWN
    fix.status.status = NavSatStatus.STATUS_FIX
    robot.send(fix)
    robot.wait_until(lambda: robot.diagnostics()["gps"].startswith("within 1"))  # 5 m, and 5 m/s for a second
    robot.call(Empty, "reinitialize_global_localization")  # what was believed before stays a candidate
    matches = messages.read_cloud(robot.look(20), messages.MATCH_POINT)
    assert (abs(matches["x"] - 12.0) <= 5.0).all() and len(matches) >= 5

    fix.status.status, fix.latitude = NavSatStatus.STATUS_NO_FIX, 0.0
    robot.send(fix)
    robot.call(Empty, "reinitialize_global_localization")
    matches = messages.read_cloud(robot.look(20, after_s=10.0), messages.MATCH_POINT)
    assert abs(matches["x"] - 12.0).max() > 5.0  # the last fix is old now
    robot.wait_until(lambda: robot.diagnostics()["gps"] == "no fix")


def test_input_that_makes_no_sense_is_named(live: tuple[LocalizerNode, Robot]) -> None:
    _, robot = live
    odometry = Odometry(header=robot.header("odom"))
    odometry.pose.pose.position.x = math.nan
    odometry.pose.pose.orientation.w = 1.0
    robot.send(odometry)
    robot.wait_until(lambda: robot.diagnostics()["odometry"].startswith("not a pose: [nan"))
    robot.send(Image(header=robot.header("camera"), height=2, width=2, encoding="16SC3", data=b"1"))
    robot.wait_until(lambda: "image left out: image (16SC3)" in robot.diagnostics()["reject_reason"])
    assert robot.diagnostics()["state"] == "LOST"
    assert robot.look(5).width > 0
    assert robot.diagnostics()["mount"].startswith("as the camera of the map: ")


def test_the_cameras_intrinsics_are_taken(live: tuple[LocalizerNode, Robot]) -> None:
    node, robot = live
    answering = node._answering
    assert answering is not None
    robot.send(CameraInfo(width=160, height=120, k=[100.0, 0.0, 80.0, 0.0, 100.0, 60.0, 0.0, 0.0, 1.0]))
    robot.wait_until(lambda: answering.session.calibrations)
    assert robot.look(5).width > 0


def test_a_map_is_changed_while_images_come_in(
    live: tuple[LocalizerNode, Robot], town: Path, picture: Picture, tmp_path: Path
) -> None:
    _, robot = live
    bad = tmp_path / "bad.d2map"
    bad.write_bytes(b"not a map")
    assert robot.set_parameter("map", str(bad)) == ""
    refused = robot.call(Trigger, "~/reload_map")
    assert not refused.success
    assert refused.message.startswith("the old map stays in use: ") and "bad.d2map" in refused.message
    assert robot.look(5).width > 0

    longer = map_street(tmp_path / "longer.d2map", picture, origin=None, first_m=2)
    assert robot.set_parameter("map", str(longer)) == ""
    way = iter(range(3, STREET_M))
    taken = robot.call(Trigger, "~/reload_map", while_waiting=lambda: robot.look(next(way)))
    assert taken.success and taken.message == f"map {longer}: {STREET_M - 2} places"
    robot.drive()
    robot.wait_until(lambda: robot.diagnostics().get("places") == str(STREET_M - 2))
    assert robot.set_parameter("map", str(town)) == ""
    assert robot.call(Trigger, "~/reload_map").success


def test_as_long_as_it_is_lost_there_is_a_fix_that_says_so(live: tuple[LocalizerNode, Robot]) -> None:
    _, robot = live
    robot.call(Empty, "reinitialize_global_localization")
    header = robot.look(None).header

    def silent() -> list[NavSatFix]:
        return [fix for fix in robot.received(FIX) if fix.status.status == NavSatStatus.STATUS_NO_FIX]

    robot.wait_until(lambda: any(fix.header.stamp == header.stamp for fix in silent()))
    for fix in silent():
        assert all(math.isnan(value) for value in (fix.latitude, fix.longitude, fix.altitude))
        assert fix.position_covariance_type == NavSatFix.COVARIANCE_TYPE_UNKNOWN
    assert not stamps(silent()) & stamps(robot.received(PRIOR))
