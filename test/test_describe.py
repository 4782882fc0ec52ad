"""Descriptors come out of images of any size, and wrong weights are refused before anything is described."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from d2vpr_ros.describe import Extractor, Preprocessor
from d2vpr_ros.describe.extractor import weights_path
from d2vpr_ros.errors import UserError
from d2vpr_ros.model import D2VPR, NANO


@pytest.fixture(scope="module")
def extractor() -> Extractor:
    return Extractor.open(weights="nano", backend="torch", precision="exact")


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 255, (height, width, 3), dtype=np.uint8)


def test_images_of_any_size_become_unit_descriptors(extractor: Extractor) -> None:
    images = [noise(480, 640), noise(1080, 1920), noise(7, 5), noise(224, 224)]
    descriptors = extractor.describe(images)
    assert descriptors.shape == (4, 512)
    assert descriptors.dtype == np.float32
    assert np.allclose(np.linalg.norm(descriptors, axis=1), 1.0, atol=1e-5)


def test_no_images_give_no_descriptors(extractor: Extractor) -> None:
    assert extractor.describe([]).shape == (0, 512)


def test_a_descriptor_does_not_depend_on_what_else_is_described(extractor: Extractor) -> None:
    images = [noise(60, 80 + number) for number in range(20)]  # more than one batch
    together = extractor.describe(images)
    assert np.abs(together[17] - extractor.describe([images[17]])[0]).max() < 1e-5


def test_the_whole_descriptor_is_there_without_the_projection() -> None:
    whole = Extractor.open("nano", projection="none")
    assert whole.describe([noise(48, 64)]).shape == (1, NANO.descriptor_width)
    assert whole.identity.projection == ""


@pytest.mark.parametrize(
    "image", [np.zeros((0, 5, 3), np.uint8), np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3), np.float32)]
)
def test_what_is_no_rgb_image_is_refused(extractor: Extractor, image: np.ndarray) -> None:
    with pytest.raises(UserError, match="expected uint8 RGB"):
        extractor.describe([image])


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"weights": "huge"}, "no weights 'huge'.*nano"),
        ({"backend": "abacus"}, "choose one of auto, torch, onnxruntime"),
        ({"precision": "rough"}, "choose one of exact, fast"),
        ({"device": "tpu"}, "choose one of auto, cpu, cuda, tensorrt"),
    ],
)
def test_an_unknown_choice_lists_the_known_ones(choice: dict[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Extractor.open(**choice)


def test_weights_with_a_cross_image_encoder_are_refused(tmp_path: Path) -> None:
    torch.save(D2VPR(NANO, cross_image_encoder=True).state_dict(), tmp_path / "encoder.pth")
    with pytest.raises(UserError, match="depend on the other images"):
        Extractor.open(str(tmp_path / "encoder.pth"))


def test_a_projection_of_other_weights_is_refused(tmp_path: Path) -> None:
    torch.save(D2VPR(NANO).state_dict(), tmp_path / "mine.pth")
    shutil.copy(weights_path("nano").with_suffix(".pca512.safetensors"), tmp_path / "mine.pca512.safetensors")
    with pytest.raises(UserError, match="fitted for other weights"):
        Extractor.open(str(tmp_path / "mine.pth"))


def test_the_hash_tells_preprocessings_apart() -> None:
    assert Preprocessor().hash == Preprocessor().hash
    assert Preprocessor(size=322).hash != Preprocessor().hash
