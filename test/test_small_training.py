"""How small is trained: frozen blocks kept on disk, a start that reads values, batches of places that differ."""

from __future__ import annotations

import errno
from collections import namedtuple
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from pytorch_metric_learning.losses import NTXentLoss
from torch import Tensor

from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.errors import UserError
from d2vpr_ros.model import D2VPR, D2VPRConfig
from d2vpr_ros.model.config import AdapterWidths
from d2vpr_ros.model.regions import POINTS
from d2vpr_ros.model.vit import Block
from models import augment, block_cache
from models.augment import Viewpoint
from models.block_cache import CHUNK, BlockCache, cache_blocks
from models.commands import CONFIGS
from models.data import Picture
from models.discriminants import Discriminants, averaging_matrix, directions, read_discriminants, scatters
from models.grid_aggregation import GridAggregation
from models.place_pairs import Shown, place_loss, shown_by
from models.place_projection import PlaceProjection, find_projection, projected
from models.restyle import restyled
from models.runs import Machine
from models.small_stage import SmallStage, SmallStageModule, compared_by, recovered, run_small_stage
from models.small_start import begin_centring, begin_small
from models.small_views import Views
from models.timed_stage import Schedule
from models.train_small import read_small_recipe

TINY = D2VPRConfig("tiny", 48, 3, 3, (1, 2, 3), AdapterWidths(24, 12, 3, 6), 96, 16, 16, 8, 16)
FROZEN, SIDE = 2, 56
STAGE = SmallStage("tiny", Schedule(4, 1e-2, 1), views=8)
PROJECTION = PlaceProjection(width=16, principal=32)


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
    begin_small(model, 0)
    return model


def cached(model: D2VPR, folder: Path, seen: Views) -> BlockCache:
    def draw(numbers: npt.NDArray[np.int64], seed: int) -> Tensor:
        return seen.draw(numbers, SIDE, seed)

    return cache_blocks(model.backbone, FROZEN, draw, len(seen), {}, folder, bits16=False)


def compared(model: D2VPR, cache: BlockCache, shown: Shown) -> dict[str, Tensor]:
    return compared_by(model, cache, shown, PROJECTION, FROZEN, 0, bits16=False)


def test_frozen_blocks_from_the_cache_go_on_to_the_network_s_own_descriptor(tmp_path: Path) -> None:
    model, seen = started(), views()
    cache = cached(model, tmp_path, seen)
    numbers = np.arange(3) + CHUNK  # of the second file
    images = seen.draw(np.arange(CHUNK, len(seen)), SIDE, 1)[:3]
    with torch.no_grad():
        tokens = recovered(model, cache.read(numbers), FROZEN)
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


def test_adapters_start_by_adding_nothing_and_with_channels_that_differ() -> None:
    block = list(started().backbone.blocks)[FROZEN]
    assert isinstance(block, Block)
    assert not block.adapter(torch.randn(2, 17, TINY.width)).any()
    channels = block.adapter.branch1.conv.weight.flatten(1)
    assert not torch.allclose(channels[0], channels[1])  # equal ones would learn the same for ever


def test_a_centring_block_begins_by_taking_the_picture_s_mean_off_and_can_learn() -> None:
    torch.manual_seed(1)
    block = list(started().backbone.blocks)[FROZEN]
    assert isinstance(block, Block)
    tokens = torch.nn.functional.layer_norm(torch.randn(2, 17, TINY.width) + 3 * torch.randn(2, 1, TINY.width), (48,))
    begin_centring(block, deviation=1.0)
    assert torch.allclose(block(tokens), tokens - tokens.mean(dim=1, keepdim=True), atol=1e-4)
    block(tokens).square().sum().backward()
    assert block.attn.qkv.weight.grad is not None
    assert all(part.any() for part in torch.split(block.attn.qkv.weight.grad, TINY.width)[::2])  # queries and values


def test_a_restyled_view_keeps_what_differs_within_it_and_the_others_stay() -> None:
    torch.manual_seed(0)
    taps = torch.randn(6, 2, 17, 8) + 5 * torch.randn(6, 2, 1, 8)
    assert torch.allclose(restyled(taps, 0.0, torch.Generator()), taps, atol=1e-5)
    changed = restyled(taps, 1.0, torch.Generator().manual_seed(2))
    assert torch.equal(changed, restyled(taps, 1.0, torch.Generator().manual_seed(2)))
    rows = changed[:, :, 1:].unflatten(2, (4, 4))
    own = taps[:, :, 1:].unflatten(2, (4, 4))
    within = [part - part.mean(dim=3, keepdim=True) for part in (rows, own)]  # a row of patches moves as one
    assert torch.nn.functional.cosine_similarity(within[0].flatten(1), within[1].flatten(1)).min() > 0.9
    assert (changed.mean(dim=2) - taps.mean(dim=2)).abs().mean() > 0.5


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
    recipe = Discriminants(taps=(1, 2))
    read_discriminants(model, cache, shown_by(seen, pictures()), starters, recipe, FROZEN, bits16=False)
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


def test_the_training_form_of_the_aggregator_gives_the_descriptor_of_the_network() -> None:
    model, tokens = started(), torch.randn(3, 17, TINY.output_width)
    with torch.no_grad():
        assert torch.allclose(GridAggregation(model, 4)(tokens), model.aggregate(tokens), atol=1e-5)
        model.offset_generator[2].weight.fill_(0.1)
        with pytest.raises(ValueError, match="not on the grid"):
            GridAggregation(model, 4)


