"""The training scripts in models/: small pieces of them, and what is written about the bundled weights."""

from __future__ import annotations

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
from d2vpr_ros.model.config import AdapterWidths
from d2vpr_ros.sim.town import seed_purpose
from models import augment
from models.distill import Distillation, Pool, Student, distill
from models.initialise import initialised
from models.loop import Schedule
from models.thumbnail import describe_thumbnails
from models.town_views import TownViews, cache_town_views

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
    with pytest.raises(UserError, match="train on 1000 and up"):
        cache_town_views(TownViews(first=99, last=1001), tmp_path / "town.npy")


def test_a_few_steps_of_distillation_lower_the_loss_and_are_resumed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    images = np.kron(random.integers(0, 256, (6, 3, 8, 8), dtype=np.uint8), np.ones((1, 1, 28, 28), np.uint8))
    rows = np.arange(6)
    pool = Pool(images, random.normal(size=(6, 49, 12)).astype(np.float16), rows, np.stack([rows, rows], axis=1))
    student = Student(initialised(D2VPR(TINY), torch.from_numpy(images)), 12)
    still = augment.Viewpoint(0, 0, 1, 0, 0)
    checkpoint = tmp_path / "stage.pt"
    for steps in (15, 30):
        recipe = Distillation(Schedule(steps, 3e-3, warm_up=3), pictures=6, viewpoint=still)
        distill(student, pool, recipe, checkpoint)
    history = [json.loads(line) for line in checkpoint.with_suffix(".jsonl").read_text().splitlines()]
    assert [line["step"] for line in history] == [15, 20, 30]
    assert history[-1]["dense"] < history[0]["dense"]


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
