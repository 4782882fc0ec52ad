"""Distillation and fine-tuning as published, on a miniature GSV-Cities that the test makes."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from one_batch import read_batch, train_one_batch
from pytorch_lightning import LightningModule
from torch import Tensor
from torch.utils.data import DataLoader

from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.errors import UserError
from d2vpr_ros.model import D2VPR, CricaVPR, D2VPRConfig, load_checkpoint
from d2vpr_ros.model.config import AdapterWidths
from models import distill, finetune
from models.batches import BatchStream, Transform
from models.commands import CONFIGS
from models.dinov2 import start_from_dinov2
from models.gsv_cities import COLUMNS, read_gsv_cities
from models.places import with_enough_images
from models.rand_augment import NAMES, OPERATIONS, RandAugment
from models.recipes import Rate, read_recipe
from models.run_folder import write_weights
from models.runs import Machine, train

CHECKOUT = Path(__file__).resolve().parent.parent
TINY = D2VPRConfig("tiny", 24, 2, 3, (1, 2), AdapterWidths(12, 6, 3, 3), 24, 8, 8, 4, 4)
SIDE = 56


def make_gsv_cities(root: Path) -> Path:
    """Two cities of four places with three images, and one place with a single image."""
    random = np.random.default_rng(0)
    (root / "Dataframes").mkdir(parents=True)
    for city in ("Alpha", "Beta"):
        (root / "Images" / city).mkdir(parents=True)
        lines = [COLUMNS]
        for place, count in enumerate([3, 3, 3, 3, 1]):
            scene = random.integers(0, 256, (4, 6, 3), dtype=np.uint8)
            for view in range(count):
                lat, north, panoid = f"41.9{place}0", 30 * view, f"pano_{place}-{view}"
                lines.append((place, 2015 + view, view + 1, north, city, lat, "-0.5", panoid))
                # The distributed name: ids padded to 7, the bearing to 3, and no zero at the end of 41.90.
                name = f"{city}_{place:07d}_{2015 + view}_0{view + 1}_{north:03d}_{float(lat)}_-0.5_{panoid}.jpg"
                noise = random.integers(0, 30, (48, 72, 3), dtype=np.uint8)
                cv2.imwrite(str(root / "Images" / city / name), cv2.resize(scene, (72, 48)) // 2 + noise)
        with (root / "Dataframes" / f"{city}.csv").open("w", newline="") as file:
            csv.writer(file).writerows(lines)
    return root


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with gsv/, the recipes distill.yaml and finetune.yaml, student.safetensors and dinov2.pth; tiny ones."""
    folder = tmp_path_factory.mktemp("training")
    make_gsv_cities(folder / "gsv")
    torch.manual_seed(0)
    student = D2VPR(TINY)
    write_weights(student, folder / "student.safetensors")
    torch.save(dinov2_state(student), folder / "dinov2.pth")
    common = {
        "data": {"kind": "gsv_cities", "places_per_batch": 4, "images_per_place": 2},
        "transform": {"size": SIDE, "augment": {"operations": 1, "magnitude": 5}},
        "rate": {"highest": 1e-3},
        "epochs": 3,
        "workers": 0,
        "checkpoint_every": 2,
    }
    architecture = json.loads(json.dumps(dataclasses.asdict(TINY)))
    recipes = {
        "distill": {"stage": "distill", "model": architecture, **common},
        "finetune": {"stage": "finetune", "trained_blocks": 1, **common},
    }
    for name, recipe in recipes.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
    return folder


def dinov2_state(model: D2VPR) -> dict[str, Tensor]:
    """What a DINOv2 file of the student's size holds: no adapters, no recovery module, but a final norm."""
    own = {
        name: torch.randn_like(value)
        for name, value in model.backbone.state_dict().items()
        if ".adapter." not in name and not name.startswith(("lin.", "up_norm."))
    }
    return own | {"norm.weight": torch.ones(TINY.width), "norm.bias": torch.zeros(TINY.width)}


def words_of(stage: str, workplace: Path, out: Path) -> list[str]:
    """The command line of a stage."""
    words = ["--config", workplace / f"{stage}.yaml", "--data", workplace / "gsv", "--out", out, "--accelerator", "cpu"]
    if stage == "finetune":
        words += ["--weights", workplace / "student.safetensors"]
    else:
        words += ["--teacher", workplace / "student.safetensors", "--dinov2", workplace / "dinov2.pth"]
    return [str(word) for word in words]


