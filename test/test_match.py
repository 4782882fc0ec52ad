"""`d2vpr match`: one picture held against a map, its page and its numbers, and pictures and maps that give no pose."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from browser import browser, find_browser
from scipy.spatial.transform import Rotation

from d2vpr_ros.cli.main import main as d2vpr
from d2vpr_ros.describe import Extractor
from d2vpr_ros.evaluation.match_drawing import pair_svg
from d2vpr_ros.geodesy import LocalFrame
from d2vpr_ros.geometry import Pose, scale_camera_matrix
from d2vpr_ros.images.compose import encode_jpeg
from d2vpr_ros.mapping import Camera, MapHeader, Session
from d2vpr_ros.mapping.picture import encode_picture
from d2vpr_ros.mapping.store import NewPlace, create_map
from d2vpr_ros.sim.conditions import CONDITIONS
from d2vpr_ros.sim.render import CAMERA_MOUNT, Renderer
from d2vpr_ros.sim.routes import sample_places
from d2vpr_ros.sim.town import build_town

WIDTH, HEIGHT = 320, 240
HOSTILE = "</script><script>document.title = 'owned'</script>{{ 7 * 7 }}"
LUND = LocalFrame(55.7, 13.19, 40.0)


@dataclass(frozen=True, eq=False)
class Street:
    """What a robot saw on a straight street, and what it sees 0.8 m aside.

    Attributes:
        bases: T_map_base of each picture.
        aside, at: the picture from aside, and its T_map_base.
    """

    bases: list[Pose]
    pictures: list[npt.NDArray[np.uint8]]
    descriptors: npt.NDArray[np.float32]
    extractor: Extractor
    k: npt.NDArray[np.float64]
    aside: npt.NDArray[np.uint8]
    at: Pose


@pytest.fixture(scope="module")
def street() -> Street:
    town = build_town(7)
    renderer = Renderer(WIDTH, HEIGHT)
    renderer.load(town, CONDITIONS["noon"])
    first = sample_places(town, np.random.default_rng(4), 1)[0]
    bases = [first @ Pose.planar(1.5 * step, 0.0, 0.0) for step in range(6)]
    pictures = [renderer.render(base @ CAMERA_MOUNT) for base in bases]
    at = bases[2] @ Pose.planar(0.4, 0.8, 0.05)
    aside = renderer.render(at @ CAMERA_MOUNT)
    extractor = Extractor.open("nano", device="cpu")
    return Street(bases, pictures, extractor.describe(pictures), extractor, renderer.camera_matrix, aside, at)


def write_map(
    path: Path,
    street: Street,
    *,
    places: int = 6,
    k: bool = True,
    pictures: bool = True,
    metric: bool = True,
    spot: bool = False,
    name: str = "front",
    origin: LocalFrame | None = None,
    image_range: tuple[int, int] | None = None,
) -> Path:
    """The street as a map; on one `spot` all places have the first one's position."""
    header = MapHeader(
        street.extractor.identity, street.extractor.width, "map", 1.0, origin, origin is not None, metric,
        image_range=image_range,
    )  # fmt: skip
    numbers = tuple(street.k.reshape(-1).tolist()) if k else None
    with create_map(path, header) as writer:
        session = writer.begin_session(Session(name))
        camera = writer.add_camera(session, Camera(name, WIDTH, HEIGHT, CAMERA_MOUNT, numbers))
        for step, (base, rgb) in enumerate(zip(street.bases[:places], street.pictures, strict=False)):
            pose = Pose.planar(float(step), 0.0, 0.0) if not metric else (street.bases[0] if spot else base)
            jpeg = encode_picture(rgb) if pictures else None
            place = NewPlace(step * 10**9, pose @ CAMERA_MOUNT if metric else pose, street.descriptors[step], jpeg)
            writer.add_place(session, camera, place)
    return path


def write_image(path: Path, rgb: npt.NDArray[np.uint8]) -> Path:
    path.write_bytes(encode_jpeg(rgb, 95))
    return path


