"""map -> odom on real DDS, where tf2's messages are installed; elsewhere that it says so."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import TransformStamped
from live_node import STREET_M, localizer, map_street, street

from d2vpr_ros.errors import UserError
from d2vpr_ros.fields import read_transform
from d2vpr_ros.geometry import Pose, distance

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
        robot.wait_until(lambda: robot.diagnostics()["tf"].startswith("refused: /tf carries odom_map -> odom from one"))
        assert robot.received("/diagnostics")[-1].status[0].level == DiagnosticStatus.ERROR
