"""`d2vpr evaluate` counts what its names say, and drives recordings through the localizer as the node does."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mapped import build_map
from places import WIDTH, Describes, alike_along_the_way, straight_street, write_places

from d2vpr_ros.bags.writer import BagWriter
from d2vpr_ros.cli.main import main as d2vpr
from d2vpr_ros.describe import Extractor
from d2vpr_ros.errors import UserError
from d2vpr_ros.evaluation.curve import area, precision_recall, recall_at_precision
from d2vpr_ros.evaluation.kidnapping import Kidnapping, Recovery, Remembered, kidnap, recovery, remembering
from d2vpr_ros.evaluation.measures import Measures, ScoredDrive, measure
from d2vpr_ros.evaluation.offline import Described, Moved, answer_drive
from d2vpr_ros.evaluation.results import _columns, finite
from d2vpr_ros.evaluation.scoring import ScoredQuery
from d2vpr_ros.geodesy import LocalFrame
from d2vpr_ros.geometry import FORWARD_MOUNT, Pose, distance
from d2vpr_ros.images.frame import Frame
from d2vpr_ros.localize import Estimate, Localizer
from d2vpr_ros.mapping import Camera, MapHeader, Session
from d2vpr_ros.mapping.store import NewPlace, create_map
from d2vpr_ros.sim.drive import record_drive

SECOND = 1_000_000_000
ON_EARTH = LocalFrame(55.7, 13.2, 0.0)


def asked(
    number: int, probability: float, right: bool, *, accepted: bool = False, answerable: bool = True
) -> ScoredQuery:
    """An image of a drive at 2 m/s; what is answered is 1 m off if right, else 50 m."""
    truth = Pose.planar(2.0 * number, 0.0, 0.0)
    answer = Pose.planar(2.0 * number, 1.0 if right else 50.0, 0.0)
    return ScoredQuery(
        number * SECOND,
        answerable,
        accepted,
        right,
        found=(right,),
        off=1.0 if right else 50.0,
        probability=probability,
        truth=truth,
        answer=answer if accepted else None,
        covariance=np.eye(6) if accepted else None,
        seconds={"decode": 0.001, "describe": 0.05, "match": 0.002},
    )


DRIVE = [
    asked(0, 0.2, right=False),
    asked(1, 0.6, right=True),
    asked(2, 0.9, right=True, accepted=True),
    asked(3, 0.99, right=True, accepted=True),
    asked(4, 0.95, right=False, accepted=True, answerable=False),
    asked(5, 0.7, right=True, accepted=True),
]


def test_the_numbers_of_a_drive_count_images_answers_and_answerable_images_apart() -> None:
    measures = measure([ScoredDrive("a", DRIVE, unscored=3)], "m")
    assert (measures.frames, measures.unscored_frames, measures.answerable) == (6, 3, 5)
    assert (measures.accepted, measures.correct, measures.false_accepts) == (4, 3, 1)
    assert measures.precision == pytest.approx(3 / 4)
    assert measures.false_accepts_per_1000 == pytest.approx(1000 / 6)
    assert measures.recall_at_1 == pytest.approx(4 / 6)
    assert measures.recall_at_1_answerable == pytest.approx(4 / 5)
    assert measures.median_error_m == pytest.approx(1.0)
    assert measures.covariance_coverage_95 == pytest.approx(3 / 4)
    assert measures.localized_fraction == pytest.approx(4 / 6)
    assert measures.localized_once_found == 1.0
    assert (measures.time_to_first_fix_s, measures.distance_to_first_fix_m) == (2.0, 4.0)
    assert measures.p50_describe_ms == pytest.approx(50.0)


def test_numbers_that_are_none_are_empty_in_a_csv_and_null_in_json() -> None:
    broken = replace(DRIVE[2], probability=float("nan"), off=float("inf"))
    row = _columns(broken)
    assert (row["probability"], row["off"]) == (None, None)
    assert finite({"a": [1.0, float("nan")], "b": {"c": -float("inf")}}) == {"a": [1.0, None], "b": {"c": None}}


def test_errors_are_reported_as_they_are_judged_without_the_heights_that_gps_hardly_knows() -> None:
    """Answers 1 m off on the ground, 47.6 m below a truth whose heights are above the ellipsoid."""
    high = [
        replace(query, horizontal=True, truth=query.truth and query.truth @ Pose.planar(0, 0, 0, z=47.6))
        for query in DRIVE
    ]
    measures = measure([ScoredDrive("a", high)], "m")
    assert measures.median_error_m == pytest.approx(1.0)
    assert measures.distance_to_first_fix_m == pytest.approx(4.0)


def test_the_curve_answers_images_by_falling_probability() -> None:
    curve = precision_recall(DRIVE)
    assert curve is not None
    # 0.99 right, 0.95 wrong, 0.9 right, 0.7 right, 0.6 right, 0.2 wrong; 5 are answerable.
    assert curve.precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3, 3 / 4, 4 / 5, 4 / 6])
    assert curve.recall.tolist() == pytest.approx([0.2, 0.2, 0.4, 0.6, 0.8, 0.8])
    assert recall_at_precision(curve, 1.0) == pytest.approx(0.2)
    assert recall_at_precision(curve, 0.8) == pytest.approx(0.8)
    assert area(curve) == pytest.approx(0.2 * (1 + 2 / 3 + 3 / 4 + 4 / 5))


def test_images_of_one_probability_are_answered_together() -> None:
    curve = precision_recall([asked(0, 0.5, right=True), asked(1, 0.5, right=False)])
    assert curve is not None
    assert (curve.precision.tolist(), curve.recall.tolist()) == ([0.5], [0.5])


def test_silence_has_no_precision_and_a_drive_without_an_answer_no_first_fix() -> None:
    silent = measure([ScoredDrive("a", DRIVE[:2]), ScoredDrive("b", DRIVE)], "m")
    assert (silent.drives_without_fix, silent.time_to_first_fix_s) == (1, 2.0)
    alone = measure([ScoredDrive("a", DRIVE[:2])], "m")
    assert (alone.precision, alone.median_error_m, alone.time_to_first_fix_s) == (None, None, None)
    json.dumps(alone.as_json(), allow_nan=False)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A map of a street at noon, and the drive it was built from; the same street at dusk."""
    folder = tmp_path_factory.mktemp("town")
    for condition, seconds, aside_m in (("noon", 8.0, 0.0), ("dusk", 6.0, 0.5)):
        record_drive(
            folder / condition, 7, condition, duration_s=seconds, rate_hz=2.5, lateral_offset_m=aside_m,
            compressed=True, width=160, height=120,
        )  # fmt: skip
    build_map(folder / "noon", folder / "town.d2map", "--spacing", "1")
    return folder


