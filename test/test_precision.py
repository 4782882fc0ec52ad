"""The preset `fast` runs what is faster here and close enough, says what, and remembers it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from d2vpr_ros.describe import Extractor, gate, precision
from d2vpr_ros.describe.findings import PrecisionReport, read_findings, write_finding
from d2vpr_ros.describe.gate import MIN_COSINE, compare, footage_refusals, trial, write_changes
from d2vpr_ros.describe.gate_pictures import changed_view, gate_pictures, gate_places
from d2vpr_ros.describe.precision import apply
from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.describe.weights import file_sha256, weights_path
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


@torch.inference_mode()
def least_cosine(model: FusedD2VPR, other: FusedD2VPR, batch: torch.Tensor) -> float:
    return min(float((model(image) * other(image)).sum()) for image in torch.split(batch, 1))


@pytest.fixture
def speed_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """int8 is tried, whatever units this processor has."""
    monkeypatch.setattr(precision, "MIN_GAIN", 0.0)
    monkeypatch.setattr(precision, "_gain", lambda *_: 2.0)  # a busy machine measures anything
    monkeypatch.setattr(precision, "_candidates", lambda _: ["int8"])


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
    file, site = tmp_path / "new" / "precision.json", list(gate_pictures(2))
    model, report = apply(fused, "fast", "cpu", images=site, cache=file)
    assert report.form in ("float32", "int8", "bfloat16")
    assert report.cosine >= MIN_COSINE
    assert "matrix units" in report.reason  # which of them this processor has
    assert least_cosine(fused, model, images) >= MIN_COSINE

    kept = json.loads(file.read_text())
    assert len(kept) == 1
    (key,) = kept
    kept[key]["reason"] = "found in the file"
    file.write_text(json.dumps(kept))
    assert apply(fused, "fast", "cpu", images=site, cache=file)[1].reason == "found in the file"
    others = apply(fused, "fast", "cpu", images=site, cache=file, weights_sha256="0" * 64)[1]
    assert others.reason != "found in the file"


@pytest.mark.usefixtures("speed_does_not_matter")
def test_what_strays_too_far_is_refused_and_exact_runs(
    fused: FusedD2VPR, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "MIN_COSINE", 1.1)  # nothing is that close
    model, report = apply(fused, "fast", "cpu", images=list(gate_pictures(2)), cache=tmp_path / "precision.json")
    assert model is fused
    assert report.form == "float32"
    assert "so float32 runs" in report.reason
    assert "int8: cosine to float32 " in report.reason
    assert ", less than 1.1;" in report.reason


@pytest.mark.usefixtures("speed_does_not_matter")
def test_a_form_that_finds_the_same_places_in_the_maps_own_pictures_is_taken_and_kept(
    fused: FusedD2VPR, tmp_path: Path
) -> None:
    file, site = tmp_path / "precision.json", list(gate_pictures(3, 60))
    _, report = apply(fused, "fast", "cpu", images=site, cache=file)
    assert report.form == "int8"
    assert report.cosine >= MIN_COSINE
    assert len(read_findings(file)) == 1
    apply(fused, "fast", "cpu", images=site, cache=file)
    assert len(read_findings(file)) == 1
    apply(fused, "fast", "cpu", images=site[:2], cache=file)
    assert len(read_findings(file)) == 2  # other pictures are another trial


def test_a_single_view_that_finds_another_place_refuses_a_form_however_near_its_descriptors() -> None:
    angles = np.radians([0.0, 2.0, 40.0, 60.0, 0.999, 2.1, 40.1, 60.1])  # the first view is half way between two places
    exact = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert compare(exact, exact).refusal == ""
    angles[4] += np.radians(0.05)
    other = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    kept = compare(exact, other)
    assert kept.cosine > 0.99999
    assert kept.refusal == "25.0 % of the views find another place than float32, more than 0.5"


def test_descriptors_that_are_no_numbers_are_refused() -> None:
    exact = np.eye(4, dtype=np.float32)
    assert compare(exact, np.full_like(exact, np.nan)).refusal.startswith("cosine to float32 nan")


def test_it_is_tried_on_places_that_resemble_each_other_and_a_changed_view_of_each() -> None:
    places = gate_places(64)
    assert len(places) == 16
    assert np.array_equal(places[0][:, 8:], places[1][:, :-8])
    pictures = trial(Preprocessor().squash, places[:3])
    assert pictures.shape == (6, 224, 224, 3)
    views = [changed_view(places[0], number) for number in (0, 0, 1)]
    assert np.array_equal(views[0], views[1])
    assert not np.array_equal(views[0], views[2])


def test_a_form_that_is_known_to_lose_recall_on_footage_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(precision, "_candidates", lambda _: ["int8"])
    weights = Path(shutil.copy(weights_path("nano"), tmp_path))
    sha256 = file_sha256(weights)
    largest = {"int8": (-2.8, "campus loop (36 images)"), "onnx-int8": (1.3, "snow"), "onnx-fp16": (0.4, "snow")}
    write_changes(weights, sha256, largest)
    assert footage_refusals(weights, sha256).keys() == {"int8", "onnx-int8"}
    caplog.set_level("INFO")
    Extractor.open(str(weights), "torch", "fast", "cpu", images=list(gate_pictures(2)))
    said = "int8: recall@1 on campus loop (36 images) changes by -2.8 points, more than 0.5"
    assert said in caplog.messages[-1]
    assert "\n" not in caplog.messages[-1]
    Extractor.open(str(weights), "onnxruntime", "fast", "cpu")
    assert (
        caplog.messages[-1]
        == "precision fast: float32; onnx-int8: recall@1 on snow changes by +1.3 points, more than 0.5"
    )


def test_a_record_of_other_weights_says_nothing_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    weights = tmp_path / "site.safetensors"
    assert footage_refusals(weights, "1" * 64) == {}
    record = write_changes(weights, "0" * 64, {"int8": (-5.0, "campus")})
    assert footage_refusals(weights, "1" * 64) == {}
    for content in ("[", "[1]", '{"weights_sha256": "1"}', '{"weights_sha256": "1", "largest_change": {"a": 3}}'):
        record.write_text(content)
        with pytest.raises(UserError, match="is no record"):
            footage_refusals(weights, "1")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"a": 1}', '{"a": {"form": "int8"}}', "\x00\xff" * 50, '{"a": {"preset": []}}']
)
def test_a_damaged_cache_is_no_cache(tmp_path: Path, content: str) -> None:
    file = tmp_path / "precision.json"
    file.write_text(content)
    assert read_findings(file) == {}
    write_finding(file, "key", PrecisionReport("fast", "int8", 0.9995, 1.5, "why"))
    assert read_findings(file)["key"].form == "int8"


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    write_finding(tmp_path / "file" / "precision.json", "key", PrecisionReport("fast", "int8", 1, 2, ""))
    assert (tmp_path / "file").read_text() == "in the way"


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
