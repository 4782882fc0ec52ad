"""`d2vpr bench` measures every way to run the network that is here, and says so in words and in JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from d2vpr_ros.bench.startup import measure_start_up
from d2vpr_ros.cli.main import main
from d2vpr_ros.describe.extractor import PRECISIONS
from d2vpr_ros.describe.onnx_export import export
from d2vpr_ros.model import D2VPR, AdapterWidths, D2VPRConfig
from models.run_folder import write_weights


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a network that takes no time."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    write_weights(D2VPR(D2VPRConfig("tiny", 24, 2, 3, (1, 2), AdapterWidths(12, 6, 3, 3), 24, 8, 8, 4, 4)), path)
    return path


def test_all_backends_presets_and_batches_are_measured_and_a_peer_beside_them(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    peer, found = tmp_path / "peer.onnx", tmp_path / "bench.json"
    export(tiny, peer, "none")
    words = ["--weights", str(tiny), "--rounds", "1", "--batch", "1", "2", "--no-start-up"]
    words += ["--onnx", str(peer), "--json", str(found)]
    assert main(["bench", *words]) == 0
    said, numbers = capsys.readouterr().out, json.loads(found.read_text())
    ways = {(row["backend"], row["preset"], row["batch"]) for row in numbers["speeds"] if not row["note"]}
    assert {(b, "exact", n) for b in ("torch", "onnxruntime") for n in (1, 2)} <= ways
    assert {row["preset"] for row in numbers["speeds"]} == {*PRECISIONS, ""}
    assert all(row["images_per_s"] > 0 for row in numbers["speeds"] if not row["note"])
    assert [row["name"] for row in numbers["speeds"] if not row["preset"]] == ["peer.onnx"] * 2
    assert [row["name"] for row in numbers["stages"]] == ["decode", "preprocess", "describe", "search", "match"]
    assert "| peer.onnx | onnxruntime | cpu | - | 2 |" in said


def test_start_up_is_taken_apart_in_a_process_of_its_own() -> None:
    start = measure_start_up("nano", "torch", "cpu", "default", None)
    assert min(start.python_s, start.import_s, start.open_s, start.first_s) > 0
    assert 100 < start.peak_mb < 2000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rounds", "0"], "expected numbers above 0"),
        (["--weights", "enormous"], "no weights 'enormous'"),
        (["--rounds", "1", "--onnx", "nowhere.onnx"], "nowhere.onnx cannot be read"),
    ],
)
def test_what_cannot_be_measured_is_said(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *words]) == 2
    assert said in capsys.readouterr().err
