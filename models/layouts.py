"""Reading a benchmark in the layouts in which the field hands data sets around; images are read when needed."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import overload

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from d2vpr_ros.errors import UserError
from models.benchmarks import Benchmark, Image
from models.data import read_rgb
from models.gsv_cities import read_gsv_cities
from models.index_npy import read_index_lists
from models.protocols import Protocol, described

ENDINGS = (".jpg", ".jpeg", ".png")
GROUND_TRUTH = ("gt_25m", "gt", "pIdx")


class Pictures(Sequence[Image]):
    """Images that are read when they are asked for.

    Attributes:
        names: for people.
    """

    def __init__(self, names: Sequence[str], read: Callable[[int], Image]) -> None:
        self.names, self._read = names, read

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, row: int) -> Image: ...
    @overload
    def __getitem__(self, row: slice) -> list[Image]: ...
    def __getitem__(self, row: int | slice) -> Image | list[Image]:
        if isinstance(row, slice):
            return [self._read(number) for number in range(len(self))[row]]
        return self._read(range(len(self))[row])

    def __iter__(self) -> Iterator[Image]:
        return map(self._read, range(len(self)))


def _files(paths: Sequence[Path], root: Path) -> Pictures:
    return Pictures([path.relative_to(root).as_posix() for path in paths], lambda row: read_rgb(paths[row]))


def _list_images(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS) if folder.is_dir() else []
    if not files:
        raise UserError(f"{folder}: no images; expected a folder with {', '.join(ENDINGS)} files")
    return files


def _matrix(lists: Sequence[Sequence[int] | npt.NDArray[np.int64]], database: int) -> npt.NDArray[np.bool_]:
    """(queries, database), a byte a pair: 0.76 GB for Nordland, the largest of them."""
    positives = np.zeros((len(lists), database), bool)
    for row, found in enumerate(lists):
        positives[row, np.asarray(found, np.int64)] = True
    return positives


def _of(protocol: Protocol, database: Pictures, queries: Pictures, positives: npt.NDArray[np.bool_]) -> Benchmark:
    without = sum(not row.any() for row in positives)
    notes = described(protocol, len(database), len(queries), without)
    return Benchmark(protocol.name, protocol.rule, database, queries, positives, tuple(notes))


def read_benchmark(protocol: Protocol, data: Path, images: Path | None = None) -> Benchmark:
    """A named benchmark in whichever layout its protocol has: npy lists, or folders.

    Args:
        images: where npy lists find their images; None: at `data`, too.

    Raises:
        UserError: the data is not there, or not as it should be.
    """
    return read_listed(data, images or data, protocol) if protocol.prefix else read_named_folders(data, protocol)


def read_named_folders(root: Path, protocol: Protocol) -> Benchmark:
    """The benchmark layout: images/{train,val,test}/{database,queries}, files called `@utm_e@utm_n@...@.jpg`.

    Args:
        root: the data set, its images/, or the folder that holds database/ and queries/.

    Raises:
        UserError: no such folders, no images, or a name without a position.
    """
    places = (root / "images" / protocol.split, root / protocol.split, root)
    found = [place for place in places if (place / "database").is_dir() and (place / "queries").is_dir()]
    if not found:
        raise UserError(f"{root}: no images/{protocol.split}/database and queries there, as {protocol.name} has them")
    database, queries = (_list_images(found[0] / name) for name in ("database", "queries"))
    tree = cKDTree([utm_position(path) for path in database])
    lists = tree.query_ball_point([utm_position(path) for path in queries], protocol.radius_m)
    positives = _matrix(list(lists), len(database))
    return _of(protocol, _files(database, found[0]), _files(queries, found[0]), positives)


def utm_position(path: Path) -> tuple[float, float]:
    """Easting and northing in metres, the first two fields between the @ of a file's name.

    Raises:
        UserError: there are none.
    """
    fields = path.name.split("@")
    try:
        east, north = float(fields[1]), float(fields[2])
        if not np.isfinite([east, north]).all():
            raise ValueError("not finite")
    except (IndexError, ValueError):
        raise UserError(f"{path}: no position in its name; expected @UTM_EAST@UTM_NORTH@...@{path.suffix}") from None
    return east, north


def read_listed(folder: Path, images: Path, protocol: Protocol) -> Benchmark:
    """A set whose images and correct ones are listed in npy files, as GSV-Cities, MixVPR and OpenVPRLab have them.

    PREFIX_dbImages.npy and PREFIX_qImages.npy hold names below `images`; PREFIX_gt_25m.npy, _gt.npy or _pIdx.npy the
    rows of the correct database images; PREFIX_qIdx.npy, where there is one, which of the queries count.

    Raises:
        UserError: a file is missing or holds something else, or an image is not there.
    """
    database = _names(folder / f"{protocol.prefix}_dbImages.npy")
    queries = _names(folder / f"{protocol.prefix}_qImages.npy")
    truths = [folder / f"{protocol.prefix}_{name}.npy" for name in GROUND_TRUTH]
    truth = next((path for path in truths if path.is_file()), truths[0])
    lists = read_index_lists(truth)
    counting = folder / f"{protocol.prefix}_qIdx.npy"
    if truth.stem.endswith("pIdx") and counting.is_file():
        rows = np.concatenate(read_index_lists(counting) or [np.empty(0, np.int64)])
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(queries):
            raise UserError(f"{counting}: has a number above the {len(queries)} queries")
        queries = [queries[row] for row in rows]
    if len(lists) != len(queries):
        raise UserError(f"{truth}: {len(lists)} lists for {len(queries)} queries; the files belong to different sets")
    rows = np.concatenate([np.empty(0, np.int64), *lists])
    if len(rows) and not 0 <= rows.min() <= rows.max() < len(database):
        raise UserError(f"{truth}: has a number above the {len(database)} database images; files of different sets")
    for name in (*database, *queries):
        if not (images / name).is_file():
            raise UserError(f"{images / name}: no such image, but {folder} lists it; give its folder with --images")
    read = [[images / name for name in names] for names in (database, queries)]
    return _of(protocol, _files(read[0], images), _files(read[1], images), _matrix(lists, len(database)))


def _names(path: Path) -> list[str]:
    try:
        names = [str(name) for name in np.load(path, allow_pickle=False)]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected the npy lists of the validation set there") from None
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path}: not a list of image names ({error})") from None
    for name in names:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise UserError(f"{path}: names {name!r}, which is outside the folder of images")
    return names


def read_gsv_places(root: Path, cities: Sequence[str] | str = "all") -> Benchmark:
    """GSV-Cities as distributed: the last image of every place with two or more is asked for, the others answer."""
    places = read_gsv_cities(root, cities)
    rows = [of_place for of_place in places.rows if len(of_place) > 1]
    if not rows:
        raise UserError(f"{root}: no place has two images, so there are no queries")
    asked = [int(of_place[-1]) for of_place in rows]
    kept = [int(row) for of_place in places.rows for row in (of_place[:-1] if len(of_place) > 1 else of_place)]
    where = {row: number for number, row in enumerate(kept)}
    positives = _matrix([[where[int(row)] for row in of_place[:-1]] for of_place in rows], len(kept))
    database = Pictures([str(row) for row in kept], lambda row: places.read(kept[row]))
    queries = Pictures([str(row) for row in asked], lambda row: places.read(asked[row]))
    notes = (f"{places.described}; the last image of each is the query",)
    return Benchmark("GSV-Cities places", "equal place", database, queries, positives, notes)


def read_plain_folders(
    database: Path, queries: Path, labels: Path | None = None, tolerance: int | None = None
) -> Benchmark:
    """Two folders of any images.

    Args:
        labels: a csv with the columns query and database: names below the folders, one correct pair a line.
        tolerance: correct are images whose numbers (the last in a file's name) differ by this at most.

    Raises:
        UserError: no images, a name without a number, or a label that names no image.
    """
    files, asked = _list_images(database), _list_images(queries)
    shown, wanted = _files(files, database), _files(asked, queries)
    benchmark = Benchmark(
        f"{queries.name} in {database.name}", "no labels", shown, wanted, _matrix([[]] * len(asked), len(files)), ()
    )
    if labels is not None:
        positives = _labelled(labels, shown.names, wanted.names)
        return replace(benchmark, rule=f"pairs of {labels.name}", positives=positives, notes=(ALL_WITH_LABELS,))
    if tolerance is not None:
        numbers = [np.array([_number(path) for path in paths]) for paths in (asked, files)]
        near = np.abs(numbers[0][:, None] - numbers[1][None]) <= tolerance
        return replace(benchmark, rule=f"number ±{tolerance}", positives=near, notes=(ALL_WITH_LABELS,))
    return replace(benchmark, labelled=False, notes=("without labels there is no recall, only the best matches",))


ALL_WITH_LABELS = "counted: all queries; one without a correct image counts as missed"


def _number(path: Path) -> int:
    numbers = re.findall(r"\d+", path.stem)
    if not numbers:
        raise UserError(f"{path}: no number in its name, which --tolerance needs; give pairs with --labels instead")
    return int(numbers[-1])


def _labelled(labels: Path, database: Sequence[str], queries: Sequence[str]) -> npt.NDArray[np.bool_]:
    rows, columns = ({name: row for row, name in enumerate(names)} for names in (queries, database))
    positives = np.zeros((len(queries), len(database)), bool)
    try:
        with labels.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            for line in reader:
                positives[rows[line["query"]], columns[line["database"]]] = True
    except KeyError as error:
        raise UserError(
            f"{labels} line {reader.line_num}: {error} is no column or no image; expected columns query,database with "
            "names below the two folders"
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{labels}: cannot be read as a CSV file of labels ({error})") from None
    return positives
