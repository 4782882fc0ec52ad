"""Miniature data sets in every layout of the field; recalls beside a direct computation in plain loops."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from d2vpr_ros.errors import UserError
from d2vpr_ros.evaluation.recall import nearest, recall_at
from models.benchmarks import Benchmark
from models.evaluate import main
from models.index_npy import read_index_lists
from models.layouts import read_gsv_places, read_listed, read_named_folders, read_plain_folders
from models.methods import Method, descriptors
from models.protocols import (
    MSLS_VAL,
    NORDLAND,
    NORDLAND_1,
    NORDLAND_2760,
    PITTS30K,
    PITTS30K_VAL,
    PROTOCOLS,
    SPED,
    Protocol,
)
from models.scores import KS, score

Image = npt.NDArray[np.uint8]


def picture(seed: int) -> Image:
    """Blocks of colour, 24 x 16."""
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return np.kron(blocks, np.ones((4, 4, 1), np.uint8))


def write(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture(seed))


def named(east: float, north: float, note: str = "") -> str:
    return f"@{east:.2f}@{north:.2f}@17@T@40.44@-80.00@{note}@@@@@@@@.jpg"


def describe(images: Sequence[Image]) -> npt.NDArray[np.float32]:
    """Each 16th pixel: enough to tell the pictures apart."""
    return np.stack([image[2::4, 2::4].reshape(-1) for image in images]).astype(np.float32) - 127


def recall_by_loops(benchmark: Benchmark) -> dict[int, float]:
    """Distances, ranks and recall one number at a time, from the pictures themselves."""
    vectors = [
        [vector / np.linalg.norm(vector) for vector in describe(list(images)).astype(np.float64)]
        for images in (benchmark.queries, benchmark.database)
    ]
    hits = dict.fromkeys(KS, 0)
    for row, query in enumerate(vectors[0]):
        distances = [float(np.sum((query - place) ** 2)) for place in vectors[1]]
        ranked = sorted(range(len(distances)), key=lambda place: (round(distances[place], 9), place))
        for k in KS:
            hits[k] += any(benchmark.positives[row, place] for place in ranked[:k])
    return {k: hits[k] / len(vectors[0]) for k in KS}


def measured(benchmark: Benchmark, folder: Path, batch: int = 3) -> dict[int, float]:
    method = Method("pixels", describe, "", batch)
    database = descriptors(method, benchmark.database, folder / "database.npy", "database")
    return score(
        method, benchmark, descriptors(method, benchmark.queries, folder / "queries.npy", "q"), database
    ).recall


@pytest.fixture
def street(tmp_path: Path) -> Path:
    """12 places 10 m apart; 5 queries, the third of them far from all, the pictures of two like their neighbours'."""
    root = tmp_path / "pitts30k"
    for place in range(12):
        write(root / "images/test/database" / named(585000 + 10 * place, 4477000), place)
    for query, (east, seed) in enumerate([(585000, 0), (585025, 2), (590000, 3), (585070, 99), (585110, 4)]):
        write(root / "images/test/queries" / named(east, 4477000, f"q{query}"), seed)
    return root


def test_positions_in_file_names_make_everything_within_25_m_correct(street: Path) -> None:
    benchmark = read_named_folders(street, PITTS30K)
    east = [585000 + 10 * place for place in range(12)]
    for row, query in enumerate([585000, 585025, 585070, 585110, 590000]):  # sorted by name
        assert list(benchmark.positives[row]) == [abs(query - place) <= 25 for place in east]
    for folder in (street / "images", street / "images/test"):
        assert np.array_equal(read_named_folders(folder, PITTS30K).positives, benchmark.positives)


def test_recall_of_a_benchmark_is_that_of_plain_loops_and_counts_the_unanswerable_query(
    street: Path, tmp_path: Path
) -> None:
    benchmark = read_named_folders(street, PITTS30K)
    recall = measured(benchmark, tmp_path)
    assert recall == recall_by_loops(benchmark)
    assert recall[1] == 2 / 5 and recall[10] < 1.0  # the first two are found; one of five can't be
    assert any("1 queries have no correct image" in note for note in benchmark.notes)


