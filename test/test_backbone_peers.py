"""Pretrained backbones as peers: what each makes of pictures, and what is told where a file is not there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from d2vpr_ros.errors import UserError
from models import methods
from models.backbone_peers import WORDS, of_folder, of_regions, of_vlad
from models.efficientnet import EfficientNetLite, SameConv
from models.evaluate import main, table
from models.methods import Image

GRID = 16


def colours(images: Sequence[Image]) -> Tensor:
    """(N, 256, 384): each patch's mean colour, again and again."""
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    return functional.adaptive_avg_pool2d(stacked, GRID).flatten(2).mT.repeat(1, 1, 128)


def patches(seed: int) -> Image:
    random = np.random.default_rng(seed)
    return np.kron(random.integers(0, 256, (4, 4, 3), dtype=np.uint8), np.ones((16, 16, 1), np.uint8))


def test_a_darker_picture_of_a_place_is_nearer_than_another_place() -> None:
    looked_at = [patches(seed) for seed in range(40)]
    queries = [(image * 0.8).astype(np.uint8) for image in looked_at[:10]]
    for method in (of_regions(colours, looked_at, Path()), of_vlad(colours, looked_at, Path())):
        database, asked = (method.describe(images) for images in (looked_at, queries))
        unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (asked, database)]
        assert ((unit[0] @ unit[1].T).argmax(axis=1) == np.arange(10)).all()


def test_vlad_adds_up_the_differences_to_each_word_and_makes_each_of_unit_length() -> None:
    described = of_vlad(colours, [patches(seed) for seed in range(8)], Path()).describe([patches(3)])
    lengths = np.linalg.norm(described.reshape(WORDS, -1), axis=1)
    assert described.shape == (1, WORDS * 384)
    assert np.isclose(lengths, 1, atol=1e-4).sum() + np.isclose(lengths, 0, atol=1e-4).sum() == WORDS


def lite_state() -> dict[str, Tensor]:
    """An EfficientNet-Lite of two blocks, as a published file names it."""
    torch.manual_seed(0)

    def norm(name: str, width: int) -> dict[str, Tensor]:
        ones, zeros = torch.ones(width), torch.zeros(width)
        return {
            f"{name}.weight": ones,
            f"{name}.bias": zeros,
            f"{name}.running_mean": zeros,
            f"{name}.running_var": ones,
        }

    return {
        "_conv_stem.weight": torch.randn(32, 3, 3, 3),
        **norm("_bn0", 32),
        "_blocks.0._depthwise_conv.weight": torch.randn(32, 1, 3, 3),
        **norm("_blocks.0._bn1", 32),
        "_blocks.0._project_conv.weight": torch.randn(16, 32, 1, 1),
        **norm("_blocks.0._bn2", 16),
        "_blocks.1._expand_conv.weight": torch.randn(96, 16, 1, 1),
        **norm("_blocks.1._bn0", 96),
        "_blocks.1._depthwise_conv.weight": torch.randn(96, 1, 5, 5),
        **norm("_blocks.1._bn1", 96),
        "_blocks.1._project_conv.weight": torch.randn(24, 96, 1, 1),
        **norm("_blocks.1._bn2", 24),
        "_conv_head.weight": torch.randn(40, 24, 1, 1),
        **norm("_bn1", 40),
        "_fc.weight": torch.randn(5, 40),
        "_fc.bias": torch.randn(5),
    }


def test_an_efficientnet_s_shapes_say_its_strides_and_its_map_is_nowhere_negative() -> None:
    network = EfficientNetLite(lite_state())
    with torch.no_grad():
        maps = network(torch.rand(2, 3, 33, 33) * 2 - 1)
    assert maps.shape == (2, 40, 9, 9)  # halved by the stem (17) and by the stage of 24 channels (9)
    assert maps.min() == 0 and 0 < maps.max() <= 6


def test_padding_is_tensorflow_s_one_pixel_more_on_the_far_side() -> None:
    conv = SameConv(1, 1, 3, 2, bias=False)
    conv.weight.data.zero_()
    conv.weight.data[..., 2, 2] = 1  # reads the pixel that lies furthest down and right
    image = torch.arange(16.0).view(1, 1, 4, 4)
    assert conv(image).flatten().tolist() == [10, 0, 0, 0]


def test_files_that_are_not_there_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"no dinov2_small\.safetensors, .*models\.backbones"):
        of_folder(tmp_path, tmp_path)
    assert main(["--weights", "nano", "--peers", str(tmp_path), "--town-seeds", "0"]) == 2
    assert "--peers also needs --footage" in capsys.readouterr().err


def test_the_table_ends_with_what_each_method_costs() -> None:
    method = methods.thumbnails()
    milliseconds, numbers, megabytes = methods.cost_of(method, patches(0))
    assert milliseconds > 0 and (numbers, megabytes) == (2048, 0.0)
    assert table([], {method.name: (1.26, numbers, megabytes)}).count("\n") == 4
