"""How small is trained: frozen blocks kept on disk, a start that reads values, batches of places that differ."""

from __future__ import annotations

import dataclasses
import errno
from collections import namedtuple
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.errors import UserError
from d2vpr_ros.model import D2VPR, D2VPRConfig
from d2vpr_ros.model.config import AdapterWidths
from d2vpr_ros.model.regions import POINTS
from d2vpr_ros.model.vit import Block
from models import augment, block_cache
from models.augment import Viewpoint
from models.block_cache import CHUNK, BlockCache, cache_blocks, frozen_taps
from models.commands import CONFIGS
from models.data import Picture
from models.discriminants import Discriminants, averaging_matrix, directions, read_discriminants, scatters
from models.runs import Machine
from models.small_stage import Batches, SmallStage, SmallStageModule, recovered, run_small_stage
from models.small_start import begin_small
from models.small_views import Views
from models.timed_stage import Schedule
from models.train_small import read_small_recipe

TINY = D2VPRConfig("tiny", 48, 3, 3, (1, 2, 3), AdapterWidths(24, 12, 3, 6), 96, 16, 16, 8, 16)
FROZEN, SIDE = 2, 56
STAGE = SmallStage("tiny", Schedule(4, 1e-3, 1), town_places=2, towns=1, real=4, videos=2, street=1, alike=0.0)


def pictures() -> list[Picture]:
    """Two floors with two videos each, and street photographs."""
    frames = [
        Picture(Path(f"{video}_{second}"), video, second, floor)
        for floor, video in (("1", "f1_hall"), ("1", "f1_lift"), ("2", "f2_hall"), ("2", "f2_lift"))
        for second in range(6)
    ]
    return frames + [Picture(Path(f"street{number}"), "lund", number, "lund") for number in range(6)]


def views() -> Views:
    random = np.random.default_rng(0)
    count = len(pictures())
    town = random.integers(0, 256, (2, 2, 2, 3, SIDE, SIDE), dtype=np.uint8)
    real = random.integers(0, 256, (count, 3, SIDE, SIDE), dtype=np.uint8)
    return Views(town, real, np.repeat(np.arange(count), 2), np.tile([0, 1], count), Viewpoint())


def started() -> D2VPR:
    torch.manual_seed(0)
    model = D2VPR(TINY).eval()
    begin_small(model, torch.from_numpy(views().real[:4]), FROZEN, 0)
    return model


def cached(model: D2VPR, folder: Path, seen: Views) -> BlockCache:
    def draw(numbers: npt.NDArray[np.int64], seed: int) -> Tensor:
        return seen.draw(numbers, SIDE, seed)

    return cache_blocks(model.backbone, FROZEN, draw, len(seen), {}, folder, bits16=False)


def test_frozen_blocks_from_the_cache_go_on_to_the_network_s_own_descriptor(tmp_path: Path) -> None:
    model, seen = started(), views()
    cache = cached(model, tmp_path, seen)
    numbers = np.arange(3) + CHUNK  # of the second file
    images = seen.draw(np.arange(CHUNK, len(seen)), SIDE, 1)[:3]
    with torch.no_grad():
        tokens = recovered(model, cache.read(numbers), FROZEN, blocks=True)
        wanted = model(Preprocessor().normalise(images * 255))
        assert torch.allclose(model.aggregate(tokens), wanted, atol=2e-3)  # kept in 16 bits


def test_a_cache_that_was_cut_off_is_completed_with_the_same_numbers(tmp_path: Path) -> None:
    model, seen = started(), views()
    whole = cached(model, tmp_path, seen)
    kept, lost = whole.files[0].read_bytes(), whole.files[1].read_bytes()
    whole.files[1].unlink()
    whole.files[1].with_suffix(".partial").write_bytes(lost[:100])  # killed while writing
    again = cached(model, tmp_path, seen)
    assert [file.read_bytes() for file in again.files] == [kept, lost]


def test_a_full_disk_is_told_with_what_is_needed_and_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, seen = started(), views()
    usage = namedtuple("usage", "free")
    with monkeypatch.context() as patch:
        patch.setattr(block_cache.shutil, "disk_usage", lambda _: usage(1000))
        with pytest.raises(UserError, match=r"needs .* GB, the disk has .* free; make room, give another --cache"):
            cached(model, tmp_path, seen)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(block_cache.np, "save", full)
    with pytest.raises(UserError, match="the disk is full"):
        cached(model, tmp_path, seen)
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


def test_the_start_reads_a_block_s_values_with_both_signs_and_adapters_add_nothing() -> None:
    model = started()
    block = list(model.backbone.blocks)[FROZEN]
    assert isinstance(block, Block)
    images = Preprocessor().normalise(torch.from_numpy(views().real[:3]))
    with torch.no_grad():
        tokens = frozen_taps(model.backbone, images, FROZEN)[:, -1]
        values = block.attn.qkv(block.norm1(tokens))[:, 1:, 2 * TINY.width :]
        read = model.backbone.recovered_tokens(images)[:, 1:]
        assert torch.cosine_similarity(read[..., : TINY.width], values, dim=-1).min() > 0.99
        assert torch.allclose(read[..., : TINY.width], -read[..., TINY.width :], atol=1e-6)
        assert not block.adapter(block.norm2(tokens)).any()
    channels = block.adapter.branch1.conv.weight.flatten(1)
    assert not torch.allclose(channels[0], channels[1])  # equal ones would learn the same for ever


