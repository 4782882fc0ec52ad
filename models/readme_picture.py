r"""Make the picture of the README from the page of a demo and the page of a tour whose loops were closed.

    ./scripts/demo
    python -m models.bench.loops --folder FOLDER --tours 562
    python -m models.readme_picture --demo demo_out/report.html --loops FOLDER/tours/tour_562.html \
        --out docs/images/demo.png

The drawings and the numbers are taken out of the two pages as they are. Needs Chromium.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from d2vpr_ros.errors import UserError

WIDTH, HEIGHT = 1000, 776
"""Of the picture, in pixels."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DEMO_ROWS = {
    "queries": "images", "answered": "answered", "correct within 5 m": "correct within 5 m",
    "median error": "median error", "truth in 95 % ellipse": "truth in 95 % ellipse",
}  # fmt: skip
LOOP_ROWS = {
    "places": "places", "closures": "loop closures", "wrong": "wrong closures",
    "trajectory error, odometry": "trajectory error, odometry", "corrected": "trajectory error, corrected",
}  # fmt: skip
"""Rows of the two tables that are shown, and what they are called in the picture."""

PAIRS = 4
"""Queries that are shown beside their best match."""

_STYLE = """
body { margin: 0; padding: 18px 22px; max-width: none; background: #fff; }
.both { display: grid; grid-template-columns: 1fr 1fr; gap: 22px; align-items: start; }
h2 { font-size: 17px; margin: 0 0 8px; } .key { margin: 6px 0 8px; font-size: 12px; }
.both svg { height: 372px; } .numbers { width: 100%; font-size: 13px; } .numbers td { padding: 2px 4px; }
.pairs { grid-template-columns: repeat(4, 1fr); gap: 8px; margin-top: 14px; } figcaption { font-size: 12px; }
"""


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, required=True, help="report.html of `d2vpr demo`")
    parser.add_argument(
        "--loops", type=Path, required=True, help="page of `d2vpr evaluate-loops` or models.bench.loops"
    )
    parser.add_argument("--out", type=Path, required=True, help="picture to write (.png)")
    asked = parser.parse_args(words)
    try:
        photograph(composed(asked.demo, asked.loops), asked.out)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{asked.out}: {asked.out.stat().st_size / 1000:.0f} kB")
    return 0


def composed(demo: Path, loops: Path) -> str:
    """One HTML page of what the picture shows.

    Raises:
        UserError: a page cannot be read, or lacks one of the parts.
    """
    report, tour = _read(demo), _read(loops)
    figures = re.findall(r'<figure class="correct">.*?</figure>', report, flags=re.DOTALL)[:PAIRS]
    drawn = '<div class="{}">{}{}</div>{}'
    left = drawn.format("track", *_drawing(report, demo), _table(report, DEMO_ROWS, demo))
    right = drawn.format("loops", *_drawing(tour, loops), _table(tour, LOOP_ROWS, loops))
    style = _part(report, "<style>.*?</style>", demo)
    return (
        f'<!doctype html><meta charset="utf-8">{style}<style>{_STYLE}</style>'
        f'<div class="both"><div><h2>A drive at dusk, on a map made at noon</h2>{left}</div>'
        f"<div><h2>Odometry, before and after loop closure</h2>{right}</div></div>"
        f'<div class="pairs">{"".join(figures)}</div>'
    )


def photograph(page: str, out: Path) -> None:
    """Write a PNG of an HTML page.

    Raises:
        UserError: there is no Chromium, or it wrote nothing.
    """
    browser = os.environ.get("D2VPR_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise UserError("no Chromium found; install it (apt-get install chromium) or name it in D2VPR_CHROMIUM")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "picture.html"
        file.write_text(page, encoding="utf-8")
        command = [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder}",
            f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={out.resolve()}", file.as_uri(),
        ]  # fmt: skip
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    if not out.is_file():
        raise UserError(f"{browser} did not write {out}")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None


def _drawing(page: str, path: Path) -> tuple[str, str]:
    """The plan and the text below it."""
    return _part(page, "<svg.*?</svg>", path), _part(page, '<p class="key">.*?</p>', path)


def _part(page: str, pattern: str, path: Path) -> str:
    found = re.search(pattern, page, flags=re.DOTALL)
    if found is None:
        raise UserError(f"{path} has no {pattern}; expected a page of `d2vpr demo` or of `d2vpr evaluate-loops`")
    return found.group(0)


def _table(page: str, wanted: dict[str, str], path: Path) -> str:
    """The first row of each name, in the order of the page."""
    table = _part(page, '<table class="numbers">.*?</table>', path)
    rows = {name.strip(): value for name, value in reversed(re.findall(r"<td>(.*?)</td><td>(.*?)</td>", table))}
    if missing := [name for name in wanted if name not in rows]:
        raise UserError(f"{path} has no row {missing[0]}; make the page again with this version")
    lines = "".join(f"<tr><td>{shown}</td><td>{rows[name]}</td></tr>" for name, shown in wanted.items())
    return f'<table class="numbers">{lines}</table>'


if __name__ == "__main__":
    sys.exit(main())
