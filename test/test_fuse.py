"""The inference form computes what the network computes, with less."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from golden_weights import fill, pictures
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from d2vpr_ros.describe import Preprocessor
from d2vpr_ros.model import D2VPR, NANO, SMALL, D2VPRConfig, fuse
from models.bench.reference import reference_forward

TOLERANCE = 2e-5
GOLDEN_TOLERANCE = 1e-6  # as the plain network
GOLDEN = Path(__file__).parent / "data" / "golden.npz"


def randomised(config: D2VPRConfig, seed: int) -> D2VPR:
    """A network whose every fold matters: wild BatchNorm statistics, scales of both signs, points that move far."""
    torch.manual_seed(seed)
    model = D2VPR(config).eval()
    for name, value in model.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.1, 3.0)
        elif name.endswith("gamma") or (".bn." in name and name.endswith("weight")):
            value.uniform_(-1.5, 1.5)
        elif name.endswith(("bias", "running_mean")):
            value.normal_(0.0, 0.5)
        elif name == "backbone.pos_embed" or name == "backbone.cls_token":
            value.normal_(0.0, 0.3)
        elif name == "aggregation.1.p":
            value.uniform_(2.0, 5.0)
        elif name.startswith("offset_generator") and value.ndim == 4:
            value.normal_(0.0, 1.5 / value.shape[1] ** 0.5)
    return model


def largest_difference(first: Tensor, second: Tensor) -> float:
    return float((first - second).abs().max())


@torch.inference_mode()
def test_on_the_golden_inputs_it_gives_the_golden_descriptors() -> None:
    images = Preprocessor().normalise(torch.from_numpy(pictures()).permute(0, 3, 1, 2))
    with np.load(GOLDEN, allow_pickle=False) as numbers:
        golden = torch.from_numpy(numbers["d2vpr_no_encoder"].astype(np.float32))
    fused = fuse(fill(D2VPR()))
    assert largest_difference(fused(images), golden) < GOLDEN_TOLERANCE
    assert largest_difference(fused(images[:1]), golden[:1]) < GOLDEN_TOLERANCE


@pytest.mark.parametrize("config", [SMALL, NANO], ids=["small", "nano"])
@pytest.mark.parametrize("seed", [1, 2, 3])
@torch.inference_mode()
def test_on_random_weights_and_images_it_equals_the_plain_network(config: D2VPRConfig, seed: int) -> None:
    model = randomised(config, seed)
    images = torch.randn(2, 3, 224, 224)
    tokens = model.backbone.recovered_tokens(images)
    side = 224 // config.cell
    offsets = model.offset_map(tokens[:, 0], tokens[:, 1:].mT.reshape(2, -1, side, side))
    moved = (model.deformed_points(offsets) - model.grid_points).abs().mean()
    assert offsets[:, :2].std() > 0.1  # shifts that count,
    assert moved > 0.02  # and points that move by them

    assert largest_difference(fuse(model)(images), model(images)) < TOLERANCE


@torch.inference_mode()
def test_it_takes_other_input_sizes() -> None:
    model = randomised(NANO, seed=4)
    for side in (112, 272):  # an odd number of cells a side
        images = torch.randn(1, 3, side, side)
        assert largest_difference(fuse(model, side)(images), model(images)) < TOLERANCE


def test_it_does_not_follow_further_training() -> None:
    model = randomised(NANO, seed=5)
    fused = fuse(model)
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        before = fused(images)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
        assert torch.equal(fused(images), before)
    assert not any(parameter.requires_grad for parameter in fused.parameters())


def test_what_has_no_inference_form_is_refused() -> None:
    with pytest.raises(ValueError, match="cross-image encoder"):
        fuse(D2VPR(NANO, cross_image_encoder=True))
    with pytest.raises(ValueError, match="multiple of 14"):
        fuse(D2VPR(SMALL), side=225)
    with pytest.raises(ValueError, match="multiple of 16"):
        fuse(D2VPR(NANO), side=210)


@pytest.mark.parametrize(("config", "most"), [(SMALL, 14.15), (NANO, 1.78)], ids=["small", "nano"])
def test_nothing_is_computed_twice_or_in_vain(config: D2VPRConfig, most: float) -> None:
    assert gigaflop(fuse(D2VPR(config))) <= most


def gigaflop(model: nn.Module) -> float:
    """Of one 224 x 224 image; the default CPU attention is not counted, so the plain one is forced."""
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 224, 224))
    return float(counter.get_total_flops()) / 1e9


@torch.inference_mode()
def test_the_bench_compares_with_the_same_function_computed_as_the_released_code_does() -> None:
    model, images = randomised(NANO, seed=6), torch.randn(2, 3, 224, 224)
    assert largest_difference(reference_forward(model, images), model(images)) < TOLERANCE
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        reference_forward(D2VPR(), images[:1])
    assert counter.get_total_flops() / 1e9 > 19.2  # the published network's, 13 offset maps among it
