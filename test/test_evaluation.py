"""Scores mean what their names say, and the page that shows them is whole and safe."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2vpr_ros.bags.trajectory import Trajectory
from d2vpr_ros.errors import UserError
from d2vpr_ros.evaluation.drives import split_numbers
from d2vpr_ros.evaluation.live import Answer, score, summarise
from d2vpr_ros.evaluation.plot import trajectory_svg, widest_axes
from d2vpr_ros.evaluation.report import Drawing, Table, spread, write_report
from d2vpr_ros.evaluation.scoring import ScoredQuery, in_ellipse, turn_in_ellipsoid
from d2vpr_ros.geometry import Pose

SECOND = 1_000_000_000
CANDIDATE = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("place_id", "<u4")])


def straight_truth(seconds: int) -> Trajectory:
    """One metre a second along x."""
    positions = np.array([[float(second), 0.0, 0.0] for second in range(seconds)])
    quaternions = np.tile([0.0, 0.0, 0.0, 1.0], (seconds, 1))
    return Trajectory(np.arange(seconds) * SECOND, positions, quaternions)


def candidates_at(x: float) -> np.ndarray:
    return np.array([(x, 0.0, 0.0, 7)], CANDIDATE)


def answer_at(x: float, sigma_m: float = 1.0, latency_s: float = 0.05) -> Answer:
    return Answer(Pose.planar(x, 0.0, 0.0), np.eye(6) * sigma_m**2, latency_s)


def test_a_drive_is_scored_against_its_truth() -> None:
    # The map ends at x = 5; radius 1. Two right answers, one false, one miss, and two images beyond the map.
    places = np.array([[float(x), 0.0, 0.0] for x in range(6)])
    candidates = {
        second * SECOND: candidates_at(x) for second, x in enumerate([0.2, 1.1, 4.0, 3.1, 9.0, 5.0, 0.0, 0.0])
    }
    answers = {0: answer_at(0.2), SECOND: answer_at(1.1, latency_s=0.09), 2 * SECOND: answer_at(4.0)}
    queries = score(candidates, answers, straight_truth(8), places, radius_m=1.0)
    summary = summarise(queries, radius_m=1.0, dropped_frames=2)

    assert [query.verdict for query in queries] == ["correct"] * 2 + ["false"] + ["missed"] * 4 + ["silent"]
    assert (summary.queries, summary.answerable, summary.answered, summary.correct) == (8, 7, 3, 2)
    assert summary.precision == pytest.approx(2 / 3)
    assert summary.recall_at_1 == pytest.approx(4 / 8)  # accepted or not
    assert summary.recall_at_1_answerable == pytest.approx(4 / 7)
    assert summary.median_error_m == pytest.approx(0.2)
    assert summary.p50_latency_ms == pytest.approx(50)
    assert summary.dropped_frames == 2


def test_silence_has_no_precision() -> None:
    summary = summarise(score({0: candidates_at(0.0)}, {}, straight_truth(2), np.zeros((1, 3)), 1.0), 1.0, 0)
    assert summary.precision is None
    assert dict(summary.rows())["precision"] == "none"


def test_an_image_without_candidates_counts_as_a_query() -> None:
    queries = score({0: np.empty(0, CANDIDATE)}, {}, straight_truth(2), np.zeros((1, 3)), 1.0)
    assert summarise(queries, 1.0, 0).recall_at_1 == 0.0


@given(scale=st.floats(0.01, 100))
def test_the_ellipse_holds_its_share_whatever_the_scale(scale: float) -> None:
    draw = np.random.default_rng(3)
    root = draw.standard_normal((3, 3)) * scale
    covariance = np.eye(6)
    covariance[:3, :3] = root @ root.T
    answers = [
        ScoredQuery(
            0,
            answerable=True,
            accepted=True,
            truth=Pose.identity(),
            answer=Pose(offset, Pose.identity().quaternion),
            covariance=covariance,
        )
        for offset in draw.standard_normal((500, 3)) @ root.T
    ]
    assert np.mean(list(map(in_ellipse, answers))) == pytest.approx(0.95, abs=0.03)


def test_a_turn_is_held_against_what_was_said_of_it() -> None:
    covariance = np.diag([1.0, 1.0, 1.0, 0.01, 0.01, 0.04])

    def turned(yaw: float) -> ScoredQuery:
        answer = Pose.planar(0.0, 0.0, yaw)
        return ScoredQuery(0, True, accepted=True, truth=Pose.identity(), answer=answer, covariance=covariance)

    assert turn_in_ellipsoid(turned(0.5))  # 2.5 standard deviations about z, of which 2.8 hold 95 % in three dimensions
    assert not turn_in_ellipsoid(turned(0.6))
    assert turn_in_ellipsoid(ScoredQuery(0, True)) is None


def test_the_plot_shows_the_plane_the_drive_lies_in() -> None:
    upright = np.array([[0.0, 0.1, 0.0], [3.0, 0.0, 2.0], [1.0, 0.2, 5.0]])
    assert widest_axes(upright) == (0, 2)
    assert widest_axes(np.array([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0]])) == (0, 1)  # a straight street is seen from above


@pytest.mark.parametrize(("split", "first_map", "first_query"), [("even", 0, 1), ("first:0.8", 0, 8)])
def test_footage_is_split_without_sharing_an_image(split: str, first_map: int, first_query: int) -> None:
    map_numbers, query_numbers = split_numbers(split, 10)
    assert (map_numbers[0], query_numbers[0]) == (first_map, first_query)
    assert sorted([*map_numbers, *query_numbers]) == list(range(10))


@pytest.mark.parametrize("split", ["odd", "first:", "first:2", "first:0", "last:0.5", "first:nan"])
def test_a_split_that_makes_no_sense_is_refused(split: str) -> None:
    with pytest.raises(UserError, match=r"expected 'even' or 'first:SHARE'"):
        split_numbers(split, 10)


class Page(HTMLParser):
    """Collects what a browser would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_is_self_contained_and_escapes_what_strangers_wrote(tmp_path: Path) -> None:
    places = np.array([[0.0, 0.0, 0.0], [9.0, 4.0, 0.0]])
    candidates = {second * SECOND: candidates_at(float(second)) for second in range(6)}
    answers = {0: answer_at(0.0), 3 * SECOND: answer_at(9.0)}
    queries = score(candidates, answers, straight_truth(6), places, 1.0)
    write_report(
        tmp_path / "report.html",
        "title",
        "2 answers",
        Table((), [("queries", ["6"])]),
        [Drawing("track", trajectory_svg(places, queries, (0, 1)))],
        [spread(queries, "false", 4)],
        [("map", "<script>alert('from a bag')</script>")],
        "m",
        query_jpeg=lambda query: b"jpeg",
        place_jpeg=lambda place: None,
    )
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert "script" not in page.tags
    assert {"svg", "figure", "table"} <= set(page.tags)
    assert page.sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    assert "False answers" in text