def test_the_protocol_says_where_a_set_is_not_the_published_one(street: Path) -> None:
    notes = read_named_folders(street, PITTS30K).notes
    assert "differs: 12 images in the database, the published set has 10000" in notes
    assert any(note.startswith("published: 91.7 / 95.8 / 96.8") for note in notes)
    assert all(protocol.rule and protocol.counts and protocol.pitfall for protocol in PROTOCOLS.values())


@pytest.mark.parametrize(("protocol", "frames"), [(NORDLAND, 10), (NORDLAND_1, 1)])
def test_nordland_s_made_up_positions_mean_frames(tmp_path: Path, protocol: Protocol, frames: int) -> None:
    for frame in range(16):
        for folder in ("database", "queries"):
            name = f"@0@{frame * 25 / 10.5:.2f}@@@@@@@@@@@@@.jpg"
            write(tmp_path / "images/test" / folder / name, 0)
    benchmark = read_named_folders(tmp_path, protocol)
    frame_of = [
        round(float(name.split("@")[2]) * 10.5 / 25)
        for name in benchmark.database.names  # type: ignore[attr-defined]
    ]
    expected = [[abs(query - place) <= frames for place in frame_of] for query in frame_of]
    assert np.array_equal(benchmark.positives, expected)


def test_sped_s_positions_a_kilometre_apart_mean_the_pair(tmp_path: Path) -> None:
    for pair in range(4):
        for folder in ("database", "queries"):
            write(tmp_path / "images/test" / folder / named(1000 * pair, 0), pair)
    assert np.array_equal(read_named_folders(tmp_path, SPED).positives, np.eye(4, dtype=bool))


def listed_set(folder: Path, prefix: str, truth: str, lists: list[list[int]], queries: int) -> None:
    """As those data sets are saved: names as unicode arrays, ground truth as a pickled array of arrays."""
    for kind, count in (("dbImages", 6), ("qImages", queries)):
        names = [f"cph/{kind}/{number}.jpg" for number in range(count)]
        for number, name in enumerate(names):
            write(folder / name, number)
        np.save(folder / f"{prefix}_{kind}.npy", np.array(names))
    rows = np.empty(len(lists), object)
    rows[:] = [np.array(each, np.int64) for each in lists]
    np.save(folder / f"{prefix}_{truth}.npy", rows, allow_pickle=True)


def test_msls_val_reads_its_lists_without_executing_them(tmp_path: Path) -> None:
    listed_set(tmp_path, "msls_val", "gt_25m", [[0, 1], [2], [5]], 3)
    benchmark = read_listed(tmp_path, tmp_path, MSLS_VAL)
    assert [list(np.flatnonzero(row)) for row in benchmark.positives] == [[0, 1], [2], [5]]
    assert measured(benchmark, tmp_path) == recall_by_loops(benchmark)


def test_the_older_msls_val_leaves_out_the_queries_that_do_not_count(tmp_path: Path) -> None:
    listed_set(tmp_path, "msls_val", "pIdx", [[0], [3, 4]], 4)
    np.save(tmp_path / "msls_val_qIdx.npy", np.array([0, 3]))
    benchmark = read_listed(tmp_path, tmp_path, MSLS_VAL)
    assert benchmark.queries.names == ["cph/qImages/0.jpg", "cph/qImages/3.jpg"]  # type: ignore[attr-defined]
    assert np.array_equal(benchmark.queries[1], cv2.cvtColor(cv2.imread(str(tmp_path / "cph/qImages/3.jpg")), 4))


def test_lists_of_whole_numbers_need_no_pickle(tmp_path: Path) -> None:
    listed_set(tmp_path, "pitts30k_val", "gt", [[0], [1]], 2)
    np.save(tmp_path / "pitts30k_val_gt.npy", np.array([[4], [5]]))
    rows = read_listed(tmp_path, tmp_path, PITTS30K_VAL).positives
    assert [list(np.flatnonzero(row)) for row in rows] == [[4], [5]]


