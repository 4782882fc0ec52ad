"""The networks compute what the released weights were trained for, to the last digit that matters."""

from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from golden_weights import fill, pictures
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from d2vpr_ros.describe import Preprocessor
from d2vpr_ros.errors import UserError
from d2vpr_ros.model import D2VPR, NANO, SMALL, CricaVPR, D2VPRConfig, load_checkpoint

GOLDEN = Path(__file__).parent / "data" / "golden.npz"
DESCRIPTOR_TOLERANCE = 1e-6
TOKEN_TOLERANCE = 5e-5


@pytest.fixture(scope="module")
def golden() -> dict[str, npt.NDArray[np.float32]]:
    with np.load(GOLDEN, allow_pickle=False) as numbers:
        return {name: numbers[name].astype(np.float32) for name in numbers}


@pytest.fixture(scope="module")
def images() -> Tensor:
    return Preprocessor().normalise(torch.from_numpy(pictures()).permute(0, 3, 1, 2))


@pytest.fixture(scope="module")
def small() -> nn.Module:
    return fill(D2VPR())


def largest_difference(computed: Tensor, expected: npt.NDArray[np.float32]) -> float:
    return float(np.abs(computed.numpy() - expected).max())


@torch.inference_mode()
def test_every_stage_agrees_with_the_reference(
    small: D2VPR, images: Tensor, golden: dict[str, npt.NDArray[np.float32]]
) -> None:
    tokens = small.backbone.recovered_tokens(images)
    cls, patches = tokens[:, 0], tokens[:, 1:]
    offsets = small.offset_map(cls, patches.mT.reshape(3, -1, 16, 16))
    pooled, geometry = small.regions(patches.mT.reshape(3, -1, 16, 16), small.deformed_points(offsets))

    assert largest_difference(cls, golden["tokens_cls"]) < TOKEN_TOLERANCE
    assert largest_difference(patches[:, ::16], golden["tokens_patch"]) < 2e-3  # stored in float16
    assert largest_difference(offsets, golden["offset_map"]) < TOKEN_TOLERANCE
    assert largest_difference(pooled[:, :, ::4], golden["region_pooled"]) < DESCRIPTOR_TOLERANCE
    assert largest_difference(geometry, golden["region_geometry"]) < DESCRIPTOR_TOLERANCE


@torch.inference_mode()
def test_descriptors_agree_with_the_reference_without_the_encoder(
    small: D2VPR, images: Tensor, golden: dict[str, npt.NDArray[np.float32]]
) -> None:
    assert largest_difference(small(images), golden["d2vpr_no_encoder"]) < DESCRIPTOR_TOLERANCE


@pytest.mark.parametrize(
    ("make", "name"), [(lambda: D2VPR(cross_image_encoder=True), "d2vpr_encoder"), (CricaVPR, "cricavpr")]
)
@torch.inference_mode()
def test_descriptors_agree_with_the_reference_with_an_encoder_over_the_batch(
    make: type[nn.Module], name: str, images: Tensor, golden: dict[str, npt.NDArray[np.float32]]
) -> None:
    model = fill(make())
    one_by_one = torch.cat([model(image[None]) for image in images])
    assert largest_difference(model(images), golden[f"{name}_batch3"]) < DESCRIPTOR_TOLERANCE
    assert largest_difference(one_by_one, golden[f"{name}_batch1"]) < DESCRIPTOR_TOLERANCE


@torch.inference_mode()
def test_without_the_encoder_a_descriptor_does_not_depend_on_its_batch(small: D2VPR, images: Tensor) -> None:
    assert float((small(images)[:1] - small(images[:1])).abs().max()) < DESCRIPTOR_TOLERANCE


def gigaflop(model: nn.Module) -> float:
    """Of one 224 x 224 image; the default CPU attention is not counted, so the plain one is forced."""
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, 3, 224, 224))
    return float(counter.get_total_flops()) / 1e9


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_the_sizes_are_those_of_the_released_networks() -> None:
    assert parameters(D2VPR()) == 27_211_621
    assert parameters(D2VPR(cross_image_encoder=True)) == 38_239_589
    assert parameters(CricaVPR()) == 106_761_665


def test_small_computes_the_offset_map_once(small: D2VPR) -> None:
    assert gigaflop(small) <= 14.45  # the reference takes 19.28