def test_a_stage_moves_what_learns_and_nothing_else_and_is_not_done_twice(tmp_path: Path) -> None:
    seen = views()
    shown = shown_by(seen, pictures())

    def begun() -> tuple[D2VPR, BlockCache]:
        model = started()
        cache = cached(model, tmp_path, seen)
        starters, recipe = torch.from_numpy(seen.real), Discriminants(taps=(1, 2))
        read_discriminants(model, cache, shown, starters, recipe, FROZEN, bits16=False)
        return model, cache

    def trained() -> dict[str, Tensor]:
        model, cache = begun()
        module = SmallStageModule(model, cache, shown, STAGE, compared(model, cache, shown), FROZEN, 0)
        run_small_stage(module, tmp_path / "run", Machine("cpu", "1"), bits16=False)
        return model.state_dict()

    before, after = begun()[0].state_dict(), trained()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    frozen = ("patch_embed", "pos_embed", "cls_token", "mask_token", "blocks.0.", "blocks.1.")
    assert not [name for name in moved if name.removeprefix("backbone.").startswith(frozen)]
    assert not [name for name in moved if name.startswith(("aggregation", "offset_generator"))]
    assert {"backbone.lin.weight", "backbone.blocks.2.mlp.fc1.weight", "pos_encoder.fc.2.bias"} <= moved
    again = trained()
    assert all(torch.equal(after[name], again[name]) for name in after)


def test_every_tensor_s_step_is_a_share_of_its_own_size(tmp_path: Path) -> None:
    model, seen = started(), views()
    with torch.no_grad():
        model.backbone.lin.weight.mul_(1000)
    cache, shown = cached(model, tmp_path, seen), shown_by(seen, pictures())
    module = SmallStageModule(model, cache, shown, STAGE, compared(model, cache, shown), FROZEN, 0)
    optimizer = module.configure_optimizers()
    shares = {id(group["params"][0]): group["share"] for group in optimizer.param_groups}
    lin, norm = model.backbone.lin.weight, model.backbone.up_norm.weight
    assert shares[id(lin)] == pytest.approx(float(lin.detach().square().mean().sqrt()))
    assert shares[id(norm)] == pytest.approx(float(norm.detach().square().mean().sqrt()))
    assert all(share > 0 for share in shares.values())


def test_looks_are_of_one_place_and_the_next_frame_does_not_count() -> None:
    seen, shown = views(), shown_by(views(), pictures())
    first, cut = seen.town_views, seen.town_views
    same, uncounted = shown.pairs(np.array([0, first, len(shown.place) - 1]))
    assert same[0].nonzero().flatten().tolist() == [1]  # two views a place
    assert same[1].nonzero().flatten().tolist() == [cut + 1]
    assert uncounted[1].nonzero().flatten().tolist() == [cut, cut + 2, cut + 3]
    assert same[2].nonzero().flatten().tolist() == [len(shown.place) - 2]  # street photographs do not follow each other
    assert uncounted[2].nonzero().flatten().tolist() == [len(shown.place) - 1]


def test_the_place_loss_is_nt_xent_where_all_views_are_the_batch() -> None:
    torch.manual_seed(0)
    descriptors = torch.nn.functional.normalize(torch.randn(12, 8), dim=1)
    place = np.repeat(np.arange(4), 3)
    shown = Shown(place, -1 - place, np.zeros(12, np.int64), 12)
    same, uncounted = shown.pairs(np.arange(12))
    loss, recall = place_loss(descriptors, descriptors, same, uncounted, 0.1)
    assert torch.allclose(loss, NTXentLoss(temperature=0.1)(descriptors, torch.from_numpy(place)))
    alike = (descriptors @ descriptors.T).fill_diagonal_(-1).argmax(dim=1).numpy()
    assert float(recall) == pytest.approx((place[alike] == place).mean())


def test_the_projection_keeps_what_differs_between_places_and_drops_what_changes_at_one() -> None:
    random = torch.Generator().manual_seed(0)
    place = np.repeat(np.arange(80), 3)
    shown = Shown(place, np.where(place < 40, -1 - place, 0), np.where(place < 40, 0, place * 5), 120)
    telling = torch.randn(80, 4, generator=random)[torch.from_numpy(place)]
    described = torch.cat([telling, 5 * torch.randn(240, 4, generator=random)], dim=1)
    mean, components = find_projection(described, shown, PlaceProjection(4, 8, 0.01), 0)
    assert components.shape == (4, 8)
    assert components[:, :4].norm() > 10 * components[:, 4:].norm()
    short = projected(described, mean, components)
    assert float((short @ short.T).fill_diagonal_(-1).argmax(dim=1).div(3, rounding_mode="floor").eq(
        torch.from_numpy(place)).float().mean()) > 0.95  # fmt: skip


def test_what_falls_other_lenses_and_other_cameras_keep_shape_and_range() -> None:
    torch.manual_seed(0)
    images = torch.rand(6, 3, 56, 56)
    changed = augment.street_conditions(images)
    assert changed.shape == images.shape
    assert changed.min() >= 0 and changed.max() <= 1
    assert (augment.lens(images, share=0.0) - images).abs().max() < 1e-5


def test_the_recipe_in_the_checkout_is_read_and_a_wrong_one_is_told(tmp_path: Path) -> None:
    recipe = read_small_recipe(CONFIGS / "small.yaml")
    assert recipe.frozen.blocks == 8 and recipe.projection.width == 1024
    text = (CONFIGS / "small.yaml").read_text()
    for wrong, told in (
        ("depth", "lacks depth"),
        ("centring", "lacks centring"),
        ("warm_up", "unwarm_up is not known"),
        ("ridge", "unridge is not known"),
    ):
        path = tmp_path / "wrong.yaml"
        path.write_text(text.replace(wrong, f"un{wrong}"))
        with pytest.raises(UserError, match=told):
            read_small_recipe(path)
