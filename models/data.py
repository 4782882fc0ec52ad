"""Training pictures: which footage may be trained on, and a cache of what training reads (memory-mapped npy)."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from d2vpr_ros.describe.preprocess import Preprocessor
from d2vpr_ros.errors import UserError

HELD_OUT_FLOORS = ("floor7", "floor14", "floor20")
"""Floors of ie_tower that are never trained on: what false matches and recall indoors are measured on."""


@dataclass(frozen=True)
class Picture:
    """One frame of footage.

    Attributes:
        path: the file.
        video: frames of one video are neighbours.
        second: position in the video.
        floor: of the tower, else the name of the footage.
    """

    path: Path
    video: str
    second: int
    floor: str


def read_rows(footage: Path, name: str) -> list[dict[str, str]]:
    """The rows of NAME/poses.csv; UserError where the folder is not there."""
    table = footage / name / "poses.csv"
    if not table.is_file():
        raise UserError(f"{table}: no such footage; expected a folder {name} with images/ and poses.csv")
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def tower_pictures(footage: Path) -> list[Picture]:
    """All frames of ie_tower, in order."""
    rows = read_rows(footage, "ie_tower")
    return [
        Picture(footage / "ie_tower" / row["filename"], row["video"], int(float(row["timestamp"])), row["floor"])
        for row in rows
    ]


def street_pictures(footage: Path) -> list[Picture]:
    """The street photographs of opensfm_lund."""
    rows = read_rows(footage, "opensfm_lund")
    return [
        Picture(footage / "opensfm_lund" / row["filename"], "lund", number, "lund") for number, row in enumerate(rows)
    ]


def training_pictures(footage: Path) -> list[Picture]:
    """Everything real that is trained on: the tower without its held-out floors, and the street photographs."""
    tower = [picture for picture in tower_pictures(footage) if picture.floor not in HELD_OUT_FLOORS]
    return tower + street_pictures(footage)


def read_rgb(path: Path) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise UserError(f"{path}: cannot be read as an image")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def crops(image: npt.NDArray[np.uint8], count: int, random: np.random.Generator) -> Iterator[npt.NDArray[np.uint8]]:
    """The whole picture, then `count - 1` random parts of a fifth to nine tenths of its area."""
    yield image
    height, width = image.shape[:2]
    for _ in range(count - 1):
        area = random.uniform(0.2, 0.9)
        stretch = np.exp(random.uniform(-0.3, 0.3))
        rows = int(height * min(1.0, np.sqrt(area) * stretch))
        columns = int(width * min(1.0, np.sqrt(area) / stretch))
        top, left = random.integers(0, height - rows + 1), random.integers(0, width - columns + 1)
        yield image[top : top + rows, left : left + columns]


def cache_crops(
    pictures: list[Picture], per_tower: int, per_street: int, out: Path, seed: int = 0
) -> npt.NDArray[np.uint8]:
    """Crops of the pictures at the network's size as (N, 3, S, S) uint8 in `out`; kept where it is already there."""
    if not out.exists():
        random, preprocessor = np.random.default_rng(seed), Preprocessor()
        counts = [per_street if picture.video == "lund" else per_tower for picture in pictures]
        shape = (sum(counts), 3, preprocessor.size, preprocessor.size)
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = out.with_suffix(".partial")
        cache = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)  # type: ignore[no-untyped-call]
        row = 0
        for picture, count in zip(tqdm(pictures, desc="crops", mininterval=10), counts, strict=True):
            for crop in crops(read_rgb(picture.path), count, random):
                cache[row] = preprocessor.resize(crop).numpy()
                row += 1
        cache.flush()
        partial.rename(out)
    return np.load(out, mmap_mode="r")


def crop_groups(pictures: list[Picture], per_tower: int, per_street: int) -> npt.NDArray[np.int64]:
    """For every row of `cache_crops` a number that crops share which may show the same place.

    That is a video of the tower, and three street photographs in a row.
    """
    known: dict[str, int] = {}
    groups = []
    for picture in pictures:
        is_street = picture.video == "lund"
        name = f"lund {picture.second // 3}" if is_street else picture.video
        groups += [known.setdefault(name, len(known))] * (per_street if is_street else per_tower)
    return np.array(groups)


def neighbour_rows(pictures: list[Picture], per_tower: int, per_street: int) -> npt.NDArray[np.int64]:
    """For every row of `cache_crops` the row of its whole picture and that of the next frame of the video: (N, 2).

    The two show one place from a walking step apart. A street photograph has no next frame: its own row stands there.
    """
    counts = [per_street if picture.video == "lund" else per_tower for picture in pictures]
    whole = np.concatenate([[0], np.cumsum(counts)[:-1]])
    rows = []
    for number, (picture, count) in enumerate(zip(pictures, counts, strict=True)):
        following = pictures[min(number + 1, len(pictures) - 1)]
        follows = following.video == picture.video != "lund" and following.second == picture.second + 1
        rows += [(whole[number], whole[number + 1] if follows else whole[number])] * count
    return np.array(rows, np.int64)