def numbers_of(folder: Path, *words: str | Path) -> Any:
    """The JSON of a call that goes well; a NaN in it is an error."""
    assert d2vpr(["match", *map(str, words), "--json", str(folder / "m.json"), "--device", "cpu"]) == 0

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads((folder / "m.json").read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.fixture(scope="module")
def place_map(street: Street, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_map(tmp_path_factory.mktemp("map") / "street.d2map", street, origin=LUND)


@pytest.fixture(scope="module")
def image(street: Street, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image(tmp_path_factory.mktemp("image") / "aside.jpg", street.aside)


def test_a_picture_from_aside_gets_the_pose_of_the_base_with_its_covariance(
    street: Street, place_map: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = numbers_of(tmp_path, place_map, image)
    best = found["groups"][0]
    off = np.array(best["pose"]["position"]) - street.at.position
    assert np.linalg.norm(off) < 0.3
    truth_deg = (90 - np.degrees(street.at.rotation.as_euler("zyx")[0])) % 360
    assert best["pose"]["heading_deg"] == pytest.approx(truth_deg, abs=2.0)
    covariance = np.reshape(best["pose"]["covariance"], (6, 6))
    assert np.linalg.eigvalsh(covariance).min() > 0
    assert best["pose"]["semi_axis_95_m"] < 1.0
    enu = LUND.to_enu(np.array([[best["pose"][key] for key in ("latitude", "longitude", "altitude")]]))[0]
    assert np.allclose(enu, best["pose"]["position"], atol=1e-3)
    assert best["inliers"] > 25 and 0 < best["share"] <= 1 and best["no_pose"] == ""
    said = capsys.readouterr().out
    assert "intrinsics: taken from the map's camera 'front', 320 x 240" in said
    assert "heading from north, clockwise" in said and "95 % ellipse" in said


@pytest.mark.parametrize("factor", [0.2, 4000 / WIDTH])
def test_a_picture_of_another_size_has_its_own_camera_s_lens(
    street: Street, place_map: Path, tmp_path: Path, factor: float
) -> None:
    size = (round(WIDTH * factor), round(HEIGHT * factor))
    rgb = np.asarray(cv2.resize(street.aside, size, interpolation=cv2.INTER_AREA), np.uint8)
    np.savetxt(tmp_path / "k.txt", scale_camera_matrix(street.k, factor, factor))
    found = numbers_of(tmp_path, place_map, write_image(tmp_path / "a.jpg", rgb), "--camera-info", tmp_path / "k.txt")
    assert (found["width"], found["height"]) == size
    assert found["focal_px"] == pytest.approx(factor * street.k[0, 0], rel=1e-6)
    best = found["groups"][0]
    if factor > 1:
        assert np.linalg.norm(np.array(best["pose"]["position"]) - street.at.position) < 0.3
    else:  # 64 pixels show too little
        assert best["pose"] is None and best["no_pose"]


def test_a_picture_of_16_bits_is_stretched_as_the_map_s_were(street: Street, tmp_path: Path) -> None:
    path = write_map(tmp_path / "deep.d2map", street, image_range=(0, 1023))
    deep = np.round(street.aside[:, :, ::-1].astype(float) * 1023 / 255).astype(np.uint16)
    (tmp_path / "deep.png").write_bytes(cv2.imencode(".png", deep)[1].tobytes())
    best = numbers_of(tmp_path, path, tmp_path / "deep.png")["groups"][0]
    assert np.linalg.norm(np.array(best["pose"]["position"]) - street.at.position) < 0.3


def test_a_mount_moves_the_base_and_its_covariance(place_map: Path, image: Path, tmp_path: Path) -> None:
    near = numbers_of(tmp_path, place_map, image)["groups"][0]["pose"]
    behind = CAMERA_MOUNT.numbers
    mount = [str(behind[0] + 2.0), *map(str, behind[1:])]
    far = numbers_of(tmp_path, place_map, image, "--mount", *mount)["groups"][0]["pose"]
    assert np.linalg.norm(np.subtract(far["position"], near["position"])) == pytest.approx(2.0, abs=0.01)
    assert far["semi_axis_95_m"] > near["semi_axis_95_m"]


@pytest.mark.parametrize(
    ("made", "why"),
    [
        ({"pictures": False}, "the map has no readable picture of the place"),
        ({"k": False, "places": 2}, "the map has no intrinsics of the camera that saw the place"),
        ({"places": 1}, "no other place near it looks the same way"),
        ({"spot": True}, "no other place near it looks the same way"),
        ({"metric": False}, "the map is a sequence without metres"),
    ],
)
def test_a_map_that_can_give_no_pose_says_why(
    street: Street, image: Path, tmp_path: Path, made: dict[str, Any], why: str
) -> None:
    path = write_map(tmp_path / "poor.d2map", street, **made)
    found = numbers_of(tmp_path, path, image, "-o", tmp_path / "page.html")
    assert found["groups"]
    for group in found["groups"]:
        assert group["pose"] is None and why in group["no_pose"]
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "nan" not in re.sub(r'"data:[^"]*"', "", page.split("<body>")[1]).lower()
    seen_by_two_views = made.keys().isdisjoint({"pictures"})
    assert (found["groups"][0]["inliers"] > 25) == seen_by_two_views


def test_of_a_map_without_intrinsics_the_focal_length_is_found_and_said(
    street: Street, image: Path, tmp_path: Path
) -> None:
    found = numbers_of(tmp_path, write_map(tmp_path / "plain.d2map", street, k=False), image)
    assert "estimated from the map's poses" in found["intrinsics"]
    assert np.linalg.norm(np.array(found["groups"][0]["pose"]["position"]) - street.at.position) < 0.5


def test_a_picture_of_another_shape_has_no_intrinsics_of_the_map_s_and_is_told_so(
    street: Street, place_map: Path, tmp_path: Path
) -> None:
    found = numbers_of(tmp_path, place_map, write_image(tmp_path / "cut.jpg", street.aside[:180]))
    assert found["groups"][0]["inliers"] > 25
    assert "the map's camera has 320 x 240, another shape" in found["intrinsics"]
    assert found["focal_px"] is None
    estimated = found["groups"][0]["pose"] is not None
    assert any("focal length of this camera is estimated" in note for note in found["notes"]) == estimated


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_picture_of_one_colour_matches_nothing(place_map: Path, tmp_path: Path, level: int) -> None:
    flat = write_image(tmp_path / "flat.jpg", np.full((HEIGHT, WIDTH, 3), level, np.uint8))
    found = numbers_of(tmp_path, place_map, flat, "-o", tmp_path / "page.html")
    assert found["points"] == 0 and "the picture shows no points to match" in found["notes"]
    assert all(group["inliers"] == 0 and group["pose"] is None for group in found["groups"])


def test_noise_matches_nothing(place_map: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    found = numbers_of(tmp_path, place_map, write_image(tmp_path / "noise.jpg", noise))
    assert all(group["pose"] is None for group in found["groups"])


def test_an_optical_centre_far_off_the_middle_is_told(place_map: Path, image: Path, tmp_path: Path) -> None:
    (tmp_path / "k.txt").write_text("96 0 80\n0 96 60\n0 0 1\n", encoding="utf-8")  # of pictures half the size
    found = numbers_of(tmp_path, place_map, image, "--camera-info", tmp_path / "k.txt")
    assert any("optical centre is 25% of a side off" in note for note in found["notes"])


def test_what_cannot_be_matched_is_told_in_a_line(
    street: Street, place_map: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = image.read_bytes()
    png = cv2.imencode(".png", street.aside)[1].tobytes()
    files = {
        "text.jpg": (b"not a picture at all", "is no JPEG or PNG"),
        "empty.jpg": (b"", "is no JPEG or PNG"),
        "half.jpg": (whole[: len(whole) // 2], "is cut off"),
        "start.jpg": (whole[:10], "is cut off"),
        "half.png": (png[: len(png) // 2], "is cut off"),
    }
    for name, (content, said) in files.items():
        (tmp_path / name).write_bytes(content)
        assert d2vpr(["match", str(place_map), str(tmp_path / name)]) == 2
        error = capsys.readouterr().err
        assert name in error and said in error and len(error.splitlines()) == 1
    (tmp_path / "zero.txt").write_text("0 0 0\n0 0 0\n0 0 1\n", encoding="utf-8")
    (tmp_path / "wide.yaml").write_text(
        "image_width: 640\nimage_height: 360\ncamera_matrix: {data: [400, 0, 320, 0, 400, 180, 0, 0, 1]}\n", "utf-8"
    )
    (tmp_path / "there.html").write_text("kept", encoding="utf-8")
    for options, said in (
        (["--candidates", "0"], "--candidates 0: expected 1 to 200"),
        (["--camera-info", str(tmp_path / "zero.txt")], "zero.txt: not a camera matrix"),
        (["--camera-info", str(tmp_path / "wide.yaml")], "the picture is 320 x 240, its camera's intrinsics"),
        (["--mount", *"1230000"], "--mount: not a pose"),
        (["-o", str(tmp_path / "there.html")], "exists already"),
        (["-o", str(image), "--force"], "is an input"),
        (["--json", str(image)], "is an input"),
        (["-o", str(tmp_path / "x"), "--json", str(tmp_path / "x")], "both name"),
    ):
        assert d2vpr(["match", str(place_map), str(image), *options]) == 2
        assert said in capsys.readouterr().err
    assert d2vpr(["match", str(place_map), str(tmp_path)]) == 2
    assert "is a folder; expected one picture" in capsys.readouterr().err
    assert image.read_bytes() == whole and (tmp_path / "there.html").read_text(encoding="utf-8") == "kept"


def test_the_page_is_one_file_whose_strings_are_text(street: Street, tmp_path: Path) -> None:
    hostile = write_map(tmp_path / "street.d2map", street, name=HOSTILE)
    image = write_image(tmp_path / "<b>aside.jpg", street.aside)
    found = numbers_of(tmp_path, hostile, image, "-o", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script" not in page and "<b>" not in page and "&lt;b&gt;aside.jpg" in page
    links = re.findall(r'(?:href|src)="(.{16})', page)
    assert links and set(links) == {"data:image/jpeg;"}
    assert "http:" not in page and "https:" not in page and "url(" not in page
    groups = len(found["groups"])
    assert page.count('<svg class="pair"') == groups and page.count('<svg class="plan"') == groups + 1
    first = page.split('<svg class="pair"')[1].split("</svg>")[0]
    lines, rings = first.count("<line"), first.count('fill="none"')
    assert lines + rings == found["groups"][0]["inliers"] and lines > rings


def test_a_browser_shows_the_page_and_is_asked_for_nothing_else(
    place_map: Path, image: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    executable = find_browser()
    if executable is None:
        pytest.skip("no Chromium found (chromium, google-chrome, or D2VPR_CHROMIUM): the page is only parsed")
    numbers_of(tmp_path, place_map, image, "-o", tmp_path / "page.html")
    with browser(executable, tmp_path_factory.mktemp("profile")) as tab:
        tab.open(tmp_path / "page.html")
        assert tab["document.querySelector('svg.pair').getBoundingClientRect().width"] > 500
        assert (
            tab["document.querySelectorAll('svg.pair image').length"]
            == 2 * tab["document.querySelectorAll('svg.pair').length"]
        )
        assert tab.requests == [(tmp_path / "page.html").as_uri()]
        assert tab.complaints == []


def test_lines_of_inliers_end_where_the_points_are() -> None:
    seen, stored = np.array([[10.0, 20.0], [30.0, 40.0]]), np.array([[50.0, 60.0], [np.nan, np.nan]])
    svg = pair_svg(("data:,a", 100, 80), ("", 90, 70), seen, stored)
    assert 'x1="10.5" y1="20.5" x2="158.5" y2="60.5"' in svg  # 100 + 8 + 50.5
    assert svg.count("<line") == 1 and svg.count('fill="none"') == 1 and 'viewBox="0 0 198 80"' in svg


def test_the_reference_gives_every_number_of_the_json(place_map: Path, image: Path, tmp_path: Path) -> None:
    found = numbers_of(tmp_path, place_map, image)
    reference = (Path(__file__).resolve().parent.parent / "docs" / "reference.md").read_text(encoding="utf-8")
    section = reference.split("### The JSON of `d2vpr match`")[1].split("\n### ")[0]
    listed = set(re.findall(r"`(\w+)`", section))
    assert {*found, *found["groups"][0], *found["groups"][0]["pose"]} <= listed


@pytest.mark.parametrize("rows", [slice(0, 180), slice(60, 240)])
def test_a_cut_picture_is_right_within_its_covariance_or_has_no_pose(
    street: Street, place_map: Path, tmp_path: Path, rows: slice
) -> None:
    found = numbers_of(tmp_path, place_map, write_image(tmp_path / "cut.jpg", street.aside[rows]))["groups"][0]
    if found["pose"] is not None:
        off = np.array(found["pose"]["position"]) - street.at.position
        turned = (Rotation.from_quat(found["pose"]["quaternion"]) * street.at.rotation.inv()).as_rotvec()
        error, covariance = np.concatenate([off, turned]), np.reshape(found["pose"]["covariance"], (6, 6))
        assert error @ np.linalg.solve(covariance, error) < 22.5  # 99.9 % of six numbers


@pytest.mark.parametrize("flip", [cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE])
def test_a_camera_that_stands_on_its_head_or_side_gives_no_wrong_pose(
    street: Street, place_map: Path, tmp_path: Path, flip: int
) -> None:
    rgb = np.ascontiguousarray(cv2.rotate(street.aside, flip), np.uint8)
    assert all(
        group["pose"] is None
        for group in numbers_of(tmp_path, place_map, write_image(tmp_path / "f.jpg", rgb))["groups"]
    )
