"""Exported weights describe images as torch does; files of strangers are refused before they run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from d2vpr_ros.cli.main import main
from d2vpr_ros.describe import Extractor, gate
from d2vpr_ros.describe.gate_pictures import gate_pictures
from d2vpr_ros.describe.onnx_export import export
from d2vpr_ros.describe.onnx_file import metadata_of, read_onnx
from d2vpr_ros.describe.weights import weights_path
from d2vpr_ros.errors import UserError

NANO = weights_path("nano")
PICTURES = list(gate_pictures(3))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "nano.onnx"
    export(NANO, path, images=PICTURES)
    return path


@pytest.mark.parametrize("opset", [17, 20])
def test_an_exported_file_describes_any_number_of_images_as_torch_does(opset: int, tmp_path: Path) -> None:
    path = tmp_path / "nano.onnx"
    assert export(NANO, path, opset=opset, images=PICTURES).difference < 1e-5
    assert onnx.load(path).opset_import[0].version == opset
    images = [*PICTURES, *PICTURES[:2]]
    there, here = Extractor.open(str(path)).describe(images), Extractor.open("nano", device="cpu").describe(images)
    assert np.einsum("nd,nd->n", there, here).min() > 0.9999
    assert there.shape == here.shape == (5, 512)


def test_the_verb_says_what_a_form_was_found_to_change_on_footage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "nano", "-o", str(tmp_path / "half.onnx"), "--precision", "fp16"]) == 0
    assert "precision fast does not use it" in capsys.readouterr().out


def test_the_verb_says_how_near_the_file_is_to_torch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "whole.onnx"
    assert main(["export", "nano", "-o", str(out), "--projection", "none"]) == 0
    assert "against torch in float32 on 12 drawn images: cosine 1.000000 or more" in capsys.readouterr().out
    assert Extractor.open(str(out)).width == 14 * 192
    assert main(["export", "nano", "-o", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_reduced_file_is_near_enough_and_not_taken_for_an_exact_one(precision: str, tmp_path: Path) -> None:
    path = tmp_path / "nano.onnx"
    exact = NANO.stat().st_size
    assert export(NANO, path, precision=precision, images=PICTURES).kept.refusal == ""
    assert path.stat().st_size < 2 * exact  # the weights file is float16
    with pytest.raises(UserError, match=f"'{precision}'; nodes run it with precision:=fast"):
        Extractor.open(str(path), precision="exact")


def test_in_half_precision_norms_softmax_and_the_aggregator_stay_float32(tmp_path: Path) -> None:
    export(NANO, tmp_path / "half.onnx", precision="fp16", images=PICTURES)
    graph = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "half.onnx")).graph
    halves = {info.name for info in graph.value_info if info.type.tensor_type.elem_type == TensorProto.FLOAT16}
    halves |= {constant.name for constant in graph.initializer if constant.data_type == TensorProto.FLOAT16}
    kinds = {node.op_type for node in graph.node if halves & {*node.input, *node.output}}
    assert kinds == {"MatMul", "Conv", "Cast"}
    assert not any("aggregation" in node.name for node in graph.node if halves & set(node.input))


def test_a_file_that_differs_too_much_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "MIN_COSINE", 1.1)  # nothing is that close
    with pytest.raises(UserError, match=r"is not written: .* cosine to float32 [01]\.\d+, less than 1\.1"):
        export(NANO, tmp_path / "nano.onnx", precision="int8", images=PICTURES)
    assert not list(tmp_path.iterdir())


def a_graph(*nodes: onnx.NodeProto, constants: tuple[TensorProto, ...] = ()) -> onnx.ModelProto:
    """A model with the right input and output, and some nodes."""
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 224, 224, 3])
    descriptors = helper.make_tensor_value_info("descriptors", TensorProto.FLOAT, ["batch", 512])
    graph = helper.make_graph(nodes, "g", [images], [descriptors], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata_of(Extractor.open("nano").identity, "exact"))
    return model


def elsewhere() -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(3, np.float32), "weights")
    onnx.external_data_helper.set_external_data(tensor, location="../../etc/passwd")
    tensor.ClearField("raw_data")
    return tensor


def a_loop() -> onnx.NodeProto:
    body = helper.make_graph([], "body", [], [])
    return helper.make_node("Loop", ["", "forever"], [], body=body)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (a_graph(constants=(elsewhere(),)), "keeps its weights in other files"),
        (a_graph(helper.make_node("Constant", [], ["c"], value=elsewhere())), "keeps its weights in other files"),
        (a_graph(a_loop()), "holds loops or branches"),
        (a_graph(helper.make_node("Open", [], [], domain="com.stranger")), "asks for operators from elsewhere"),
        (a_graph(helper.make_node("Nonsense", ["images"], ["descriptors"])), "cannot be run by ONNX Runtime"),
        (onnx.ModelProto(), "is damaged or no ONNX model"),
    ],
)
def test_a_strangers_graph_is_refused_in_one_line(model: onnx.ModelProto, said: str, tmp_path: Path) -> None:
    path = tmp_path / "stranger.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=said) as refused:
        Extractor.open(str(path))
    assert "\n" not in str(refused.value)


def test_a_file_that_does_not_say_what_it_is_or_takes_something_else_is_refused(tmp_path: Path, exported: Path) -> None:
    model = onnx.load(exported)
    helper.set_model_props(model, {"d2vpr_ros.identity": '{"architecture": 3}'})
    (tmp_path / "nameless.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="does not say which weights it was made from"):
        Extractor.open(str(tmp_path / "nameless.onnx"))
    cast = helper.make_node("Cast", ["images"], ["descriptors"], to=TensorProto.FLOAT)
    other = a_graph(cast)
    other.graph.output[0].CopyFrom(helper.make_tensor_value_info("descriptors", TensorProto.FLOAT, ["n", 224, 224, 3]))
    (tmp_path / "other.onnx").write_bytes(other.SerializeToString())
    with pytest.raises(UserError, match=r"expected uint8 \(N, 224, 224, 3\) and float32 \(N, numbers\)"):
        Extractor.open(str(tmp_path / "other.onnx"))


def test_random_damage_to_a_file_is_read_or_refused_and_nothing_else(exported: Path, tmp_path: Path) -> None:
    content, random = exported.read_bytes(), np.random.default_rng(0)
    path = tmp_path / "damaged.onnx"
    structure = [at for at in range(len(content)) if at < 20_000 or at > len(content) - 2_000]
    for _ in range(20):
        damaged = bytearray(content)
        for at in random.choice(structure, 4):
            damaged[at] = random.integers(256)
        path.write_bytes(damaged[: random.choice([len(content), random.integers(len(content))])])
        try:
            read_onnx(path)
        except UserError as error:
            assert "\n" not in str(error)
