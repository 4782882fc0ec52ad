"""What the localizer says only where it is told to, on real DDS: map -> odom, and the initial pose on request."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseWithCovarianceStamped, TransformStamped
from live_node import STREET_M, localizer, map_street, street
from std_srvs.srv import SetBool, Trigger

from d2vpr_ros.errors import UserError
from d2vpr_ros.fields import read_transform
from d2vpr_ros.geometry import Pose, distance
from d2vpr_ros.nodes.outputs import LATCHED

Picture = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def picture() -> Picture:
    return street()


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory, picture: Picture) -> Path:
    return map_street(tmp_path_factory.mktemp("maps") / "street.d2map", picture)


def test_tf_needs_tf2_and_says_so(town: Path, picture: Picture, domain_id: int) -> None:
    if importlib.util.find_spec("tf2_msgs") is not None:
        pytest.skip("tf2_msgs is installed")
    with pytest.raises(UserError, match="could not be configured"), localizer(town, picture, "publish_tf:=true"):
        pass


def test_tf_corrects_the_odometry_until_somebody_else_does(town: Path, picture: Picture, domain_id: int) -> None:
    tf2_msgs = pytest.importorskip("tf2_msgs.msg", reason="tf2_msgs comes with a ROS installation, and none is here")
    with localizer(town, picture, "publish_tf:=true") as (_, robot):
        robot.listen(tf2_msgs.TFMessage, "/tf", 100)
        truth = Pose.planar(4.0, 5.0, 1.0)
        for metres in range(3, STREET_M - 5):
            # A step ahead, so that it is there when the image of that time comes.
            robot.odometry(truth.inverse() @ Pose.planar(metres + 1.0, 0.0, 0.0), ahead_s=2.0)
            robot.look(metres)
        robot.wait_until(lambda: bool(robot.received("/tf")))  # it listens for others first
        stamped = robot.received("/tf")[-1].transforms[0]
        assert (stamped.header.frame_id, stamped.child_frame_id) == ("map", "odom")
        assert distance(read_transform(stamped.transform), truth) < 3.0

        rival = TransformStamped(header=robot.header("odom_map"), child_frame_id="odom")
        publisher = robot.create_publisher(tf2_msgs.TFMessage, "/tf", 100)
        publisher.publish(tf2_msgs.TFMessage(transforms=[rival]))
        robot.wait_until(
            lambda: robot.diagnostics()["tf"].startswith("refused: /tf already has odom_map -> odom, from one of /")
        )
        assert robot.received("/diagnostics")[-1].status[0].level == DiagnosticStatus.ERROR


def test_a_static_transform_is_somebody_else_too(town: Path, picture: Picture, domain_id: int) -> None:
    tf2_msgs = pytest.importorskip("tf2_msgs.msg", reason="tf2_msgs comes with a ROS installation, and none is here")
    with localizer(town, picture, "publish_tf:=true") as (_, robot):
        publisher = robot.create_publisher(tf2_msgs.TFMessage, "/tf_static", LATCHED)
        fixed = TransformStamped(header=robot.header("map"), child_frame_id="odom")
        publisher.publish(tf2_msgs.TFMessage(transforms=[fixed]))
        robot.wait_until(
            lambda: robot.diagnostics().get("tf", "").startswith("refused: /tf_static already has map -> odom")
        )


def test_amcl_is_set_when_asked_and_only_then(town: Path, picture: Picture, domain_id: int) -> None:
    with localizer(town, picture, "publish_initialpose:=on_request") as (_, robot):
        way = itertools.chain(range(3, 15), range(15, 3, -1))
        called = robot.call(Trigger, "~/relocalize", while_waiting=lambda: robot.look(next(way)))
        assert called.success and called.message.endswith("; no subscriber on /initialpose")
        robot.listen(PoseWithCovarianceStamped, "/initialpose")
        robot.wait_for_publishers("/initialpose")
        way = iter(range(3, STREET_M))
        called = robot.call(Trigger, "~/relocalize", while_waiting=lambda: robot.look(next(way)))
        assert called.success and called.message.endswith("; published on /initialpose")
        robot.look(next(way))
        assert len(robot.received("/initialpose")) == 1


def test_a_disabled_localizer_answers_nothing_and_says_so(town: Path, picture: Picture, domain_id: int) -> None:
    with localizer(town, picture) as (_, robot):
        robot.look(5)
        assert robot.call(SetBool, "~/enable", request=SetBool.Request(data=False)).success
        robot.wait_until(lambda: robot.diagnostics().get("reject_reason") == "disabled by ~/enable")
