"""Other models beside ours without their code: an ONNX file and a description of what it wants its images to be."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.describe.resample import squash
from d2vpr_ros.errors import UserError
from models.methods import Image, Method

RANGES = ("imagenet", "0..1", "-1..1", "0..255")
LAYOUTS = ("nchw", "nhwc")
FITS = ("squash", "crop")


@dataclass(frozen=True)
class Preprocessing:
    """What a peer takes.

    Attributes:
        size: side of its square input in pixels.
        range: imagenet (0..1, then ImageNet's mean and standard deviation), 0..1, -1..1 or 0..255.
        layout: nchw or nhwc.
        fit: squash the whole image, or resize its shorter side and crop the middle; antialiased bilinear.
    """

    size: int = 224
    range: str = "imagenet"
    layout: str = "nchw"
    fit: str = "squash"

    def __call__(self, image: Image) -> npt.NDArray[np.float32]:
        """(H, W, 3) uint8 RGB -> (3, size, size) or (size, size, 3) float32."""
        if self.fit == "crop":
            height, width = image.shape[:2]
            side = min(height, width)
            top, left = (height - side) // 2, (width - side) // 2
            image = image[top : top + side, left : left + side]
        values = squash(np.ascontiguousarray(image), self.size).astype(np.float32)
        if self.range == "imagenet":
            ours = Preprocessor()
            mean, std = np.array(ours.mean, np.float32), np.array(ours.std, np.float32)
            values = (values / np.float32(255) - mean) / std
        elif self.range == "0..1":
            values = values / np.float32(255)
        elif self.range == "-1..1":
            values = values / np.float32(127.5) - 1
        return values.transpose(2, 0, 1) if self.layout == "nchw" else values


def parse_preprocessing(words: Sequence[str]) -> Preprocessing:
    """From words such as `size=320 range=0..1 layout=nhwc fit=crop`; what is not named keeps its default.

    Raises:
        UserError: a word is not of that form.
    """
    choices = {"range": RANGES, "layout": LAYOUTS, "fit": FITS}
    known = {field.name for field in fields(Preprocessing)}
    given: dict[str, Any] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name not in known or name in given:
            names = ", ".join(sorted(known))
            raise UserError(f"--preprocessing {word!r}: expected {names}, each at most once, as NAME=VALUE")
        if name == "size" and not (value.isdecimal() and 0 < int(value) <= 4096):
            raise UserError(f"--preprocessing {word!r}: expected the input's side in pixels, 1 to 4096")
        if name in choices and value not in choices[name]:
            raise UserError(f"--preprocessing {word!r}: expected one of {', '.join(choices[name])}")
        given[name] = int(value) if name == "size" else value
    return Preprocessing(**given)


def of_onnx(path: Path, preprocessing: Preprocessing, threads: int = 0) -> Method:
    """An ONNX file whose first output is one descriptor an image.

    Args:
        threads: 0 is as many as the machine has.

    Raises:
        UserError: ONNX Runtime is missing or refuses the file, or it has another input than one image array.
    """
    try:
        import onnxruntime as ort
    except ImportError:
        raise UserError("--onnx needs ONNX Runtime: pip install onnxruntime") from None
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected an ONNX model")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common class but this one
        raise UserError(f"{path}: ONNX Runtime does not open it ({_first_line(error)})") from None
    inputs = session.get_inputs()
    kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
    if len(inputs) != 1 or inputs[0].type not in kinds or len(inputs[0].shape) != 4:
        listed = ", ".join(f"{each.name} {each.type} {each.shape}" for each in inputs)
        raise UserError(f"{path}: expected one input of images (4 axes, float or uint8), found {listed}")
    name, dtype, one_by_one = inputs[0].name, kinds[inputs[0].type], inputs[0].shape[0] == 1

    def describe(images: Sequence[Image]) -> npt.NDArray[np.float32]:
        batch = np.stack([preprocessing(image) for image in images]).astype(dtype)
        try:
            parts = np.split(batch, len(batch)) if one_by_one else [batch]
            results = [np.asarray(session.run(None, {name: part})[0], np.float32) for part in parts]
        except Exception as error:
            raise UserError(f"{path}: fails on images of shape {batch.shape} ({_first_line(error)})") from None
        described = np.concatenate(results)
        if described.ndim != 2:
            raise UserError(f"{path}: its first output is {described.shape}; expected (images, numbers), one row each")
        return described

    return Method(path.stem, describe, f"{path.name} by onnxruntime {ort.__version__}, {preprocessing}", file=path)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


GEM = 3.0
"""Exponent of the generalised mean; 3 is what retrieval without training takes (Radenović et al., TPAMI 2019)."""


def of_tflite(path: Path, threads: int = 1) -> Method:
    """The last feature map of an 8-bit TFLite classifier, pooled by a generalised mean.

    The map is what its average pooling reads; nothing is trained.

    Raises:
        UserError: the interpreter is missing, or the file has no such map.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        raise UserError("--tflite needs ai-edge-litert: pip install ai-edge-litert") from None
    if not path.is_file():
        raise UserError(f"{path}: no such file; expected a TFLite model")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that keeping the map costs memory
            interpreter = Interpreter(str(path), num_threads=threads, experimental_preserve_all_tensors=True)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{path}: the interpreter does not open it ({_first_line(error)})") from None
    given = interpreter.get_input_details()[0]
    pooled = [op["inputs"][0] for op in interpreter._get_ops_details() if op["op_name"] in ("AVERAGE_POOL_2D", "MEAN")]
    if len(pooled) != 1 or given["dtype"] != np.uint8 or len(given["shape"]) != 4:
        raise UserError(f"{path}: expected a classifier of 8-bit images that ends in one average pooling")
    size, row = int(given["shape"][1]), int(pooled[0])
    (detail,) = [each for each in interpreter.get_tensor_details() if each["index"] == row]
    scale, zero = detail["quantization"]

    def describe(images: Sequence[Image]) -> npt.NDArray[np.float32]:
        return np.stack([_one(image) for image in images])

    def _one(image: Image) -> npt.NDArray[np.float32]:
        interpreter.set_tensor(given["index"], squash(image, size)[None])
        interpreter.invoke()
        cells = interpreter.get_tensor(row).astype(np.float32).reshape(-1, detail["shape"][-1])
        cells = np.maximum((cells - zero) * np.float32(scale or 1.0), 1e-6)
        return np.asarray((cells**GEM).mean(axis=0) ** (1 / GEM), np.float32)

    name = path.stem.split("_1.0")[0] + " GeM"
    return Method(name, describe, f"{path.name}: its last map by a generalised mean with exponent {GEM:g}", file=path)
