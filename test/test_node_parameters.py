"""What a running localizer makes of its surroundings: parameters set meanwhile, no /clock, names, lossy transport."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import rclpy
from live_node import localizer, map_street, street
from rclpy.lifecycle import TransitionCallbackReturn
from std_srvs.srv import Trigger

from d2vpr_ros.errors import UserError
from d2vpr_ros.localize import Verify
from d2vpr_ros.nodes import messages
from d2vpr_ros.nodes.localizer import LocalizerNode
from d2vpr_ros.nodes.map_builder import MapBuilderNode

Picture = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def picture() -> Picture:
    return street()


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory, picture: Picture) -> Path:
    return map_street(tmp_path_factory.mktemp("maps") / "street.d2map", picture)


def test_a_parameter_that_is_set_is_checked_and_applied_or_refused_with_the_reason(
    town: Path, picture: Picture, domain_id: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with localizer(town, picture, "top_sped_mps:=3.0") as (node, robot):
        assert "unknown parameter 'top_sped_mps' is ignored; did you mean top_speed_mps?" in "".join(capfd.readouterr())
        for name, value, reason in (
            ("image_transport", "foo", "parameter 'image_transport' is 'foo'; expected one of raw, compressed"),
            ("min_probability", 2.0, "out of range"),
            ("weights", "small", "parameter 'weights' is read when the node is configured; restart it with"),
            ("camera_mount", [1.0], "parameter 'camera_mount' is [1.0]; expected seven numbers"),
        ):
            assert reason in robot.set_parameter(name, value)
            assert node.get_parameter(name).value != value
        assert node._settings.options.acceptance.probability == 0.8  # nothing of it came through

        robot.drive()
        assert robot.set_parameter("max_age_s", 7.0) == ""
        assert node._answering is not None and node._answering.session.options.max_age_s == 7.0
        assert node._loaded is not None and node._loaded.localizer.options.top_speed_mps == 5.0
        assert robot.set_parameter("top_speed_mps", 4.0) == ""
        assert node._loaded.localizer.options.top_speed_mps == 4.0
        assert node._answering.session.options.top_speed_mps == 4.0
        assert robot.set_parameter("image_transport", "compressed") == ""
        assert node._images[0].topic_name == "/image/compressed"
        assert robot.set_parameter("image_transport", "raw") == ""
        robot.wait_for_listeners()
        assert robot.drive(9)[-1].width > 0  # it answers still


@pytest.fixture(scope="module")
def pictured(tmp_path_factory: pytest.TempPathFactory, picture: Picture) -> Path:
    return map_street(tmp_path_factory.mktemp("maps") / "street.d2map", picture, pictures=True)


def test_the_feature_network_is_open_before_the_first_image_and_stays_whatever_is_set_or_loaded(
    pictured: Path, picture: Picture, domain_id: int
) -> None:
    with localizer(pictured, picture) as (node, robot):
        assert node._loaded is not None and node._loaded.geometry is not None
        geometry = node._loaded.geometry
        assert node._loaded.localizer.geometry is geometry
        assert robot.set_parameter("off_map_prior", 0.0) == ""
        assert node._loaded.localizer.options.off_map_prior == 0.0
        assert node._loaded.localizer.geometry is geometry
        assert robot.set_parameter("verify", "never") == ""
        assert node._loaded.localizer.geometry is None
        robot.wait_until(lambda: robot.diagnostics().get("intrinsics", "").startswith("not used"))
        assert robot.set_parameter("verify", "always") == ""
        assert node._loaded.localizer.geometry is geometry
        assert robot.call(Trigger, "~/reload_map").success
        assert node._loaded.geometry is not geometry and node._loaded.geometry.extractor is geometry.extractor

        robot.wait_for_listeners()
        matches = messages.read_cloud(robot.look(5), messages.MATCH_POINT)
        assert matches["inliers"][0] >= 15
        robot.wait_until(lambda: robot.diagnostics().get("z_score", "nan") != "nan")
        said = robot.diagnostics()
        assert (said["off_map_prior"], said["inliers"]) == ("0", str(matches["inliers"][0]))
        assert float(said["log_odds"]) > 0 and float(said["off_map"]) == 0.0


def test_features_that_this_machine_cannot_run_are_told_with_the_way_out(
    pictured: Path, town: Path, picture: Picture, domain_id: int, capfd: pytest.CaptureFixture[str]
) -> None:
    with (
        pytest.raises(UserError, match="could not be configured"),
        localizer(pictured, picture, "features:=nowhere.onnx"),
    ):
        pass
    said = "".join(capfd.readouterr())
    assert "images cannot be compared with the landmarks of the map: " in said and "nowhere.onnx" in said
    assert "name weights that this machine can run with parameter 'features', or set verify to never" in said
    with localizer(pictured, picture, "features:=nowhere.onnx", "verify:=never") as (node, robot):
        assert "images cannot be compared" in robot.set_parameter("verify", "when_it_decides")
        assert node._loaded is not None and node._loaded.localizer.options.verify is Verify.NEVER
    with localizer(town, picture, "features:=nowhere.onnx") as (node, _):  # a map without pictures needs none
        assert node._loaded is not None and node._loaded.geometry is None


def test_a_parameter_is_free_before_the_node_is_configured(town: Path, domain_id: int) -> None:
    rclpy.init(args=["--ros-args", "-p", "autostart:=false", "-p", f"map:={town}"])
    node = LocalizerNode()
    try:
        node.start()
        (refused,) = node.set_parameters([rclpy.Parameter("device", value="tpu")])
        assert not refused.successful
        (taken,) = node.set_parameters([rclpy.Parameter("map_frame", value="earth")])
        assert taken.successful
        assert node.trigger_configure() is TransitionCallbackReturn.SUCCESS
        assert node._settings.map_frame == "earth"
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def test_the_map_builder_refuses_what_it_reads_at_the_start(tmp_path: Path, domain_id: int) -> None:
    rclpy.init(args=["--ros-args", "-p", f"map:={tmp_path / 'x.d2map'}"])
    node = MapBuilderNode()
    (result,) = node.set_parameters([rclpy.Parameter("spacing_m", value=3.0)])
    assert not result.successful
    assert result.reason == (
        "parameter 'spacing_m' is read when the node starts; stop the node and start it with spacing_m:=..."
    )
    node.destroy_node()
    rclpy.try_shutdown()


def test_without_clock_a_simulated_node_says_so_under_its_full_name(
    town: Path, picture: Picture, domain_id: int
) -> None:
    with localizer(town, picture, "use_sim_time:=true", arguments=["-r", "__ns:=/robot1"]) as (_, robot):
        robot.wait_until(lambda: bool(robot.received("/diagnostics")))
        status = robot.received("/diagnostics")[-1].status[0]
        assert status.name == "robot1/d2vpr_localizer: localization"
        assert status.hardware_id == "robot1/d2vpr_localizer"
        assert status.message.startswith("LOST: use_sim_time is true, but nothing comes on /clock")
        assert robot.drive()[-1].width > 0  # images are answered all the same


def test_whoever_remaps_image_means_the_compressed_images_too(town: Path, picture: Picture, domain_id: int) -> None:
    for remapped in ("/front/image", "/front/image/compressed"):
        rclpy.init(
            args=["--ros-args", "-p", f"map:={town}", "-p", "image_transport:=compressed", "-r", f"image:={remapped}"]
        )
        node = LocalizerNode()
        try:
            node.start()
            assert [images.topic_name for images in node._images] == ["/front/image/compressed"]
        finally:
            node.stop()
            node.destroy_node()
            rclpy.try_shutdown()


CAMERA = """
import rclpy
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node("camera")
publisher = node.create_publisher(Image, "image", 10)
image = Image(height=1080, width=1920, step=5760, encoding="rgb8", data=bytes(1080 * 5760))
node.create_timer(1 / 30, lambda: publisher.publish(image))
while True:
    rclpy.spin_once(node)
"""


def test_images_that_are_lost_at_best_effort_are_subscribed_to_reliably(
    town: Path, picture: Picture, domain_id: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """From another process: within one, Fast DDS hands messages over without losing any."""
    monkeypatch.delenv("FASTRTPS_DEFAULT_PROFILES_FILE", raising=False)
    with localizer(town, picture) as (node, robot):
        assert node._images[0].reliability == "best_effort"
        camera = subprocess.Popen([sys.executable, "-c", CAMERA])
        try:
            robot.wait_until(lambda: node._images[0].reliability == "reliable")
        finally:
            camera.kill()
            camera.wait()
    said = "".join(capfd.readouterr())
    assert "of the messages on /image were lost with best effort; now subscribed as reliable" in said
    assert "export FASTRTPS_DEFAULT_PROFILES_FILE=" in said