def run_script(script: str, words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """A Python script in a process of its own."""
    path = folder / "script.py"
    path.write_text(script)
    path_of = f"{CHECKOUT}{os.pathsep}{CHECKOUT / 'test'}"
    environment = os.environ | {"PYTHONPATH": path_of}
    command = [sys.executable, str(path), *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, check=False)


def weights_in(path: Path) -> dict[str, Tensor]:
    return load_checkpoint(path).state_dict()


@pytest.mark.parametrize("stage", ["distill", "finetune"])
def test_a_fast_dev_run_takes_one_batch_and_leaves_nothing(
    stage: str, workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = distill if stage == "distill" else finetune
    assert script.main([*words_of(stage, workplace, tmp_path / "run"), "--fast-dev-run"]) == 0
    assert "it fits together" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_fine_tuning_changes_the_last_blocks_and_what_is_behind_them_and_nothing_else(
    workplace: Path, tmp_path: Path
) -> None:
    assert finetune.main([*words_of("finetune", workplace, tmp_path), "--precision", "bf16-mixed", "--clip", "1"]) == 0
    before, after = weights_in(workplace / "student.safetensors"), weights_in(tmp_path / "last.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    trained = ("backbone.blocks.1.", "backbone.lin.", "backbone.up_norm.", "aggregation.1.p", "offset_generator.")
    assert all(name.startswith((*trained, "topdown_fusion.", "pos_encoder.")) for name in changed)
    assert "backbone.blocks.1.adapter.branch1.bn.running_mean" in changed  # the statistics of trained blocks do move
    assert {"aggregation.1.p", "backbone.lin.weight", "pos_encoder.fc.0.weight"} <= changed

    facts = json.loads((tmp_path / "run.json").read_text())
    assert facts["data_fingerprint"] == read_gsv_cities(workplace / "gsv").fingerprint
    assert facts["steps_per_epoch"] == 2 and facts["places"] == 8 and facts["git_revision"]
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["precision"] == "bf16-mixed"
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 6 and {"loss", "gradient", "rate"} <= set(last)
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))


def test_distillation_learns_from_a_teacher_that_stays_as_it_is(workplace: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    student, teacher = D2VPR(TINY), D2VPR(TINY)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    module = distill.Distillation(student, teacher)
    module.train()
    module.log = lambda *_, **__: None  # type: ignore[method-assign]  # there is no trainer to log to
    loss = module.training_step((torch.randint(0, 256, (3, 3, SIDE, SIDE), dtype=torch.uint8), torch.arange(3)), 0)
    loss["loss"].backward()  # type: ignore[no-untyped-call]
    assert not teacher.training and all(parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    assert student.backbone.patch_embed.proj.weight.grad is not None

    assert distill.main([*words_of("distill", workplace, tmp_path), "--epochs", "12"]) == 0
    losses = [json.loads(line)["loss"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]
    assert not any(name.startswith("teacher") for name in checkpoint_names(tmp_path))


def checkpoint_names(run: Path) -> list[str]:
    return list(torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])


def test_a_run_that_goes_on_keeps_its_metrics_and_one_that_is_over_keeps_everything(
    workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.runs.LOG_EVERY", 1)
    words = words_of("finetune", workplace, tmp_path)
    assert finetune.main(words) == 0
    path = tmp_path / "metrics.jsonl"
    whole, weights = path.read_text(), (tmp_path / "last.safetensors").read_bytes()
    assert [json.loads(line)["step"] for line in whole.splitlines()] == [1, 2, 3, 4, 5, 6]
    path.write_text(whole + '{"step": 7, "loss": 0.5}\n{"step": 8, "lo')  # written after the last checkpoint
    assert finetune.main(words) == 0
    assert (tmp_path / "last.safetensors").read_bytes() == weights

    longer = words_of("finetune", workplace, tmp_path)
    config = tmp_path / "config.yaml"
    config.write_text(config.read_text().replace("epochs: 3", "epochs: 4"))
    assert finetune.main([*longer, "--epochs", "4"]) == 0
    steps = [json.loads(line)["step"] for line in path.read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6, 7, 8] and path.read_text().startswith(whole)


KILLED = """
import os, signal, sys
from models import finetune, runs
begin = runs.EachStep.on_train_batch_start
def begin_or_die(self, trainer, *rest):
    if trainer.global_step == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    begin(self, trainer, *rest)
runs.EachStep.on_train_batch_start = begin_or_die
finetune.main(sys.argv[1:])
"""


def test_a_run_that_was_killed_ends_with_the_weights_of_one_that_was_not(workplace: Path, tmp_path: Path) -> None:
    words = words_of("finetune", workplace, tmp_path / "killed")
    assert run_script(KILLED, words, tmp_path).returncode == -signal.SIGKILL
    assert (tmp_path / "killed" / "checkpoints" / "last.ckpt").exists()
    assert not (tmp_path / "killed" / "last.safetensors").exists()
    assert finetune.main(words) == 0
    assert finetune.main(words_of("finetune", workplace, tmp_path / "whole")) == 0
    killed, whole = (weights_in(tmp_path / run / "last.safetensors") for run in ("killed", "whole"))
    assert all(torch.equal(killed[name], whole[name]) for name in whole)


@pytest.mark.slow
def test_two_processes_that_share_a_batch_have_the_loss_and_the_gradients_of_one(
    workplace: Path, tmp_path: Path
) -> None:
    loss, gradients = train_one_batch(workplace, tmp_path / "one", "1")
    result = run_script("import one_batch; one_batch.main()", [str(workplace), str(tmp_path / "two"), "2"], tmp_path)
    assert result.returncode == 0, result.stderr
    loss_of_two, gradients_of_two = read_batch(tmp_path / "two")
    assert loss_of_two == pytest.approx(loss, rel=1e-5) and loss > 0
    assert gradients.keys() == gradients_of_two.keys()
    for name, gradient in gradients.items():
        scale = gradient.abs().max()
        assert torch.allclose(gradients_of_two[name], gradient, atol=1e-4 * float(scale) + 1e-8), name


def test_the_best_weights_are_those_with_the_best_recall_on_the_validation_set(workplace: Path, tmp_path: Path) -> None:
    places = read_gsv_cities(workplace / "gsv")
    first, second = ([places.read(int(rows[view])) for rows in places.rows if len(rows) == 3] for view in (0, 1))
    for name, images in (("database", first), ("queries", second)):
        folder = tmp_path / "sped" / "images" / "test" / name
        folder.mkdir(parents=True)
        for number, image in enumerate(images):
            cv2.imwrite(str(folder / f"@{1000 * number}@0@.png"), image[..., ::-1])
    words = [*words_of("finetune", workplace, tmp_path), "--validation", "sped", str(tmp_path / "sped")]
    assert finetune.main(words) == 0
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    recalls = {line["step"]: line["recall@1"] for line in lines if "recall@1" in line}
    assert list(recalls) == [2, 4, 6]  # every epoch

    network, still = load_checkpoint(tmp_path / "best.safetensors"), Transform(SIDE, augment=RandAugment(0))
    unused = np.random.default_rng()
    with torch.no_grad():
        one, two = (
            network(Preprocessor().normalise(torch.stack([still(image, unused) for image in images])))
            for images in (first, second)
        )
    found = (two @ one.T).argmax(dim=1) == torch.arange(8)
    assert max(recalls.values()) == pytest.approx(float(found.float().mean()))


def test_batches_lie_within_a_city_hold_every_place_once_an_epoch_and_are_known_by_their_number() -> None:
    groups = ["Alpha"] * 8 + ["Beta"] * 8
    stream = iter(BatchStream(groups, 4, seed=3))
    batches = [next(stream) for _ in range(8)]
    first, second = batches[:4], batches[4:]
    for epoch in (first, second):
        assert sorted(place for batch in epoch for place, _ in batch) == list(range(16))
        assert all(len({groups[place] for place, _ in batch}) == 1 for batch in epoch)
    assert first != second
    assert next(iter(BatchStream(groups, 4, seed=3, first_step=5))) == batches[5]
    halves = [next(iter(BatchStream(groups, 4, seed=3, first_step=5, rank=rank, world=2))) for rank in (0, 1)]
    assert sorted(halves[0] + halves[1]) == sorted(batches[5])


def test_gsv_cities_is_read_as_it_is_distributed(workplace: Path) -> None:
    places = read_gsv_cities(workplace / "gsv")
    assert len(places) == 10 and places.images == 26
    assert places.groups == ["Alpha"] * 5 + ["Beta"] * 5  # equal ids in two cities are two places
    assert places.read(int(places.rows[5][2])).shape == (48, 72, 3)
    assert len(with_enough_images(places, 3, workplace)) == 8  # two places have one image
    assert read_gsv_cities(workplace / "gsv", ["Beta"]).groups == ["Beta"] * 5


def test_the_fingerprint_of_the_data_changes_with_an_image_and_with_a_table(tmp_path: Path) -> None:
    root = make_gsv_cities(tmp_path)
    before = read_gsv_cities(root).fingerprint
    assert read_gsv_cities(root).fingerprint == before
    image = next((root / "Images" / "Alpha").iterdir())
    image.write_bytes(image.read_bytes() + b"\0")
    changed = read_gsv_cities(root).fingerprint
    table = root / "Dataframes" / "Beta.csv"
    table.write_text(table.read_text().rsplit("\n", 2)[0] + "\n")
    assert len({before, changed, read_gsv_cities(root).fingerprint}) == 3


def spoil(root: Path, how: str) -> None:
    table = root / "Dataframes" / "Alpha.csv"
    image = next((root / "Images" / "Alpha").iterdir())
    if how == "no tables":
        (root / "Dataframes").rename(root / "Tables")
    elif how == "columns":
        table.write_text(table.read_text().replace("northdeg", "bearing"))
    elif how == "line":
        table.write_text(table.read_text().replace("2015", "in summer", 1))
    elif how == "path":
        table.write_text(table.read_text().replace("pano_0-0", "../../secret", 1))
    elif how == "missing image":
        image.unlink()
    else:
        image.write_bytes(b"no image")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("no tables", "Dataframes: no such folder"),
        ("columns", "no column northdeg"),
        ("line", "Alpha.csv line 2: not a line of GSV-Cities"),
        ("path", "a name with a path in it"),
        ("missing image", "is missing; unpack Alpha again"),
        # In a process that reads ahead; torch takes five seconds to end one that met an error.
        pytest.param("broken image", "cannot be read as an image", marks=pytest.mark.slow),
    ],
)
def test_bad_data_is_one_line(
    how: str, said: str, workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(make_gsv_cities(tmp_path / "gsv"), how)
    words = [*words_of("finetune", workplace, tmp_path / "run"), "--data", str(tmp_path / "gsv"), "--epochs", "12"]
    workers = ["--workers", "1"] if how == "broken image" else []  # whichever process finds it
    assert finetune.main([*words, *workers]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert said in line


def test_a_run_folder_of_another_recipe_is_refused(
    workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*words_of("finetune", workplace, tmp_path), "--epochs", "1"]
    assert finetune.main(words) == 0
    assert finetune.main([*words, "--seed", "9"]) == 2
    assert "contains a run of another recipe" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_line(
    workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finetune.main([*words_of("finetune", workplace, tmp_path), "--accelerator", "gpu"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: Lightning: ") and "gpu" in line and "--accelerator" in line


def test_a_student_starts_as_dinov2_with_adapters_that_add_nothing(workplace: Path, tmp_path: Path) -> None:
    model = D2VPR(TINY)
    assert start_from_dinov2(model, workplace / "dinov2.pth") == ["norm.weight", "norm.bias"]
    loaded = torch.load(workplace / "dinov2.pth", weights_only=True)
    assert torch.equal(model.backbone.blocks[1].attn.qkv.weight, loaded["blocks.1.attn.qkv.weight"])
    adapter = model.backbone.blocks[0].adapter
    assert not adapter(torch.randn(1, 17, TINY.width)).any()
    assert adapter.branch2[1].conv.weight.unique().tolist() == pytest.approx([1e-5])

    short = {name: value for name, value in loaded.items() if name != "blocks.0.ls1.gamma"} | {
        "head.bias": torch.ones(1)
    }
    torch.save(short, tmp_path / "short.pth")
    with pytest.raises(UserError, match=r"1 missing \(blocks.0.ls1.gamma\); 1 unexpected \(head.bias\)"):
        start_from_dinov2(model, tmp_path / "short.pth")


@pytest.mark.slow
def test_the_real_teacher_and_the_paper_s_student_fit_together(workplace: Path, tmp_path: Path) -> None:
    """Random weights of the true sizes: CricaVPR teaches `small` on one batch of two images."""
    torch.save(
        {f"module.{name}": value.half() for name, value in CricaVPR().state_dict().items()}, tmp_path / "crica.pth"
    )
    small = D2VPR()
    backbone = small.backbone.state_dict()
    own = {n: v for n, v in backbone.items() if ".adapter." not in n and not n.startswith(("lin.", "up_norm."))}
    torch.save(own | {"norm.weight": torch.ones(384), "norm.bias": torch.zeros(384)}, tmp_path / "dinov2.pth")
    recipe = yaml.safe_load((CONFIGS / "distill.yaml").read_text())
    recipe |= {"data": {"kind": "images", "places_per_batch": 2, "images_per_place": 1}, "workers": 0}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    files = {"config": "recipe.yaml", "teacher": "crica.pth", "dinov2": "dinov2.pth", "out": "run"}
    paths = [word for name, file in files.items() for word in (f"--{name}", str(tmp_path / file))]
    paths += ["--data", str(workplace / "gsv" / "Images"), "--accelerator", "cpu", "--fast-dev-run"]
    assert distill.main(paths) == 0


def recipes() -> Iterator[tuple[str, str]]:
    yield "distill.yaml", "distill"
    yield "finetune_released.yaml", "finetune"
    yield "finetune_paper.yaml", "finetune"


def test_the_published_recipes_have_the_published_rates() -> None:
    read = {name: read_recipe(CONFIGS / name, stage) for name, stage in recipes()}
    released, paper = read["finetune_released.yaml"], read["finetune_paper.yaml"]
    steps = 500  # an epoch
    assert released.rate.at(120 * steps - 1, steps) == pytest.approx(2e-4 * 120 / 3900)  # 6e-6, and still climbing
    assert [paper.rate.at(step, steps) for step in (3899, 10 * steps - 1)] == pytest.approx([2e-4, 2e-4])
    assert paper.rate.at(20 * steps, steps) == pytest.approx(2e-6)
    assert {read["distill.yaml"].rate.at(step, steps) for step in (0, 10_000)} == {2.5e-5}
    assert released.data.places_per_batch * released.data.images_per_place == 512
    assert read["distill.yaml"].data.places_per_batch * read["distill.yaml"].data.images_per_place == 32
    assert [read[name].transform.resize for name, _ in recipes()] == ["bilinear", "bicubic", "bicubic"]


def test_a_recipe_with_a_slip_is_refused_in_one_line(tmp_path: Path) -> None:
    slip = tmp_path / "slip.yaml"
    slip.write_text("stage: finetune\nepochs: 1\nrate: {higest: 1.0}\n")
    with pytest.raises(UserError, match="rate: higest is not known"):
        read_recipe(slip, "finetune")
    with pytest.raises(UserError, match="takes recipes with stage: distill"):
        read_recipe(slip, "distill")
    with pytest.raises(UserError, match="expected steps or epochs"):
        Rate(1.0, warm_up_in="minutes").at(0, 1)


@pytest.mark.parametrize("name", NAMES)
def test_every_operation_of_rand_augment_gives_an_image_again(name: str) -> None:
    random = np.random.default_rng(0)
    image = cv2.resize(random.integers(0, 256, (6, 8, 3), dtype=np.uint8), (40, 30))
    operation, most, _ = OPERATIONS[name]
    changed = operation(image, most / 2)
    assert changed.shape == image.shape and changed.dtype == np.uint8
    if most:
        assert not np.array_equal(changed, image)
        if name != "posterize":  # at 0 bits less
            assert np.abs(operation(image, 0.0).astype(int) - image).max() <= 1
    again = [RandAugment(3, 15)(image, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert np.array_equal(again[0], again[1]) and not np.array_equal(again[0], again[2])


def test_a_transform_that_changes_nothing_squashes_the_image_alone() -> None:
    image = np.full((30, 60, 3), 77, np.uint8)
    for resize in ("bilinear", "bicubic"):
        transform = Transform(SIDE, resize, RandAugment(operations=0))
        assert torch.equal(
            transform(image, np.random.default_rng(0)), torch.full((3, SIDE, SIDE), 77, dtype=torch.uint8)
        )


class FitsInMemory(LightningModule):
    """Runs out of memory as a GPU does above `most` images, of which each costs the same."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most, self.layer = most, torch.nn.Linear(2, 1)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        if len(batch[0]) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return self.layer(batch[0]).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize(
    ("most", "told"), [(7, "24 images a batch do not fit, 6 do"), (0, "24 images a batch do not fit, not even one")]
)
def test_a_gpu_that_runs_out_of_memory_is_told_with_the_batch_that_fits(tmp_path: Path, most: int, told: str) -> None:
    def batches(step: int, rank: int, world: int) -> DataLoader[Any]:
        return DataLoader([[torch.ones(24, 2), torch.arange(24)]], batch_size=None)  # type: ignore[arg-type]

    with pytest.raises(UserError, match=f"the GPU ran out of memory: {told}"):
        train(
            FitsInMemory(most), batches, tmp_path, steps=1, rate_at=lambda _: 0.1, seed=0, machine=Machine("cpu", "1")
        )
