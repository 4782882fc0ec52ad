"""The training scripts in models/: small pieces of them, and what is written about the bundled weights."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.errors import UserError
from d2vpr_ros.evaluation.recall import recall_at
from d2vpr_ros.model import D2VPR, NANO, D2VPRConfig
from d2vpr_ros.model.config import AdapterWidths, block_strides
from d2vpr_ros.model.stem import ConvStem
from d2vpr_ros.sim.town import seed_purpose
from models import augment, teacher
from models.commands import CONFIGS
from models.data import read_rgb
from models.initialise import initialised
from models.nano_data import Pool, Student
from models.nano_stages import Stage, run_stage
from models.recipes import read_yaml
from models.runs import Machine
from models.stem_stage import StemModule, StemStage, begin_stem, distil_stem, unexplained_variance
from models.teacher_layers import Layer, SeparableBlock, TeacherLayers, read_layers
from models.thumbnail import describe_thumbnails
from models.timed_stage import Schedule
from models.town_views import TownViews, cache_town_views
from models.train_nano import read_stages

WEIGHTS = Path(__file__).parent.parent / "models" / "weights"
TINY = D2VPRConfig("tiny", 48, 2, 3, (1, 2), AdapterWidths(24, 12, 3, 6), 48, 16, 16, 8, 16)


def random_pictures(count: int, height: int = 60, width: int = 90) -> list[np.ndarray]:
    random = np.random.default_rng(count)
    return [random.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(count)]


def test_other_conditions_keep_shape_and_range_and_change_the_picture() -> None:
    torch.manual_seed(0)
    images = torch.rand(5, 3, 56, 56)
    changed = augment.other_conditions(images)
    assert changed.shape == images.shape and changed.dtype == torch.float32
    assert changed.min() >= 0 and changed.max() <= 1
    assert (changed - images).abs().mean() > 0.02


def test_a_viewpoint_that_does_not_move_shows_the_same_picture() -> None:
    images = torch.rand(2, 3, 28, 28)
    assert torch.allclose(augment.warp(images, torch.eye(3).expand(2, 3, 3), 28), images, atol=1e-5)


def test_the_thumbnail_baseline_knows_equal_pictures_and_feels_a_shift() -> None:
    coarse = np.random.default_rng(0).integers(0, 256, (8, 16, 3), dtype=np.uint8)
    picture = np.kron(coarse, np.ones((16, 16, 1), np.uint8))
    one, same, moved = describe_thumbnails([picture, picture.copy(), np.roll(picture, 24, axis=1)])
    assert one @ same == pytest.approx(1.0, abs=1e-5)
    assert one @ moved < 0.7


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 6), st.integers(1, 8), st.integers(1, 10), st.integers(0, 2**31))
def test_recall_agrees_with_looking_at_every_query(queries: int, database: int, k: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    similarity, positives = random.normal(size=(queries, database)), random.random((queries, database)) < 0.3
    found = 0
    for row in range(queries):
        best = sorted(range(database), key=lambda column: -similarity[row, column])[:k]
        found += any(positives[row, column] for column in best)
    assert recall_at(similarity, positives, [k])[k] == pytest.approx(found / queries)


def test_queries_without_any_positive_count_as_missed() -> None:
    similarity = np.array([[0.9, 0.1], [0.8, 0.2]])
    positives = np.array([[True, False], [False, False]])
    assert recall_at(similarity, positives, [1, 2]) == {1: 0.5, 2: 0.5}


def test_town_views_refuse_a_seed_kept_for_evaluation(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="use seeds from 1000 on"):
        cache_town_views(TownViews(first=99, last=1001), tmp_path / "town.npy")


def small_pool() -> Pool:
    random = np.random.default_rng(0)
    images = np.kron(random.integers(0, 256, (6, 3, 8, 8), dtype=np.uint8), np.ones((1, 1, 28, 28), np.uint8))
    rows = np.arange(6)
    return Pool(images, random.normal(size=(6, 49, 12)).astype(np.float16), rows, np.stack([rows, rows], axis=1))


def small_stage(steps: int, minutes: float = 0.0, town_places: int = 0) -> Stage:
    still = augment.Viewpoint(0, 0, 1, 0, 0)
    schedule = Schedule(steps, 3e-3, warm_up=3, minutes=minutes)
    return Stage("small", schedule, 56, town_places, real=6, place_loss="contrastive", viewpoint=still)


def run_small_stage(stage: Stage, folder: Path) -> Student:
    pool = small_pool()
    torch.manual_seed(0)
    student = Student(initialised(D2VPR(TINY), torch.from_numpy(pool.images)), 12)
    town = np.stack([pool.images.reshape(3, 2, 3, 224, 224)] * 2)
    run_stage(student, pool, town, stage, folder, 0, Machine("cpu", "1"))
    return student


def test_a_stage_of_nano_lowers_the_loss_and_is_read_again_once_it_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.runs.LOG_EVERY", 8)
    student = run_small_stage(small_stage(16), tmp_path)
    history = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in history] == [8, 16]
    assert history[-1]["dense"] < history[0]["dense"]
    again = run_small_stage(small_stage(16), tmp_path)
    assert all(torch.equal(one, two) for one, two in zip(student.parameters(), again.parameters(), strict=True))


def test_a_stage_of_nano_ends_with_its_minutes(tmp_path: Path) -> None:
    run_small_stage(small_stage(100_000, minutes=1e-4, town_places=4), tmp_path)
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["step"] == 1


def random_layers(widths: tuple[int, ...]) -> TeacherLayers:
    def layer(outputs: int, inputs: int, kernel: int, stride: int, groups: int) -> Layer:
        weight = torch.randn(outputs, inputs, kernel, kernel) * (2 / (inputs * kernel**2)) ** 0.5
        return Layer(weight, torch.rand(outputs), stride, groups)

    blocks = [
        SeparableBlock(layer(one, 1, 3, stride, one), layer(two, one, 1, 1, 1))
        for (one, two), stride in zip(itertools.pairwise(widths), block_strides(widths), strict=True)
    ]
    return TeacherLayers(layer(widths[0], 3, 3, 2, 1), blocks)


@pytest.mark.parametrize("in_a_row", [False, True], ids=["block by block", "in a row"])
def test_a_stem_learns_what_the_teachers_layers_give(tmp_path: Path, in_a_row: bool) -> None:
    torch.manual_seed(0)
    widths, pictures = (8, 16, 16, 24), small_pool().images
    layers, stem = random_layers(widths), ConvStem(widths, 12)
    seen = torch.from_numpy(pictures).float() / 255
    begin_stem(stem, layers, seen)
    stage = StemStage("small", Schedule(40, 1e-2, warm_up=3), side=64, pictures=6, in_a_row=in_a_row)

    def left(learner: ConvStem) -> float:
        with torch.no_grad():
            module = StemModule(learner.eval(), layers, pictures, pictures, stage, 0)
            return float(sum(unexplained_variance(given, wanted) for given, wanted in module.pairs(seen)))

    before = left(stem)
    distil_stem(StemModule(stem.train(), layers, pictures, pictures, stage, 0), tmp_path, Machine("cpu", "1"))
    assert left(stem) < 0.6 * before
    again = ConvStem(widths, 12)
    distil_stem(StemModule(again, layers, pictures, pictures, stage, 0), tmp_path, Machine("cpu", "1"))
    assert left(again) == left(stem)


def test_the_teachers_first_layers_give_what_its_interpreter_gives(footage: Path) -> None:
    file = footage.parent / "teachers" / teacher.FILE
    if not file.is_file():
        pytest.skip(f"no teacher at {file}")
    picture = Preprocessor().resize(read_rgb(footage / "opensfm_lund" / "images" / "01.jpg"))
    layers = read_layers(file, 13)
    (last,) = layers(picture[None].float() / 255)[-1]
    given = teacher.Teacher(file)(picture.numpy()).astype(np.float32)
    assert np.corrcoef(last.flatten(1).T.flatten().numpy(), given.flatten())[0, 1] > 0.98


def test_the_recipe_of_nano_is_one_that_the_script_reads() -> None:
    config = CONFIGS / "nano.yaml"
    recipe = read_yaml(config)
    of_stem, of_all = read_stages(recipe, config)
    assert [stage.in_a_row for stage in of_stem] == [False, True]
    assert [(stage.side, stage.stem) for stage in of_all] == [(160, 0)]


def test_the_bundled_weights_were_trained_on_training_towns_only() -> None:
    with safe_open(WEIGHTS / "nano.safetensors", framework="np") as file:
        notes = file.metadata()
    seeds = json.loads(notes["town_seeds"])
    assert {seed_purpose(seed) for seed in range(seeds["first"], seeds["last"] + 1)} == {"training"}
    assert notes["preprocessing"] == Preprocessor().hash
    assert json.loads(notes["architecture"])["name"] == NANO.name


def test_the_bundled_files_are_small_enough_to_bundle() -> None:
    assert (WEIGHTS / "nano.safetensors").stat().st_size <= 8_400_000
    assert (WEIGHTS / "nano.pca512.safetensors").stat().st_size <= 3_000_000
