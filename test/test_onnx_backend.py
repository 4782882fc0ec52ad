"""ONNX Runtime in torch's place: the same maps, the same answers, and no torch on the machine."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import rclpy
from live_node import STREET_M, Robot, map_street, street, view
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image

from d2vpr_ros.bags.writer import BagWriter
from d2vpr_ros.describe import Extractor, Preprocessor
from d2vpr_ros.describe.feature_export import export_features
from d2vpr_ros.describe.gate_pictures import gate_pictures
from d2vpr_ros.describe.onnx_export import export
from d2vpr_ros.describe.resample import squash
from d2vpr_ros.describe.weights import weights_path
from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import Pose
from d2vpr_ros.images.frame import Frame
from d2vpr_ros.localize import Localizer, State
from d2vpr_ros.mapping import read_map

SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "nano.onnx"
    export(weights_path("nano"), path, images=list(gate_pictures(3)))
    return path


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "xfeat.onnx"
    export_features(weights_path("xfeat"), path, images=list(gate_pictures(1)))
    return path


def record_street(path: Path, first_m: float, last_m: float) -> Path:
    """A drive down the street at 1 m/s with an image a metre and its truth."""
    picture = street()
    with BagWriter(path) as bag:
        for number, metres in enumerate(np.arange(first_m, last_m)):
            pose = Pose.planar(float(metres), 0.0, 0.0)
            bag.pose("/pose", number * SECOND, "map", pose)
            bag.image("/camera/image", number * SECOND, view(picture, float(metres)), "camera")
    return path


def test_a_map_made_with_torch_is_used_with_the_exported_file_and_the_other_way_round(
    tmp_path: Path, exported: Path
) -> None:
    place_map = read_map(map_street(tmp_path / "street.d2map", street()))
    by_onnx, by_torch = Extractor.open(str(exported)), Extractor.open("nano", device="cpu")
    assert by_onnx.identity == by_torch.identity == place_map.header.model
    assert by_onnx.identity.projection_fitted_on == by_torch.identity.projection_fitted_on
    assert (by_onnx.device, by_onnx.width) == ("cpu", 512)
    localizer = Localizer(place_map, by_onnx)
    for metres in range(10, 20):
        estimate = localizer.locate(Frame(view(street(), metres), metres * SECOND, "camera"))
        assert estimate.matches[0].row == metres


def test_bundled_weights_are_exported_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = Extractor.open("nano", backend="onnxruntime")
    (kept,) = (tmp_path / "d2vpr_ros" / "onnx").iterdir()
    written = kept.stat().st_mtime_ns
    assert Extractor.open("nano", backend="onnxruntime").identity == first.identity
    assert kept.stat().st_mtime_ns == written
    whole = Extractor.open("nano", backend="onnxruntime", projection="none")
    assert (whole.width, whole.identity.projection) == (14 * 192, "")


def test_fast_is_a_reduced_form_or_float32_and_the_same_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    bundled = weights_path("nano")
    for name in (bundled.name, f"{bundled.stem}.pca512.safetensors"):  # without what footage said of them
        shutil.copy(bundled.with_name(name), tmp_path)
    weights = str(tmp_path / bundled.name)
    fast, exact = (Extractor.open(weights, "onnxruntime", precision) for precision in ("fast", "exact"))
    assert fast.identity == exact.identity
    images = list(gate_pictures(3))
    assert np.einsum("nd,nd->n", fast.describe(images), exact.describe(images)).min() > 0.999
    assert len(list((tmp_path / "d2vpr_ros" / "onnx").iterdir())) == 2


def test_a_form_that_footage_refused_is_not_even_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    Extractor.open("nano", "onnxruntime", "fast", "cpu")
    assert [path.stem.split("-")[-1] for path in (tmp_path / "d2vpr_ros" / "onnx").iterdir()] == ["exact"]


@pytest.mark.parametrize("size", [(720, 1280), (480, 640), (901, 1203), (224, 224), (100, 333), (7, 5)])
def test_images_are_squashed_without_torch_as_with_it(size: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    there = Preprocessor().squash(image).astype(int)
    assert np.abs(squash(image, 224) - there).max() <= 1


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"device": "tensorrt"}, "runs here on .*cpu"),
        ({"projection": "none"}, "which contains its projection"),
        ({"backend": "torch"}, "use it with backend 'onnxruntime'"),
    ],
)
def test_what_an_exported_file_cannot_do_is_said(choice: dict[str, str], said: str, exported: Path) -> None:
    with pytest.raises(UserError, match=said):
        Extractor.open(str(exported), **choice)


def test_a_machine_without_torch_builds_maps_and_evaluates(
    tmp_path: Path, exported: Path, features: Path, without_torch: dict[str, str]
) -> None:
    nothing_kept = without_torch | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    drive, query = record_street(tmp_path / "drive", 0, STREET_M), record_street(tmp_path / "query", 4.3, 20.3)

    def run(*words: str | Path) -> str:
        command = [sys.executable, "-m", "d2vpr_ros.cli.main", *map(str, words)]
        done = subprocess.run(command, env=nothing_kept, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with pytest.raises(AssertionError, match="an export needs torch"):
        run("export", "nano", "-o", tmp_path / "never.onnx")
    site = tmp_path / "site.d2map"
    run("map", "build", drive, "-o", site, "--weights", exported, "--spacing", "0.9", "--no-landmarks")
    evaluate = ["evaluate", site, query, "--weights", exported, "--truth", "pose", "--radius", "2"]
    with pytest.raises(AssertionError, match=r"weights 'xfeat' need torch.*d2vpr export xfeat -o xfeat\.onnx"):
        run(*evaluate)
    said = run(*evaluate, "--features", features)
    assert len(read_map(site)) == STREET_M
    assert "recall@1" in said.lower()


def test_the_node_localizes_on_a_machine_without_torch(
    tmp_path: Path, exported: Path, features: Path, without_torch: dict[str, str], domain_id: int
) -> None:
    site = map_street(tmp_path / "street.d2map", street(), pictures=True)
    node = subprocess.Popen(
        [sys.executable, "-m", "d2vpr_ros.nodes.localizer", "--ros-args",
         "-p", f"map:={site}", "-p", f"weights:={exported}", "-p", f"features:={features}",
         "-p", "min_probability:=0.8", "-p", "top_speed_mps:=5.0"],
        env=without_torch | {"ROS_DOMAIN_ID": str(domain_id)},
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    rclpy.init(domain_id=domain_id)
    robot, executor, stop = Robot(street()), SingleThreadedExecutor(), threading.Event()
    executor.add_node(robot)

    def spin() -> None:
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.05)

    spinning = threading.Thread(target=spin)
    spinning.start()
    try:
        robot.wait_for_listeners(Image)
        robot.wait_for_publishers("~/place_matches")
        assert all(answer.width > 0 for answer in robot.drive(first_m=8, images=8))
        robot.wait_until(lambda: robot.diagnostics().get("state") == State.LOCALIZED)
        assert robot.diagnostics()["device"] == "cpu"
        node.send_signal(signal.SIGINT)
        _, said = node.communicate(timeout=30)
        assert node.returncode == 0, said
    finally:
        node.kill()
        stop.set()
        spinning.join()
        robot.destroy_node()
        rclpy.try_shutdown()