def test_discriminants_are_what_differs_between_places_more_than_between_looks() -> None:
    random = torch.Generator().manual_seed(0)
    places = np.repeat(np.arange(60), 4)
    telling = torch.randn(60, 13, 1, generator=random)[torch.from_numpy(places)]
    looks = 0.1 * torch.randn(240, 13, 1, generator=random)
    moving = 5 * torch.randn(240, 13, 5, generator=random)  # strong, and no word about the place
    means = torch.cat([moving[..., :3], telling + looks, moving[..., 3:]], dim=-1)
    first, second = directions(*scatters(means, places), count=2, ridge=1e-4).abs()
    assert first[3] > 10 * first[[0, 1, 2, 4, 5]].max() and second[3] < second.max()


def test_the_closed_form_start_reads_them_with_both_signs_and_leaves_a_descriptor_without_what_all_share(
    tmp_path: Path,
) -> None:
    model, seen = started(), views()
    cache = cached(model, tmp_path, seen)
    starters = torch.from_numpy(seen.real)
    read_discriminants(model, cache, seen, starters, Discriminants(taps=(1, 2)))
    half = TINY.output_width // 2
    assert torch.equal(model.backbone.lin.weight[:half], -model.backbone.lin.weight[half:])
    assert not model.backbone.lin.weight[:, 2 * TINY.width :].any()  # of the tap that learns nothing is read
    with torch.no_grad():
        descriptors = model(Preprocessor().normalise(starters))
        assert descriptors.mean(dim=0).norm() < 0.2


def test_a_region_s_mean_token_is_the_mean_of_its_sample_points() -> None:
    model = started()
    maps = torch.randn(1, 5, 4, 4)
    averaging = averaging_matrix(model, 4)
    where = 2 * model.grid_points[None, None] - 1
    sampled = torch.nn.functional.grid_sample(maps, where, padding_mode="border", align_corners=True)[0, :, 0]
    assert torch.allclose(
        averaging @ maps[0].flatten(1).T,
        torch.stack([part.mean(dim=1) for part in torch.split(sampled, POINTS, dim=1)]),
        atol=1e-5,
    )


@pytest.mark.parametrize("blocks", [False, True])
def test_a_stage_moves_what_learns_and_nothing_else_and_is_not_done_twice(tmp_path: Path, blocks: bool) -> None:
    seen, stage = views(), dataclasses.replace(STAGE, blocks=blocks)

    def trained() -> dict[str, Tensor]:
        model = started()
        cache = cached(model, tmp_path, seen)
        module = SmallStageModule(model, cache, Batches(seen, pictures(), stage), stage, FROZEN, 0)
        run_small_stage(module, tmp_path / "run", Machine("cpu", "1"), bits16=False)
        return model.state_dict()

    before, after = started().state_dict(), trained()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    frozen = ("patch_embed", "pos_embed", "cls_token", "mask_token", "blocks.0.", "blocks.1.")
    assert not [name for name in moved if name.removeprefix("backbone.").startswith(frozen)]
    assert any(name.startswith("backbone.blocks.2.") for name in moved) == blocks
    assert {"backbone.lin.weight", "aggregation.1.p", "pos_encoder.fc.2.bias"} <= moved
    again = trained()
    assert all(torch.equal(after[name], again[name]) for name in after)


def test_places_of_a_batch_are_apart_and_each_is_seen_twice() -> None:
    seen, all_pictures = views(), pictures()
    for seed in range(20):
        numbers, names = Batches(seen, all_pictures, STAGE).draw(np.random.default_rng(seed))
        assert (np.unique(names, return_counts=True)[1] == 2).all() and len(set(numbers)) == len(numbers)
        real = numbers >= seen.town_views
        shown = [all_pictures[row] for row in seen.picture[numbers[real] - seen.town_views]]
        tower = [(name, picture) for name, picture in zip(names[real], shown, strict=True) if picture.video != "lund"]
        assert len({picture.video for _, picture in tower}) == len({picture.floor for _, picture in tower})
        for name, picture in tower:
            for other, beside in tower:
                apart = abs(picture.second - beside.second)
                if picture.video == beside.video:
                    assert apart <= 1 if name == other else apart >= STAGE.apart_s - 2


def test_what_falls_other_lenses_and_other_cameras_keep_shape_and_range() -> None:
    torch.manual_seed(0)
    images = torch.rand(6, 3, 56, 56)
    changed = augment.street_conditions(images)
    assert changed.shape == images.shape
    assert changed.min() >= 0 and changed.max() <= 1
    assert (augment.lens(images, share=0.0) - images).abs().max() < 1e-5


def test_the_recipe_in_the_checkout_is_read_and_a_wrong_one_is_told(tmp_path: Path) -> None:
    recipe = read_small_recipe(CONFIGS / "small.yaml")
    assert recipe.frozen.blocks == 8 and recipe.stages[-1].blocks
    text = (CONFIGS / "small.yaml").read_text()
    for wrong, told in (
        ("read_tap", "lacks read_tap"),
        ("blocks: false", "blcks is not known"),
        ("ridge", "rdge is not known"),
    ):
        path = tmp_path / "wrong.yaml"
        path.write_text(text.replace(wrong, {"read_tap": "x", "ridge": "rdge"}.get(wrong, "blcks: false")))
        with pytest.raises(UserError, match=told):
            read_small_recipe(path)
