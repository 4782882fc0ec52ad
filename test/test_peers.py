"""Other models beside ours: an ONNX file is fed what it wants, and an encoder shows that it depends on its batch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from golden_weights import fill, pictures
from onnx import TensorProto, helper

from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.errors import UserError
from d2vpr_ros.model import D2VPR, NANO, load_checkpoint
from models import fit_pca
from models.evaluate import main
from models.methods import descriptors, of_encoder
from models.peers import Preprocessing, of_onnx, of_tflite, parse_preprocessing

SIDE = 8


def onnx_file(
    path: Path, shape: Sequence[int | str], kind: int = TensorProto.FLOAT, nodes: Sequence[str] = ("Cast", "Flatten")
) -> Path:
    """A model whose descriptor is its input, as it came in."""
    steps, name = [], "images"
    for number, operator in enumerate(nodes):
        made = "descriptor" if number == len(nodes) - 1 else f"step{number}"
        given = {"to": TensorProto.FLOAT} if operator == "Cast" else {}
        steps.append(helper.make_node(operator, [name], [made], **given))
        name = made
    graph = helper.make_graph(
        steps,
        "peer",
        [helper.make_tensor_value_info("images", kind, shape)],
        [helper.make_tensor_value_info("descriptor", TensorProto.FLOAT, None)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def left_half_white(width: int = 32, height: int = 16) -> npt.NDArray[np.uint8]:
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2] = (255, 128, 0)
    return image


@pytest.mark.parametrize(
    ("words", "white"),
    [
        (["range=0..1"], [1.0, 128 / 255, 0.0]),
        (["range=-1..1"], [1.0, 128 / 127.5 - 1, -1.0]),
        (["range=0..255"], [255.0, 128.0, 0.0]),
        (["range=imagenet"], [(1 - 0.485) / 0.229, (128 / 255 - 0.456) / 0.224, -0.406 / 0.225]),
    ],
)
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_a_peer_gets_its_range_and_layout(tmp_path: Path, words: list[str], white: list[float], layout: str) -> None:
    preprocessing = parse_preprocessing([f"size={SIDE}", f"layout={layout}", *words])
    shape = ["n", 3, SIDE, SIDE] if layout == "nchw" else ["n", SIDE, SIDE, 3]
    method = of_onnx(onnx_file(tmp_path / "peer.onnx", shape), preprocessing)
    given = method.describe([left_half_white(), left_half_white()]).reshape(2, *preprocessing(left_half_white()).shape)
    corner = given[1, :, 0, 0] if layout == "nchw" else given[1, 0, 0]
    assert corner == pytest.approx(white, abs=1e-5)


def test_squash_sees_the_whole_picture_and_crop_its_middle() -> None:
    image = np.zeros((16, 48, 3), np.uint8)
    image[:, 16:32] = 255  # the middle square
    squashed, cropped = (Preprocessing(SIDE, "0..255", "nhwc", fit)(image)[..., 0] for fit in ("squash", "crop"))
    assert cropped.min() == 255.0 and squashed[:, [0, -1]].max() == 0.0


@pytest.mark.parametrize(
    ("shape", "kind"), [([1, 3, SIDE, SIDE], TensorProto.FLOAT), (["n", 3, SIDE, SIDE], TensorProto.UINT8)]
)
def test_a_peer_of_one_image_a_run_or_of_bytes_gives_one_row_an_image(
    tmp_path: Path, shape: list[int | str], kind: int
) -> None:
    method = of_onnx(onnx_file(tmp_path / "peer.onnx", shape, kind), Preprocessing(SIDE, "0..255"))
    assert method.describe([left_half_white()] * 3).shape == (3, 3 * SIDE * SIDE)


def test_a_peer_stands_beside_ours_in_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, image in enumerate(pictures(3, 32)):
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / folder / f"{number}.png"), image)
    peer = onnx_file(tmp_path / "their model.onnx", ["n", 3, SIDE, SIDE])
    words = ["--onnx", str(peer), "--preprocessing", f"size={SIDE}", "--json", str(tmp_path / "n.json")]
    assert main([*words, "--database", str(tmp_path / "a"), "--queries", str(tmp_path / "b"), "--tolerance", "0"]) == 0
    assert "| nano | their model | thumbnail |" in capsys.readouterr().out
    written = json.loads((tmp_path / "n.json").read_text())
    said = [each["said"] for each in written["results"][0]["methods"]]
    assert "Preprocessing(size=8, range='imagenet', layout='nchw', fit='squash')" in said[1]
    assert "--onnx" in written["command"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["colour=bgr"], "expected fit, layout, range, size, each at most once"),
        (["size=8", "size=9"], "each at most once"),
        (["size=big"], "side in pixels"),
        (["range=0..2"], "expected one of imagenet, 0..1"),
    ],
)
def test_a_preprocessing_that_is_none_is_told(words: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told.replace(".", r"\.")):
        parse_preprocessing(words)


def test_a_file_that_is_no_peer_is_told(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(UserError, match=r"broken\.onnx: ONNX Runtime does not open it"):
        of_onnx(tmp_path / "broken.onnx", Preprocessing())
    with pytest.raises(UserError, match=r"expected one input of images .* found images tensor"):
        of_onnx(onnx_file(tmp_path / "flat.onnx", ["n", 8]), Preprocessing())
    with pytest.raises(UserError, match=r"fails on images of shape \(1, 3, 224, 224\)"):
        of_onnx(onnx_file(tmp_path / "small.onnx", ["n", 3, SIDE, SIDE]), Preprocessing()).describe([left_half_white()])
    with pytest.raises(UserError, match=r"first output is .* expected"):
        unpooled = onnx_file(tmp_path / "map.onnx", ["n", 3, SIDE, SIDE], nodes=("Relu",))
        of_onnx(unpooled, Preprocessing(SIDE)).describe([left_half_white()])
    (tmp_path / "broken.tflite").write_bytes(b"no model either")
    with pytest.raises(UserError, match=r"broken\.tflite: the interpreter does not open it"):
        of_tflite(tmp_path / "broken.tflite")


def test_an_encoder_s_descriptors_depend_on_the_batch_and_the_shuffled_run_shows_it(tmp_path: Path) -> None:
    path = tmp_path / "encoder.pth"
    torch.save(fill(D2VPR(NANO, cross_image_encoder=True)).state_dict(), path)
    images = list(pictures(5, 64))
    ordered, shuffled = of_encoder(str(path), 2, "none", shuffled=True)
    in_order, mixed = (
        descriptors(method, images, tmp_path / f"{number}.npy", "images")
        for number, method in enumerate((ordered, shuffled))
    )
    network = load_checkpoint(path)
    with torch.inference_mode():
        batches = [network(Preprocessor()(images[start : start + 2])).numpy() for start in (0, 2, 4)]
    assert np.allclose(in_order, np.concatenate(batches), atol=1e-6)
    assert np.abs(in_order - mixed).max() > 1e-4
    one, one_mixed = of_encoder(str(path), 1, "none", shuffled=True)
    alone = [descriptors(each, images, tmp_path / "alone.npy", "images").copy() for each in (one, one_mixed)]
    assert np.allclose(*alone, atol=1e-6)


def test_a_projection_is_fitted_for_an_encoder_s_batches_and_belongs_to_those_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, out = tmp_path / "encoder.pth", tmp_path / "encoder.pca4.safetensors"
    torch.save(fill(D2VPR(NANO, cross_image_encoder=True)).state_dict(), weights)
    for number, image in enumerate(pictures(10, 32)):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "pictures" / f"{number}.png"), image)
    words = ["--pictures", str(tmp_path / "pictures"), "--width", "4", "--encoder-batch", "3", "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["fit_pca", "--weights", str(weights), *words])
    assert fit_pca.main() == 0
    (method,) = of_encoder(str(weights), 3, str(out), shuffled=False)
    shortened = method.describe(list(pictures(3, 32)))
    assert shortened.shape == (3, 4) and np.allclose(np.linalg.norm(shortened, axis=1), 1.0, atol=1e-5)
    own = [str(tmp_path / "pictures")] * 2
    command = ["--weights", str(weights), "--encoder-batch", "3", "--shuffled", "--projection", str(out)]
    assert main([*command, "--database", own[0], "--queries", own[1], "--tolerance", "0", "--no-thumbnail"]) == 0
    assert "| batch 3 | batch 3, shuffled |" in capsys.readouterr().out
    other = tmp_path / "other.pth"
    torch.save(D2VPR(NANO, cross_image_encoder=True).state_dict(), other)
    with pytest.raises(UserError, match="was fitted for other weights"):
        of_encoder(str(other), 3, str(out), shuffled=False)


def footage(folder: Path, name: str, rows: list[str]) -> None:
    """As the real footage: a table, and images beside it."""
    (folder / name / "images").mkdir(parents=True)
    (folder / name / "poses.csv").write_text("\n".join(rows))
    for row in rows[1:]:
        file, place = row.split(",")[:2]
        image = np.kron(
            np.random.default_rng(int(place)).integers(0, 256, (4, 6, 3), np.uint8), np.ones((8, 8, 1), np.uint8)
        )
        cv2.imwrite(str(folder / name / file), image)


def test_footage_keeps_its_own_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = [f"images/{season}_{place}.png,{place},season_0{season},0,0,0" for season in (0, 1) for place in range(3)]
    footage(tmp_path, "grief_stromovka_pairs", ["filename,place,traverse,x,y,z", *pairs])
    loop = [f"images/{number}.png,{number},-,{3 * number},0," for number in range(6)]
    footage(tmp_path, "campus_loop_ros", ["filename,place,traverse,x,y,z", *loop])
    out = tmp_path / "numbers.json"
    assert main(["--footage", str(tmp_path), "--only", "snow", "campus", "--json", str(out)]) == 0
    assert "| snow pairs, +-1 | place +-1 | 3 | 3 |" in capsys.readouterr().out
    results = {each["benchmark"]: each for each in json.loads(out.read_text())["results"]}
    assert results["snow pairs"]["methods"][1]["recall"]["1"] == 1.0  # the thumbnail knows equal pictures
    assert (results["campus loop"]["database"], results["campus loop"]["queries"]) == (3, 3)