class Harm:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def test_a_list_that_would_run_something_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    harmed = tmp_path / "harmed"
    rows = np.empty(1, object)
    rows[0] = Harm(harmed)
    np.save(tmp_path / "gt.npy", rows, allow_pickle=True)
    with pytest.raises(
        UserError, match=r"gt\.npy: cannot be read .*names.*expected one list of whole numbers per query"
    ):
        read_index_lists(tmp_path / "gt.npy")
    assert not harmed.exists()


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_a_damaged_list_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, at: int, byte: int) -> None:
    rows = np.empty(3, object)
    rows[:] = [np.arange(n + 1) for n in range(3)]
    path = tmp_path_factory.getbasetemp() / "damaged.npy"
    np.save(path, rows, allow_pickle=True)
    content = bytearray(path.read_bytes())
    content[at % len(content)] = byte
    path.write_bytes(content)
    try:
        assert all(found.dtype == np.int64 for found in read_index_lists(path))
    except UserError as error:
        assert str(path) in str(error)


def test_old_and_new_pickles_of_numpy_are_read(tmp_path: Path) -> None:
    rows = np.empty(2, object)
    rows[:] = [np.array([7], np.int32), np.array([], np.int64)]
    for protocol in (2, 3, 4, 5):
        path = tmp_path / f"{protocol}.npy"
        with path.open("wb") as file:
            header = {"descr": "|O", "fortran_order": False, "shape": (2,)}
            np.lib.format.write_array_header_1_0(file, header)  # type: ignore[no-untyped-call]
            file.write(pickle.dumps(rows, protocol))
        if protocol in (3, 4):
            assert [list(row) for row in read_index_lists(path)] == [[7], []]
        else:  # bytes are made by a function there, and functions are not called
            with pytest.raises(UserError, match="save it again"):
                read_index_lists(path)


@pytest.mark.parametrize(
    ("lists", "told"),
    [([[0], [1]], "2 lists for 3 queries"), ([[0], [1], [6]], "above the 6"), ([[0], [1], [-1]], "above the 6")],
)
def test_lists_of_another_set_are_refused(tmp_path: Path, lists: list[list[int]], told: str) -> None:
    listed_set(tmp_path, "Nordland", "gt", lists, 3)
    with pytest.raises(UserError, match=told):
        read_listed(tmp_path, tmp_path, NORDLAND_2760)


def test_an_image_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "msls_val_dbImages.npy", np.array(["../secret.jpg"]))
    with pytest.raises(UserError, match="is outside the folder"):
        read_listed(tmp_path, tmp_path, MSLS_VAL)


def test_gsv_cities_asks_for_the_last_image_of_each_place(tmp_path: Path) -> None:
    lines = ["place_id,year,month,northdeg,city_id,lat,lon,panoid"]
    for place, images in ((1, 3), (2, 1), (3, 2)):
        for number in range(images):
            lines.append(f"{place},2015,{number + 1},45,Bern,46.5,7.25,p{number}")
            write(tmp_path / f"Images/Bern/Bern_{place:07d}_2015_{number + 1:02d}_045_46.5_7.25_p{number}.jpg", place)
    (tmp_path / "Dataframes").mkdir()
    (tmp_path / "Dataframes/Bern.csv").write_text("\n".join(lines))
    benchmark = read_gsv_places(tmp_path)
    assert np.array_equal(benchmark.positives, [[True, True, False, False], [False, False, False, True]])
    assert measured(benchmark, tmp_path)[1] == 1.0 == recall_by_loops(benchmark)[1]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for number in range(6):
        write(tmp_path / "monday" / f"img_{number:03d}.png", number)
        write(tmp_path / "tuesday" / f"img_{number:03d}.png", 0 if number == 4 else number)
    return tmp_path / "monday", tmp_path / "tuesday"


