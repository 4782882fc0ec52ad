"""Official weights arrive whole or not at all, and trained ones leave with what is known of them."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from golden_weights import fill
from safetensors import safe_open

from d2vpr_ros.cli.main import main
from d2vpr_ros.describe import Extractor
from d2vpr_ros.errors import UserError
from d2vpr_ros.model import D2VPR, NANO, load_checkpoint
from d2vpr_ros.weights.fetch import fetch, recorded_sha256
from d2vpr_ros.weights.official import OFFICIAL, OfficialFile
from models import export_weights

LARGEST_ERROR = 2e-3  # of float16: 11 bits


@dataclass
class Served:
    """What the server holds and does."""

    content: bytes
    version: str = '"1"'
    kind: str = "application/octet-stream"
    cut_after: int | None = None
    status: int | None = None
    ranges: list[str | None] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    """One file, with ranges; closes the connection in the middle where it is told to."""

    served: Served

    def do_GET(self) -> None:
        served, asked = self.served, self.headers.get("Range")
        served.ranges.append(asked)
        if served.status:
            self.send_error(served.status)
            return
        start = 0
        if asked and self.headers.get("If-Range") == served.version:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(served.content):
                self.send_error(416)
                return
        body = served.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", served.kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", served.version)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(served.content) - 1}/{len(served.content)}")
        self.end_headers()
        self.wfile.write(body[: served.cut_after])

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the tests print enough."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A published file in miniature: a pickled dict of tensors, names with `module.`."""
    path = tmp_path_factory.mktemp("published") / "nano.pth"
    state = fill(D2VPR(NANO)).state_dict()
    torch.save({"model_state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, path)
    return path.read_bytes()


@pytest.fixture
def server(checkpoint: bytes) -> Iterator[tuple[Served, OfficialFile]]:
    served = Served(checkpoint)
    handler = type("Serving", (Handler,), {"served": served})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{running.server_port}/nano.pth"
        yield served, OfficialFile("tiny", "a network", url, "https://example.org/view", "MIT", "example", "nano.pth")
        running.shutdown()
        thread.join()


def test_a_fetched_network_is_kept_in_float16_and_used_like_any_weights(
    server: tuple[Served, OfficialFile], tmp_path: Path, checkpoint: bytes
) -> None:
    path = fetch(server[1], tmp_path)
    assert path == tmp_path / "tiny.safetensors"
    assert path.stat().st_size < 0.6 * len(checkpoint)
    before = fill(D2VPR(NANO)).state_dict()
    for name, tensor in load_checkpoint(path).state_dict().items():
        assert torch.allclose(tensor.float(), before[name].float(), rtol=LARGEST_ERROR, atol=LARGEST_ERROR), name
    with safe_open(path, "pt") as file:
        assert file.metadata()["licence"] == "MIT" and file.metadata()["source"] == "https://example.org/view"
    assert Extractor.open(str(path)).width == NANO.descriptor_width
    assert (tmp_path / "nano.pth.sha256").read_text() == f"{hashlib.sha256(checkpoint).hexdigest()}  nano.pth\n"
    assert fetch(server[1], tmp_path) == path and len(server[0].ranges) == 1  # what is there is not fetched again


def test_an_interrupted_download_goes_on_where_it_ended(
    server: tuple[Served, OfficialFile], tmp_path: Path, checkpoint: bytes
) -> None:
    served, official = server
    served.cut_after = 1_000_000
    with pytest.raises(UserError, match=f"ended after 1000000 of {len(checkpoint)} bytes; run the same command again"):
        fetch(official, tmp_path)
    served.cut_after = None
    fetch(official, tmp_path)
    assert served.ranges == [None, "bytes=1000000-"]
    assert (tmp_path / "nano.pth").read_bytes() == checkpoint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nano.pth", "nano.pth.sha256", "tiny.safetensors"]


def test_a_file_that_changed_meanwhile_is_fetched_from_its_beginning(
    server: tuple[Served, OfficialFile], tmp_path: Path, checkpoint: bytes
) -> None:
    served, official = server
    served.cut_after = 1_000_000
    with pytest.raises(UserError):
        fetch(official, tmp_path)
    served.cut_after, served.version = None, '"2"'
    fetch(official, tmp_path)
    assert (tmp_path / "nano.pth").read_bytes() == checkpoint


def test_another_file_than_the_first_time_is_refused_and_nothing_is_lost(
    server: tuple[Served, OfficialFile], tmp_path: Path, checkpoint: bytes
) -> None:
    served, official = server
    kept = fetch(official, tmp_path).read_bytes()
    (tmp_path / "nano.pth").unlink()
    served.content = checkpoint + b"more"
    with pytest.raises(UserError, match=r"nano\.pth\.refused: SHA-256 .* is not the .* recorded in nano\.pth\.sha256"):
        fetch(official, tmp_path)
    assert (tmp_path / "tiny.safetensors").read_bytes() == kept
    assert (tmp_path / "nano.pth.refused").read_bytes() == served.content
    assert recorded_sha256(official, tmp_path) == hashlib.sha256(checkpoint).hexdigest()
    (tmp_path / "nano.pth").write_bytes(b"damaged on disk")
    with pytest.raises(UserError, match="if the change is intended"):
        fetch(official, tmp_path)


def test_a_page_for_people_is_no_file(server: tuple[Served, OfficialFile], tmp_path: Path) -> None:
    served, official = server
    served.content, served.kind = b"<html>Virus scan warning", "text/html; charset=utf-8"
    with pytest.raises(UserError, match=r"web page instead .* open https://example\.org/view .* --from FILE"):
        fetch(official, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_network_is_refused_and_not_recorded(server: tuple[Served, OfficialFile], tmp_path: Path) -> None:
    served, official = server
    served.content = b"not tensors at all"
    with pytest.raises(UserError, match="not a plain file of tensors"):
        fetch(official, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["nano.pth.refused"]
    with pytest.raises(UserError, match="no vision transformer"):
        served.content = b""
        torch.save({"a": torch.zeros(1)}, tmp_path / "brought.pth")
        fetch(replace(official, network=False), tmp_path, tmp_path / "brought.pth")


def test_a_server_that_is_gone_or_refuses_is_told_in_one_line(
    server: tuple[Served, OfficialFile], tmp_path: Path
) -> None:
    served, official = server
    served.status = 404
    with pytest.raises(UserError, match=r"127\.0\.0\.1 answered 404"):
        fetch(official, tmp_path)
    gone = replace(official, url="http://127.0.0.1:9/nano.pth")
    with pytest.raises(UserError, match=r"no connection to 127\.0\.0\.1 .*; without a network, .* --from"):
        fetch(gone, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be created for weights"):
        fetch(official, tmp_path / "file" / "weights")


def test_a_file_brought_otherwise_needs_no_network(
    server: tuple[Served, OfficialFile], tmp_path: Path, checkpoint: bytes
) -> None:
    brought = tmp_path / "from a stick.pth"
    brought.write_bytes(checkpoint)
    gone = replace(server[1], url="http://127.0.0.1:9/nano.pth")
    assert load_checkpoint(fetch(gone, tmp_path / "weights", brought)).config == NANO
    assert brought.read_bytes() == checkpoint and server[0].ranges == []


def test_the_list_names_every_file_with_its_licence_and_says_which_are_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / f"{OFFICIAL[-1].file_name}.sha256").write_text("0123abcd  file\n")
    assert main(["weights", "list", "--folder", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for official in OFFICIAL:
        assert official.name in printed and official.page in printed and official.licence in printed
    assert f"SHA-256 0123abcd in {tmp_path}" in printed
    assert printed.count("here    no") == len(OFFICIAL) - 1


def exported(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["export_weights", *words])
    return export_weights.main()


def test_a_training_run_leaves_as_float16_with_its_recipe_and_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = tmp_path / "run", tmp_path / "mine.safetensors"
    assert exported(monkeypatch, "--run", str(run), "--out", str(out)) == 2
    assert "no config.yaml and run.json" in capsys.readouterr().err
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_text("stage: distill\n")
    facts = {"data_described": "9 places", "data_fingerprint": "ab", "git_revision": "cd", "starts_from": {}}
    (run / "run.json").write_text(json.dumps(facts))
    assert exported(monkeypatch, "--run", str(run), "--out", str(out)) == 2
    assert "the run has no weights yet" in capsys.readouterr().err
    state = {f"student.{name}": tensor for name, tensor in fill(D2VPR(NANO)).state_dict().items()}
    torch.save({"state_dict": state | {"teacher.x": torch.zeros(1)}, "epoch": 3}, run / "checkpoints" / "last.ckpt")
    assert exported(monkeypatch, "--run", str(run), "--out", str(out), "--licence", "MIT") == 0
    assert hashlib.sha256(out.read_bytes()).hexdigest() in capsys.readouterr().out
    with safe_open(out, "pt") as file:
        notes = file.metadata()
    assert notes["recipe"] == "stage: distill\n" and notes["data"] == "9 places" and notes["licence"] == "MIT"
    assert notes["taken_from"] == "checkpoints/last.ckpt" and notes["git_revision"] == "cd"
    assert load_checkpoint(out).config == NANO


def test_a_weight_that_float16_cannot_hold_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = D2VPR(NANO)
    with torch.no_grad():
        model.backbone.lin.bias[0] = 1e6
    torch.save(model.state_dict(), tmp_path / "wide.pth")
    out = tmp_path / "out.safetensors"
    assert exported(monkeypatch, "--weights", str(tmp_path / "wide.pth"), "--out", str(out)) == 2
    assert "backbone.lin.bias is not finite, or out of float16's range" in capsys.readouterr().err
    assert not out.exists()