def evaluate(town: Path, *options: str) -> int:
    return d2vpr(["evaluate", str(town / "town.d2map"), *options, "--device", "cpu"])


def test_a_drive_is_evaluated_from_the_bag_to_the_page(
    town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = {kind: tmp_path / f"result.{kind}" for kind in ("json", "csv", "html")}
    options = ["--json", str(results["json"]), "--csv", str(results["csv"])]
    options += ["--page", str(results["html"]), "--player", "5"]
    assert evaluate(town, str(town / "dusk"), str(town / "noon"), *options) == 0
    numbers = json.loads(results["json"].read_text(encoding="utf-8"))
    assert numbers["frames"] == 35
    assert numbers["recall_at_1"] > 0.8
    assert numbers["recall_at_5"] >= numbers["recall_at_1"]
    assert numbers["false_accepts"] == 0
    assert numbers["accepted"] == numbers["correct"]
    assert [bag["frames"] for bag in numbers["bags"]] == [15, 20]
    assert {bag["odometry"] for bag in numbers["bags"]} == {"/odom"}
    with results["csv"].open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert sum(int(line["accepted"]) for line in lines) == numbers["accepted"]
    assert {line["bag"] for line in lines} == {"dusk", "noon"}
    page = results["html"].read_text(encoding="utf-8")
    around, _, player = page.partition('<section id="player"')
    assert around.count("<svg") == 4  # two tracks, the curve, the reliability
    assert player.count("<template>") == 4 and "4 of 35 images, evenly chosen" in player  # two of each recording
    assert player.count("points fit one motion of the camera") == 4 and player.count("95 % ellipse</td>") > 0
    assert "recall at 100 % precision" in capsys.readouterr().out


def test_the_reference_gives_every_number_of_the_json() -> None:
    reference = (Path(__file__).resolve().parent.parent / "docs" / "reference.md").read_text(encoding="utf-8")
    listed = re.findall(r"`(\w+)`", reference.split("### The JSON of `d2vpr evaluate`")[1])
    assert {number.name for kind in (Measures, Recovery) for number in fields(kind)} <= set(listed)


def test_without_metres_images_are_held_against_their_numbers(town: Path, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    options = ["--truth", "index", "--radius", "2", "--map-bag", str(town / "noon"), "--single", "--json", str(result)]
    assert evaluate(town, str(town / "dusk"), *options) == 0
    numbers = json.loads(result.read_text(encoding="utf-8"))
    assert (numbers["unit"], numbers["median_error_m"], numbers["bags"][0]["odometry"]) == ("frames", None, None)
    assert numbers["recall_at_1"] > 0.8


def test_off_the_map_every_answer_is_wrong(town: Path, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    assert evaluate(town, str(town / "noon"), "--off-map", "--min-probability", "0.8", "--json", str(result)) == 0
    numbers = json.loads(result.read_text(encoding="utf-8"))
    assert (numbers["answerable"], numbers["correct"]) == (0, 0)
    assert numbers["false_accepts"] == numbers["accepted"] > 0
    assert numbers["recall_at_100_precision"] is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--radius", "0"], "--radius 0: expected a number above 0"),
        (["--off-map-prior", "1"], "--off-map-prior 1: expected 0 or more, and less than 1"),
        (["--features", "nowhere.onnx"], "nowhere.onnx"),
        (["--truth", "index", "--heading-tolerance", "20"], "--heading-tolerance with --truth index"),
        (["--truth-topic", "/odom2"], "/odom2"),
        (["nowhere.mcap"], "nowhere.mcap: no such bag"),
        (["--odom-topic", "/gps/fix"], "is no topic of nav_msgs/msg/Odometry; those are: /odom"),
        (["--kidnap", "3"], "--kidnap: the drive of"),
        (["--kidnap", "3", "--truth", "index"], "--kidnap needs poses"),
        (["--json", "nowhere/result.json"], "no folder nowhere"),
        (["--player", "5"], "--player without --page"),
        (["--player", "-1", "--page", "page.html"], "--player -1: expected 0 to 2000 images"),
    ],
)
def test_what_cannot_be_evaluated_is_told_in_a_line(
    town: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert evaluate(town, str(town / "dusk"), *options) != 0
    error = capsys.readouterr().err.strip()
    assert said in error
    assert len([line for line in error.splitlines() if "error" in line]) == 1


def test_recovery_counts_the_robots_that_never_knew() -> None:
    counted = recovery([Kidnapping(4.0, 0), Kidnapping(6.0, 1), Kidnapping(8.0, 0), Kidnapping(None, 3)])
    assert (counted.found, counted.median_m, counted.p95_m) == (3, 6.0, None)
    assert (counted.wrong_answers, counted.misled) == (4, 2)
    assert "after 6.0 m (median), never (95 %); 4 wrong answers in 2 of them" in counted.line()


STREET = 120


def test_a_kidnapped_robot_is_followed_to_where_it_knows(tmp_path: Path) -> None:
    descriptors = alike_along_the_way(STREET, seed=4, width=WIDTH)
    place_map = write_places(tmp_path / "m.d2map", straight_street(STREET), descriptors)
    localizer, _black = Localizer(place_map, Describes()), np.zeros((8, 8, 3), np.uint8)
    images = [
        Described(
            Frame(np.zeros((8, 8, 3), np.uint8), number * SECOND, "front"), descriptor, (Moved(number * SECOND, pose),)
        )
        for number, (descriptor, pose) in enumerate(zip(descriptors, straight_street(STREET), strict=True))
    ]
    again: list[Remembered] = []

    def judge(camera: str, estimate: Estimate) -> ScoredQuery:
        truth = Pose.planar(estimate.stamp_ns / SECOND, 0.0, 0.0)
        near = estimate.pose is not None and distance(estimate.pose, truth) < 5.0
        return ScoredQuery(estimate.stamp_ns, True, estimate.pose is not None, near, truth=truth)

    every = list(answer_drive(localizer, remembering(images, again), judge, "street"))
    assert all(answered.query and answered.query.right for answered in every[10:])
    carried = kidnap(localizer, judge, every, again, 2)
    assert all(one.found_m is not None for one in carried)
    assert carried == kidnap(localizer, judge, every, again, 2), "the same places each time"
    with pytest.raises(UserError, match="no two places of the map 20 m apart with 50 m left"):
        kidnap(localizer, judge, every[:40], again[:40], 2)


@pytest.fixture(scope="module")
def look_alike(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A street in a map of two that look the same, 200 m apart; and a drive through the second one, with GPS."""
    folder = tmp_path_factory.mktemp("alike")
    extractor = Extractor.open("nano", device="cpu")
    walls = np.random.default_rng(3).integers(0, 256, (16, 30, 3), dtype=np.uint8)
    wall = cv2.resize(walls, (600, 96), interpolation=cv2.INTER_CUBIC)
    views = [wall[:, 12 * metre : 12 * metre + 128] for metre in range(30)]
    rows = extractor.describe(views)
    header = MapHeader(extractor.identity, extractor.width, "map", 1.0, None, geo_tagged=True)
    with create_map(folder / "m.d2map", header) as writer:
        session = writer.begin_session(Session("streets"))
        camera = writer.add_camera(session, Camera("front", 128, 96, FORWARD_MOUNT))
        for number, (north, metre) in enumerate((n, m) for n in (0.0, 200.0) for m in range(30)):
            geo = ON_EARTH.to_geo(np.array([[float(metre), north, 0.0]]))[0]
            pose = Pose.planar(float(metre), north, 0.0) @ FORWARD_MOUNT
            writer.add_place(session, camera, NewPlace(number * SECOND, pose, rows[metre], geo=tuple(geo)))
    for name, off_m, images in (("drive", 0.0, 20), ("elsewhere", 90.0, 4)):
        with BagWriter(folder / name) as bag:
            for metre, view in enumerate(views[:images]):
                stamp = metre * SECOND
                latitude, longitude, height = ON_EARTH.to_geo(np.array([[metre + off_m, 200.0, 0.0]]))[0]
                bag.fix("/gps/fix", stamp, "gps", latitude, longitude, height, 2.0)
                bag.pose("/ground_truth/pose", stamp, "map", Pose.planar(float(metre), 200.0, 0.0))
                odometry = Pose.planar(float(metre), 0.0, 0.0)
                bag.odometry("/odom", stamp, "odom", "base_link", odometry, np.zeros(6), np.eye(6).ravel())
                bag.image("/camera/image", stamp, np.ascontiguousarray(view), "camera_optical_frame")
    return folder


def test_gps_counts_in_an_evaluation_as_on_a_robot(look_alike: Path, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    drive = str(look_alike / "drive")
    told = ["evaluate", str(look_alike / "m.d2map"), drive, "--min-probability", "0.5", "--json", str(result)]

    def numbers(*options: str) -> dict[str, Any]:
        assert d2vpr([*told, *options, "--device", "cpu"]) == 0
        found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        return found

    without, by_gps = numbers("--no-gps"), numbers()
    assert (without["accepted"], without["bags"][0]["gps"]) == (0, None)
    assert by_gps["accepted"] == by_gps["correct"] > 5
    assert by_gps["bags"][0]["gps"] == "/gps/fix"
    assert numbers("--gps-gate-least-m", "500")["accepted"] == 0  # has both streets in it


def test_images_for_which_gps_leaves_no_place_are_counted_as_not_answered(look_alike: Path, tmp_path: Path) -> None:
    result, page = tmp_path / "result.json", tmp_path / "page.html"
    told = ["evaluate", str(look_alike / "m.d2map"), str(look_alike / "elsewhere"), "--json", str(result)]
    for options in (["--page", str(page), "--player", "0"], ["--off-map"], ["--truth", "index"]):
        assert d2vpr([*told, *options, "--device", "cpu"]) == 0
        numbers = json.loads(result.read_text(encoding="utf-8"))
        assert (numbers["frames"], numbers["accepted"], numbers["recall_at_1"]) == (4, 0, 0.0)
    text = page.read_text(encoding="utf-8")
    assert "no candidate" in text and '<section id="player"' not in text
