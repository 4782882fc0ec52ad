"""Drives with several cameras are evaluated and calibrated as the node would answer them: with one belief."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from mapped import build_map

from d2vpr_ros.bags.writer import BagWriter
from d2vpr_ros.cli.main import main as d2vpr
from d2vpr_ros.geometry import Pose
from d2vpr_ros.sim.conditions import condition_named
from d2vpr_ros.sim.drive import drive_way
from d2vpr_ros.sim.render import CAMERA_MOUNT, Renderer
from d2vpr_ros.sim.routes import loop
from d2vpr_ros.sim.sensors import poses
from d2vpr_ros.sim.town import build_town

SEED, SIZE = 7, (160, 120)
MOUNTS = {"front": CAMERA_MOUNT, "left": Pose.planar(0.0, 0.0, np.pi / 2) @ CAMERA_MOUNT}
TOPICS = [f"/{name}/image" for name in MOUNTS]
BOTH = [option for topic in TOPICS for option in ("--image-topic", topic)]


def record(renderer: Renderer, out: Path, seconds: float, aside_m: float, tf: Sequence[str] = tuple(MOUNTS)) -> None:
    """A drive at 2 m/s with both cameras once a second; tf knows the mounts of some."""
    times = np.arange(0.0, seconds, 1.0)
    way = drive_way(loop(build_town(SEED), 0), times, 2.0, aside_m)
    with BagWriter(out) as bag:
        for name in tf:
            bag.transform(0, "base_link", f"{name}_optical", MOUNTS[name], static=True)
        first = poses(way)[0]
        for second, base in zip(times, poses(way), strict=True):
            stamp = round(second * 1e9)
            bag.odometry("/odom", stamp, "odom", "base_link", first.inverse() @ base)
            bag.pose("/slam/pose", stamp, "map", base)
            for name, mount in MOUNTS.items():
                bag.camera_info(f"/{name}/camera_info", stamp, f"{name}_optical", renderer.camera_matrix, *SIZE)
                bag.image(f"/{name}/image", stamp, renderer.render(base @ mount), f"{name}_optical")


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A street mapped by two cameras at noon; the same street at dusk, where tf knows one of them."""
    folder = tmp_path_factory.mktemp("town")
    with closing(Renderer(*SIZE)) as renderer:
        for name, seconds, aside_m, known in (("noon", 16.0, 0.0, tuple(MOUNTS)), ("dusk", 12.0, 0.5, ("front",))):
            renderer.load(build_town(SEED), condition_named(name))
            record(renderer, folder / name, seconds, aside_m, known)
    build_map(folder / "noon", folder / "town.d2map", *BOTH)
    return folder


LEFT = "left=" + ",".join(f"{number:.9f}" for number in MOUNTS["left"].numbers)


def evaluate(town: Path, *options: str) -> int:
    return d2vpr(["evaluate", str(town / "town.d2map"), str(town / "dusk"), *options, "--device", "cpu"])


def test_the_images_of_both_cameras_are_answered_and_judged(town: Path, tmp_path: Path) -> None:
    files = {kind: tmp_path / f"result.{kind}" for kind in ("json", "csv", "html")}
    written = ["--json", str(files["json"]), "--csv", str(files["csv"]), "--page", str(files["html"])]
    options = [*BOTH, "--mount-of", LEFT, "--heading-tolerance", "30", "--min-probability", "0.9"]
    assert evaluate(town, *options, *written) == 0
    numbers = json.loads(files["json"].read_text(encoding="utf-8"))
    assert numbers["frames"] == numbers["answerable"] == 24
    assert numbers["accepted"] == numbers["correct"] >= 10
    assert numbers["median_turn_deg"] < 5  # of the base, whichever camera it was
    with files["csv"].open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    answered = {line["image_topic"] for line in lines if line["accepted"] == "1"}
    assert answered == set(TOPICS)
    page = files["html"].read_text(encoding="utf-8")
    assert "images on /front/image, /left/image" in page
    assert page.count("data:image/jpeg") > 10


def test_a_camera_that_sees_nothing_of_the_map_is_left_out(
    town: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backwards = Pose.planar(0.0, 0.0, np.pi) @ CAMERA_MOUNT
    mount = "left=" + ",".join(f"{number:.9f}" for number in backwards.numbers)
    assert evaluate(town, *BOTH, "--mount-of", mount, "--json", str(tmp_path / "result.json")) == 0
    assert "camera left sees nothing of the map; its images are left out" in caplog.text
    assert json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["frames"] == 12


def test_several_cameras_are_asked_for_by_name(town: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(town) != 0
    assert "several image topics; choose one with --image-topic" in capsys.readouterr().err
    assert evaluate(town, *BOTH, "--mount", "0", "0", "1", "0", "0", "0", "1") != 0
    assert "--mount with 2 cameras; use --mount-of" in capsys.readouterr().err


def test_calibrating_goes_through_both_cameras_too(town: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = ["calibrate", str(town / "town.d2map"), str(town / "dusk"), *BOTH, "--mount-of", LEFT, "--device", "cpu"]
    assert d2vpr(told) != 0  # a drive so short has too few wrong ones to fit
    said = capsys.readouterr()
    assert "24 images on /front/image, /left/image" in said.out
    assert "a calibration needs 25 of each" in said.err