def test_nano_fits_a_laptop() -> None:
    nano = D2VPR(NANO)
    assert parameters(nano) <= 4_000_000
    assert gigaflop(nano) <= 2.0


def test_nano_takes_an_eighth_of_the_arithmetic_of_small(small: D2VPR) -> None:
    """What that is worth in time `python -m models.bench.forward --weights nano --against small` measures."""
    assert gigaflop(small) / gigaflop(D2VPR(NANO)) >= 8.0


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("nested", [True, False])
def test_a_released_checkpoint_loads_in_each_of_its_shapes(tmp_path: Path, prefix: str, nested: bool) -> None:
    model = D2VPR(NANO)
    state = {prefix + name: value for name, value in model.state_dict().items()}
    torch.save({"epoch": 3, "model_state_dict": state} if nested else state, tmp_path / "weights.pth")

    loaded = load_checkpoint(tmp_path / "weights.pth")

    assert isinstance(loaded, D2VPR)
    assert loaded.config == NANO
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())


def test_safetensors_carry_their_own_architecture(tmp_path: Path) -> None:
    config = dataclasses.replace(NANO, name="half", depth=3, taps=(1, 2, 3))
    state = {
        name: value.half() if value.is_floating_point() else value for name, value in D2VPR(config).state_dict().items()
    }
    save_file(state, tmp_path / "half.safetensors", {"architecture": json.dumps(dataclasses.asdict(config))})
    loaded = load_checkpoint(tmp_path / "half.safetensors")
    assert isinstance(loaded, D2VPR)
    assert loaded.config == config


def test_the_teacher_and_the_encoder_are_known_by_their_names(tmp_path: Path) -> None:
    torch.save({name: torch.zeros_like(value) for name, value in CricaVPR().state_dict().items()}, tmp_path / "t.pth")
    assert isinstance(load_checkpoint(tmp_path / "t.pth"), CricaVPR)
    torch.save(D2VPR(NANO, cross_image_encoder=True).state_dict(), tmp_path / "e.pth")
    assert load_checkpoint(tmp_path / "e.pth").encoder is not None


def test_what_does_not_fit_is_listed_by_name(tmp_path: Path) -> None:
    state = D2VPR(NANO).state_dict()
    del state["backbone.lin.weight"]
    state["head.weight"] = torch.zeros(2)
    state["aggregation.1.p"] = torch.zeros(2)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(UserError) as error:
        load_checkpoint(tmp_path / "other.pth")
    message = str(error.value)
    assert "1 missing (backbone.lin.weight)" in message
    assert "1 unexpected (head.weight)" in message
    assert "aggregation.1.p is (2,) not (1,)" in message


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (exec, ("raise SystemExit('code in a weights file was executed')",))


@pytest.mark.parametrize(
    "content",
    [pickle.dumps({"model_state_dict": Bomb()}), b"", b"<html>404</html>", b"PK\x03\x04 not really a zip"],
    ids=["a pickle with code", "an empty file", "a web page", "a broken archive"],
)
@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_a_weights_file_that_is_something_else_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        load_checkpoint(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("note", ["[]", "{", '{"width": 1e99}', '{"taps": null, "adapter": {}}'])
def test_an_unknown_architecture_is_refused_in_one_line(tmp_path: Path, note: str) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "w.safetensors", {"architecture": note})
    with pytest.raises(UserError, match="architecture this version does not know"):
        load_checkpoint(tmp_path / "w.safetensors")


def test_the_default_config_is_the_papers() -> None:
    assert D2VPRConfig() == SMALL
    assert SMALL.descriptor_width == 10752


@pytest.mark.parametrize(
    ("sizes", "found"),
    [
        ({"heads": 5}, "5 heads"),
        ({"taps": (1, 2, 3, 9)}, "taps"),
        ({"taps": (4, 2)}, "taps"),
        ({"stem": (8, 16, 16)}, "cells of 2 pixels"),
        ({"stem": (True, 64)}, "not a whole number"),
    ],
)
def test_sizes_that_do_not_fit_one_another_are_refused_in_one_line(
    tmp_path: Path, sizes: dict[str, Any], found: str
) -> None:
    note = json.dumps({**dataclasses.asdict(NANO), **sizes})
    save_file({"x": torch.zeros(1)}, tmp_path / "w.safetensors", {"architecture": note})
    with pytest.raises(UserError, match=f"architecture this version does not know.*{found}"):
        load_checkpoint(tmp_path / "w.safetensors")
