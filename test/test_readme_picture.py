"""The picture of the README is put together from pages as they are written today."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_evaluate_loops import closure, scores

from d2vpr_ros.errors import UserError
from d2vpr_ros.evaluation import loop_results
from d2vpr_ros.evaluation.live import summarise
from d2vpr_ros.evaluation.report import Drawing, Table, write_report
from models.readme_picture import composed


def demo_page(path: Path) -> Path:
    """As `d2vpr demo` writes it, of a drive without images."""
    table = Table((), [(name, [value]) for name, value in summarise([], 5.0, 0).rows()])
    drawings = [Drawing("track", "<svg>the track</svg>")]
    write_report(path, "", "", table, drawings, [], [], "m", query_jpeg=lambda _: None, place_jpeg=lambda _: None)
    return path


def test_the_drawings_and_numbers_of_both_pages_are_in_the_picture(tmp_path: Path) -> None:
    loops = tmp_path / "loops.html"
    loop_results.write_page(loops, scores([closure(110, 10), closure(113, 13)], {110, 113}), "a tour", {}, [])
    page = composed(demo_page(tmp_path / "report.html"), loops)
    assert "<svg>the track</svg>" in page and 'aria-label="trajectories"' in page
    assert "<td>loop closures</td><td>2</td>" in page and "<td>answered</td><td>0</td>" in page


def test_another_page_is_refused_by_name(tmp_path: Path) -> None:
    other = tmp_path / "other.html"
    other.write_text("<p>hello</p>", encoding="utf-8")
    with pytest.raises(UserError, match=r"other\.html has no .*; expected a page of `d2vpr demo`"):
        composed(demo_page(tmp_path / "report.html"), other)
