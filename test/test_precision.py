"""The preset `fast` runs what is faster here and close enough, says what, and remembers it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from d2vpr_ros.describe import precision
from d2vpr_ros.describe.gate_pictures import gate_pictures
from d2vpr_ros.describe.precision import MIN_COSINE, apply, least_cosine
from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.describe.weights import weights_path
from d2vpr_ros.errors import UserError
from d2vpr_ros.model import FusedD2VPR, fuse, load_checkpoint
from d2vpr_ros.model.reduced import half, int8


@pytest.fixture(scope="module")
def fused() -> FusedD2VPR:
    model: FusedD2VPR = fuse(load_checkpoint(weights_path("nano")))  # type: ignore[arg-type]
    return model


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return Preprocessor()(list(gate_pictures(2)))


def test_exact_is_the_network_itself(fused: FusedD2VPR) -> None:
    model, report = apply(fused, "exact", "cpu")
    assert model is fused
    assert (report.form, report.cosine) == ("float32", 1.0)


@torch.inference_mode()
def test_int8_describes_nearly_as_float32_does(fused: FusedD2VPR, images: torch.Tensor) -> None:
    reduced = int8(fused)
    assert least_cosine(fused, reduced, images) >= MIN_COSINE
    assert not torch.equal(reduced(images), fused(images))
    assert any(isinstance(layer, nn.Linear) for layer in fused.backbone.blocks.modules())  # left as it was


@torch.inference_mode()
def test_an_int8_descriptor_does_not_depend_on_its_batch(fused: FusedD2VPR, images: torch.Tensor) -> None:
    reduced = int8(fused)
    blank = torch.full_like(images[:1], 40.0)  # would stretch a scale that the batch shared
    assert float((reduced(torch.cat([images, blank]))[:2] - reduced(images)).abs().max()) < 1e-5


@torch.inference_mode()
def test_sixteen_bits_keep_the_aggregation_in_float32(fused: FusedD2VPR, images: torch.Tensor) -> None:
    reduced = half(fused, torch.bfloat16)
    assert reduced(images[:1]).dtype == torch.float32
    assert least_cosine(fused, reduced, images[:1]) >= MIN_COSINE


def test_fast_says_what_it_took_and_why_and_finds_it_again(
    fused: FusedD2VPR, images: torch.Tensor, tmp_path: Path
) -> None:
    file = tmp_path / "new" / "precision.json"
    model, report = apply(fused, "fast", "cpu", cache=file)
    assert report.form in ("float32", "int8", "bfloat16")
    assert report.cosine >= MIN_COSINE
    assert "matrix units" in report.reason  # which of them this processor has
    assert least_cosine(fused, model, images) >= MIN_COSINE

    kept = json.loads(file.read_text())
    assert len(kept) == 1
    (key,) = kept
    kept[key]["reason"] = "found in the file"
    file.write_text(json.dumps(kept))
    assert apply(fused, "fast", "cpu", cache=file)[1].reason == "found in the file"
    assert apply(fused, "fast", "cpu", cache=file, weights_sha256="0" * 64)[1].reason != "found in the file"


def test_what_strays_too_far_is_refused_and_exact_runs(
    fused: FusedD2VPR, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "MIN_COSINE", 1.1)  # nothing is that close
    model, report = apply(fused, "fast", "cpu", cache=tmp_path / "precision.json")
    assert model is fused
    assert report.form == "float32"
    assert "exact float32 runs" in report.reason
    assert "int8: cosine to float32 0.99" in report.reason


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"a": 1}', '{"a": {"form": "int8"}}', "\x00\xff" * 50, '{"a": {"preset": []}}']
)
def test_a_damaged_cache_is_no_cache(tmp_path: Path, content: str) -> None:
    file = tmp_path / "precision.json"
    file.write_text(content)
    assert precision._read(file) == {}
    precision._write(file, "key", precision.PrecisionReport("fast", "int8", 0.9995, 1.5, "why"))
    assert precision._read(file)["key"].form == "int8"


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    precision._write(tmp_path / "file" / "precision.json", "key", precision.PrecisionReport("fast", "int8", 1, 2, ""))
    assert (tmp_path / "file").read_text() == "in the way"


def test_the_images_given_are_those_it_is_tried_on(fused: FusedD2VPR, tmp_path: Path) -> None:
    file = tmp_path / "precision.json"
    site = [np.full((48, 64, 3), 90, np.uint8), gate_pictures(1, 60)[0]]
    _, report = apply(fused, "fast", "cpu", images=site, cache=file)
    assert report.cosine >= MIN_COSINE
    assert not file.exists()


def test_an_unknown_preset_lists_the_known_ones(fused: FusedD2VPR) -> None:
    with pytest.raises(UserError, match="choose one of exact, fast"):
        apply(fused, "rough", "cpu")


def test_the_pictures_it_is_tried_on_are_always_the_same_and_all_different() -> None:
    two = gate_pictures(2, 64)
    assert np.array_equal(gate_pictures(3, 64)[:2], two)
    assert two.std(axis=(1, 2)).min() > 5  # none is blank
    assert not np.array_equal(two[0], two[1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@torch.inference_mode()
def test_a_network_on_a_gpu_is_fused_and_described_with_in_half_precision(images: torch.Tensor) -> None:
    model = load_checkpoint(weights_path("nano"))
    fused = fuse(model.cuda()).cuda()  # type: ignore[arg-type]
    on_gpu, on_cpu = fused(images.cuda()).cpu(), fuse(model)(images)  # type: ignore[arg-type]
    assert float((on_gpu - on_cpu).abs().max()) < 1e-4
    assert least_cosine(fused, half(fused, torch.float16), images.cuda()) >= MIN_COSINE