def test_own_folders_are_compared_by_number_or_by_a_table_of_pairs(folders: tuple[Path, Path], tmp_path: Path) -> None:
    by_number = read_plain_folders(*folders, tolerance=1)
    assert [list(np.flatnonzero(row)) for row in by_number.positives][:2] == [[0, 1], [0, 1, 2]]
    assert measured(by_number, tmp_path) == recall_by_loops(by_number)
    labels = tmp_path / "pairs.csv"
    labels.write_text("query,database\nimg_000.png,img_005.png\nimg_001.png,img_001.png\n")
    by_table = read_plain_folders(*folders, labels=labels)
    assert [list(np.flatnonzero(row)) for row in by_table.positives][:3] == [[5], [1], []]
    labels.write_text("query,database\nimg_000.png,img_009.png\n")
    with pytest.raises(UserError, match=r"pairs\.csv line 2: 'img_009\.png' is no column or no image"):
        read_plain_folders(*folders, labels=labels)


def test_one_command_prints_writes_and_shows(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = ["--database", str(folders[0]), "--queries", str(folders[1])]
    files = [
        "--json",
        str(tmp_path / "n.json"),
        "--page",
        str(tmp_path / "p.html"),
        "--matches",
        str(tmp_path / "m.csv"),
        "--attention",
    ]
    assert main(["--weights", "nano", *both, "--tolerance", "0", *files]) == 0
    printed = capsys.readouterr().out
    assert "| tuesday in monday | number ±0 | 6 | 6 |" in printed
    (result,) = json.loads((tmp_path / "n.json").read_text())["results"]
    recall = {each["method"]: each["recall"]["1"] for each in result["methods"]}
    assert recall["nano"] == recall["thumbnail"] == 5 / 6
    assert f"{5 / 6:.3f}" in printed
    page = (tmp_path / "p.html").read_text()
    assert "img_004.png →" in page and page.count("<figure") == 2  # the one mistake of either method
    assert page.count('alt="attention"') == 2  # below query and match, of our weights only
    assert len((tmp_path / "m.csv").read_text().splitlines()) == 1 + 2 * 6 * 6
    assert main(["--weights", "nano", "--no-thumbnail", *both]) == 0
    assert "no labels" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--benchmark", "sped"], "--benchmark sped needs --data FOLDER"),
        (["--benchmark", "sped", "--data", "nowhere"], "nowhere: no images/test/database and queries there"),
        (["--database", "nowhere"], "--database and --queries are needed together"),
        (["--shuffled"], "--shuffled needs --encoder-batch"),
        (["--json", "nowhere/numbers.json"], "nowhere/numbers.json: the folder"),
        (["--weights", "nano", "nano", "--encoder-batch", "4"], "takes one --weights file"),
        (["--encoder-batch", "4"], "has no cross-image encoder"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_recall_is_that_of_sorting_every_row_and_grows_with_k(data: st.DataObject) -> None:
    queries, places = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 9))
    # A few levels only, so that equal similarities are common.
    similarity = data.draw(arrays(np.float32, (queries, places), elements=st.integers(-2, 2).map(float)))
    positives = data.draw(arrays(bool, (queries, places)))
    ks = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    recall = recall_at(similarity, positives, ks)
    for k in ks:
        hits = 0
        for row in range(queries):
            ranked = sorted(range(places), key=lambda place: (-similarity[row, place], place))
            hits += any(positives[row, place] for place in ranked[:k])
        assert recall[k] == pytest.approx(hits / queries)
    assert [recall[k] for k in sorted(recall)] == sorted(recall.values())
    assert recall_at(similarity, positives, [places])[places] == pytest.approx(positives.any(axis=1).mean())


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_candidates_come_in_the_order_that_recall_counts_by(data: st.DataObject) -> None:
    rows = st.integers(1, 9)
    whole = st.integers(-1, 1).map(float)
    queries, database = (data.draw(arrays(np.float32, (data.draw(rows), 3), elements=whole)) for _ in range(2))
    k = data.draw(st.integers(1, 12))
    candidates, similarities = nearest(queries, database, k, rows=2)
    similarity = queries @ database.T
    expected = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    assert np.array_equal(candidates, expected)
    assert np.array_equal(similarities, np.take_along_axis(similarity, expected, axis=1))
