"""A projection is fitted a batch at a time, the same way each time, and belongs to the maps made with it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from places import straight_street, unit_rows, write_places
from sklearn.decomposition import PCA

from d2vpr_ros.describe import Extractor
from d2vpr_ros.describe.projection import Projection
from d2vpr_ros.describe.weights import weights_path
from d2vpr_ros.errors import UserError
from d2vpr_ros.mapping import check_model
from models.fit_pca import fit, main

WIDTH = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 pictures of coloured blocks."""
    path, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for number in range(40):
        blocks = random.integers(0, 256, (5, 6, 3), dtype=np.uint8)
        cv2.imwrite(str(path / f"{number:02}.png"), np.kron(blocks, np.ones((16, 16, 1), np.uint8)))
    return path


def fitted(folder: Path, out: Path) -> Path:
    assert main_of("--pictures", str(folder), "--width", str(WIDTH), "--out", str(out)) == 0
    return out


def main_of(*words: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["fit_pca", *words])
        return main()


def test_the_same_pictures_give_the_same_file(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = fitted(folder, tmp_path / "a.safetensors"), fitted(folder, tmp_path / "b.safetensors")
    assert first.read_bytes() == second.read_bytes()
    assert "projected  R@1" in capsys.readouterr().out  # what it costs is said


def test_fitting_in_batches_finds_the_directions_of_fitting_at_once() -> None:
    random = np.random.default_rng(0)
    rows = (random.normal(size=(600, 40)) * np.geomspace(10, 0.01, 40) + 3).astype(np.float32)
    mean, components = fit(iter(np.array_split(rows, 19)), WIDTH, whitening=0.0)
    at_once = PCA(WIDTH, svd_solver="full").fit(rows)
    assert np.allclose(mean, at_once.mean_, atol=1e-3)
    alignment = np.linalg.norm(components.astype(float) @ at_once.components_.T, axis=1)
    assert np.allclose(alignment, 1.0, atol=5e-3)
    assert np.allclose(np.linalg.norm(components.astype(float), axis=1), 1.0, atol=1e-3)  # not whitened


def test_half_whitening_leaves_the_square_root_of_a_direction_s_spread() -> None:
    random = np.random.default_rng(0)
    rows = (random.normal(size=(2000, 4)) * [16, 4, 1, 0.25]).astype(np.float32)
    mean, components = fit(iter([rows]), 4, whitening=0.5)
    spreads = ((rows - mean) @ components.astype(float).T).std(axis=0)
    assert spreads / spreads[0] == pytest.approx([1, 1 / 2, 1 / 4, 1 / 8], rel=0.1)


def test_a_projection_s_file_holds_directions_at_right_angles(folder: Path, tmp_path: Path) -> None:
    own, bundled = fitted(folder, tmp_path / "own.safetensors"), weights_path("nano").with_suffix(".pca512.safetensors")
    for file in (own, bundled):
        components = Projection.load(file).components
        directions = components / np.linalg.norm(components, axis=1, keepdims=True)
        assert np.allclose(directions @ directions.T, np.eye(len(directions)), atol=0.01)


def test_a_map_made_with_a_projection_of_its_own_is_refused_without_it(folder: Path, tmp_path: Path) -> None:
    own = Extractor.open("nano", projection=str(fitted(folder, tmp_path / "own.safetensors")))
    assert own.width == WIDTH and own.identity.projection_fitted_on == f"36 pictures of {folder.name}"
    path, descriptors = tmp_path / "street.d2map", unit_rows(3, seed=1, width=WIDTH)
    place_map = write_places(path, straight_street(3), descriptors, own.identity)
    check_model(place_map, own.identity)
    assert place_map.header.model.projection_fitted_on == own.identity.projection_fitted_on
    with pytest.raises(UserError, match="the projection it was made with"):
        check_model(place_map, Extractor.open("nano").identity)


def test_what_is_no_pictures_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main_of("--pictures", str(tmp_path)) == 2
    assert str(tmp_path) in capsys.readouterr().err
    assert main_of("--pictures", str(tmp_path / "gone.d2map")) == 2
    assert "expected a folder of images" in capsys.readouterr().err


def test_too_few_pictures_are_counted(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main_of("--pictures", str(folder), "--width", "20", "--out", str(tmp_path / "p.safetensors")) == 2
    assert "needs 40 pictures or more, got 36" in capsys.readouterr().err
