"""The page of a map: whole in one file, deaf to what strangers wrote into the map, and of use in a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Tab, browser, find_browser
from hypothesis import given
from hypothesis import strategies as st
from places import IDENTITY, WIDTH, straight_street, unit_rows, write_places, write_sessions

from d2vpr_ros.cli.main import main as d2vpr
from d2vpr_ros.evaluation.view import thin, write_view
from d2vpr_ros.geodesy import LocalFrame
from d2vpr_ros.geometry import FORWARD_MOUNT, Pose
from d2vpr_ros.mapping import Camera, MapHeader, Session, read_map
from d2vpr_ros.mapping.store import NewPlace, create_map

LUND = LocalFrame(55.7, 13.19, 40.0)
HOSTILE = (
    "</script><script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\">{{ 7 * 7 }}"
)


class Page(HTMLParser):
    """Collects elements with their attributes, what would be loaded, and the text of scripts and styles."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.raw: list[tuple[str, str]] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag in ("script", "style"):
            self.raw.append((dict(attrs).get("id") or tag, ""))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem:
            self.raw[-1] = (self.raw[-1][0], self.raw[-1][1] + data)

    def json(self, name: str) -> Any:
        return json.loads(dict(self.raw)[name])

    @property
    def policy(self) -> str:
        return next(value for name, value in self.attributes if name == "content" and "default-src" in value)


def write_hostile(path: Path) -> None:
    header = MapHeader(IDENTITY, WIDTH, HOSTILE, 1.0, LUND, geo_tagged=True)
    with create_map(path, header) as writer:
        session = writer.begin_session(Session(HOSTILE, HOSTILE))
        camera = writer.add_camera(session, Camera(HOSTILE, 6, 4, FORWARD_MOUNT))
        for number, base in enumerate(straight_street(3)):
            jpeg = b"</script><script>alert(1)</script>"
            writer.add_place(session, camera, NewPlace(number, base @ FORWARD_MOUNT, unit_rows(3, 1)[number], jpeg))


def test_the_page_holds_the_map_and_loads_nothing(tmp_path: Path) -> None:
    town = write_sessions(tmp_path / "town.d2map", ["monday", "tuesday"], 4, origin=LUND)
    summary = write_view(town, tmp_path / "town.html")
    assert (summary.places, summary.embedded, summary.pictures) == (8, 8, 8)
    page = Page(tmp_path / "town.html")
    place = page.json("data")["place"]
    assert place["id"] == town.ids.tolist()
    assert np.allclose(place["position"], town.positions, atol=1e-3)
    assert np.allclose(place["geo"], town.geo, atol=1e-3)
    assert [s * 10**9 + n for s, n in zip(place["seconds"], place["nanoseconds"], strict=True)] == list(town.stamps_ns)
    assert page.json("data")["sessions"] == ["monday", "tuesday"]
    assert base64.b64decode(page.json("pictures")["5"]) == town.picture(5)
    loading = {"src", "href", "srcset", "data", "action", "poster", "style"}
    assert not [name for name, _ in page.attributes if name in loading or name.startswith("on")]
    assert {"link", "iframe", "object", "embed", "base", "form"}.isdisjoint(page.tags)
    text = (tmp_path / "town.html").read_text(encoding="utf-8")
    assert "http:" not in text and "https:" not in text and "url(" not in text


def test_the_page_s_policy_lets_a_browser_run_its_own_script_and_load_nothing(tmp_path: Path) -> None:
    street = write_places(tmp_path / "street.d2map", straight_street(3), unit_rows(3, seed=1))
    write_view(street, tmp_path / "street.html")
    page = Page(tmp_path / "street.html")
    assert page.policy.startswith("default-src 'none'; img-src data:;")
    for kind in ("script", "style"):
        digest = hashlib.sha256(dict(page.raw)[kind].encode()).digest()
        assert f"{kind}-src 'sha256-{base64.b64encode(digest).decode()}'" in page.policy


def test_what_strangers_wrote_into_a_map_is_text(tmp_path: Path) -> None:
    write_hostile(tmp_path / "town.d2map")
    write_view(read_map(tmp_path / "town.d2map"), tmp_path / "town.html")
    page = Page(tmp_path / "town.html")
    assert page.tags.count("script") == 3 and page.tags.count("img") == 1
    data = page.json("data")
    assert data["sessions"] == data["cameras"] == [HOSTILE] and data["frame"] == HOSTILE
    assert "<script>document" not in (tmp_path / "town.html").read_text(encoding="utf-8")


def test_nothing_unknown_becomes_nan(tmp_path: Path) -> None:
    path = tmp_path / "gps.d2map"
    with create_map(path, MapHeader(IDENTITY, WIDTH, "map", 1.0, geo_tagged=True)) as writer:
        session = writer.begin_session(Session("gaps"))
        camera = writer.add_camera(session, Camera("front", 6, 4, FORWARD_MOUNT))
        for stamp, geo in enumerate([None, (55.7, 13.2, float("nan"))]):
            writer.add_place(session, camera, NewPlace(stamp, Pose.identity(), unit_rows(1, 1)[0], None, geo))
    write_view(read_map(path), tmp_path / "gps.html")
    place = Page(tmp_path / "gps.html").json("data")["place"]
    assert place["geo"] == [[None, None, None], [55.7, 13.2, None]]
    assert place["heading"] == [None, None]  # they look straight up
    assert "The map has no pictures." in (tmp_path / "gps.html").read_text(encoding="utf-8")


@given(sizes=st.lists(st.integers(0, 5000), max_size=60), limit=st.integers(0, 60_000))
def test_pictures_are_thinned_to_what_fits(sizes: list[int], limit: int) -> None:
    array = np.array(sizes, dtype=np.int64)
    rows = thin(array, limit)
    assert array[rows].sum() <= limit
    assert (array[rows] > 0).all() and len(set(rows.tolist())) == len(rows)
    if array.sum() <= limit:
        assert len(rows) == np.count_nonzero(array)


def test_pictures_are_thinned_evenly() -> None:
    rows = thin(np.full(100_000, 15_000), 24_000_000)
    assert len(rows) == 1600
    assert set(np.diff(rows).tolist()) <= {62, 63}


def test_the_page_says_how_many_pictures_it_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    town = write_sessions(tmp_path / "town.d2map", ["monday"], 10)
    megabytes = str(4.5 * int(town.picture_sizes()[0]) / 1e6)
    arguments = ["map", "view", str(town.path), "-o", str(tmp_path / "town.html")]
    assert d2vpr([*arguments, "--picture-mb", megabytes]) == 0
    assert "10 places, 4 of 10 pictures" in capsys.readouterr().out
    page = Page(tmp_path / "town.html")
    assert list(page.json("pictures")) == ["0", "2", "5", "7"]
    text = (tmp_path / "town.html").read_text(encoding="utf-8")
    assert re.search(r"4 of the map&#39;s 10 pictures|4 of the map's 10 pictures", text)
    assert d2vpr(arguments) == 2  # it is there
    assert "--force" in capsys.readouterr().err
    assert d2vpr([*arguments, "--picture-mb", "-1"]) == 2


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """A page in headless Chromium."""
    executable = find_browser()
    if executable is None:
        pytest.skip("no Chromium found (chromium, google-chrome, or D2VPR_CHROMIUM): the page is only parsed")
    with browser(executable, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def town_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("town")
    write_view(write_sessions(folder / "town.d2map", ["monday", "tuesday"], 4, origin=LUND), folder / "town.html")
    return folder / "town.html"


DETAILS = "document.getElementById('details').innerText"
PICTURE = "document.getElementById('picture').src"
ADDRESS = "location.hash"


def where(tab: Tab, row: int) -> tuple[float, float]:
    """Where on the screen a place is drawn."""
    tab["document.getElementById('canvas').scrollIntoView()"]
    corner = "document.getElementById('canvas').getBoundingClientRect()"
    x, y, left, top = tab[f"[...toScreen(world.u[{row}], world.v[{row}]), {corner}.left, {corner}.top]"]
    return x + left, y + top


def test_an_address_opens_the_page_at_a_place(tab: Tab, town_page: Path) -> None:
    tab.open(town_page, "#place=7")
    details = tab[DETAILS]
    for expected in ("7", "tuesday", "front", "2023-11-15 22:13:22.123 UTC", "1700086402.123456789 s", "2.000, 10.000"):
        assert expected in details
    assert "72.8° from north" in details  # 0.3 rad to the left of east
    assert "55.70" in details and "13.19" in details
    assert tab[PICTURE].startswith("data:image/jpeg;base64,")
    assert tab["document.getElementById('picture').naturalWidth"] == 6  # it was decoded
    assert tab.requests == [town_page.as_uri()]
    assert tab.complaints == []


def test_a_click_on_a_place_shows_it(tab: Tab, town_page: Path) -> None:
    tab.open(town_page)
    assert tab[ADDRESS] == ""
    tab.click(*where(tab, 2))
    assert tab[ADDRESS] == "#place=3" and "monday" in tab[DETAILS]
    first = tab[PICTURE]
    tab.click(*where(tab, 5))
    assert tab[ADDRESS] == "#place=6" and tab[PICTURE] != first


def test_keys_go_from_place_to_place(tab: Tab, town_page: Path) -> None:
    tab.open(town_page)
    tab["document.getElementById('canvas').focus()"]
    for key, place in [("ArrowRight", 1), ("ArrowRight", 2), ("ArrowDown", 3), ("ArrowLeft", 2)]:
        tab.press(key)
        assert tab[ADDRESS] == f"#place={place}"
    before = tab["view.scale"]
    tab.press("+")
    assert tab["view.scale"] > before
    tab.press("0")
    assert tab["view.scale"] == pytest.approx(before)


def test_the_legend_hides_a_session(tab: Tab, town_page: Path) -> None:
    tab.open(town_page)
    at = where(tab, 5)
    tab["document.querySelector('.legend input').click()"]  # monday
    tab["document.getElementById('next').click()"]
    assert tab[ADDRESS] == "#place=5"  # the first of tuesday
    tab["document.querySelectorAll('.legend input')[1].click()"]
    tab.click(*at)
    assert tab[ADDRESS] == "#place=5"


def test_the_wheel_zooms_where_it_points_and_a_drag_moves(tab: Tab, town_page: Path) -> None:
    tab.open(town_page)
    x, y = where(tab, 6)
    tab("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=-400)
    assert where(tab, 6) == pytest.approx((x, y), abs=1)
    tab("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, button="left", clickCount=1)
    tab("Input.dispatchMouseEvent", type="mouseMoved", x=x - 30, y=y + 20, button="left", buttons=1)
    tab("Input.dispatchMouseEvent", type="mouseReleased", x=x - 30, y=y + 20, button="left", clickCount=1)
    assert where(tab, 6) == pytest.approx((x - 30, y + 20), abs=1)
    assert tab[ADDRESS] == ""  # a drag chooses nothing


def test_a_geo_tagged_map_is_shown_on_the_earth_to_scale(tab: Tab, town_page: Path) -> None:
    tab.open(town_page)
    tab["document.getElementById('on-earth').click()"]
    away = tab["Math.hypot(world.u[3] - world.u[0], world.v[3] - world.v[0])"]
    assert away == pytest.approx(3.0, rel=0.005)
    tab.click(*where(tab, 3))
    assert tab[ADDRESS] == "#place=4"


def test_a_place_whose_picture_was_left_out_leads_to_the_next_that_has_one(tab: Tab, tmp_path: Path) -> None:
    town = write_sessions(tmp_path / "town.d2map", ["monday"], 10)
    write_view(town, tmp_path / "town.html", 2.5 * int(town.picture_sizes()[0]) / 1e6)
    tab.open(tmp_path / "town.html", "#place=5")
    assert tab["document.getElementById('picture').hidden"] is True
    assert "place 6, 1.0 m away" in tab["document.getElementById('nearest').innerText"]
    tab["document.getElementById('nearest').click()"]
    assert tab[ADDRESS] == "#place=6" and tab[PICTURE].startswith("data:")
    assert tab["document.getElementById('on-earth').hidden"] is True  # no geo-tags


def test_a_map_without_metres_is_shown_as_rows_of_frames(tab: Tab, tmp_path: Path) -> None:
    path = tmp_path / "sequence.d2map"
    with create_map(path, MapHeader(IDENTITY, WIDTH, "map", 1.0, metric=False)) as writer:
        for name in ("first", "second"):
            session = writer.begin_session(Session(name))
            camera = writer.add_camera(session, Camera("phone", 6, 4, FORWARD_MOUNT))
            for number, pose in enumerate(straight_street(5)):
                writer.add_place(session, camera, NewPlace(number, pose, unit_rows(5, 1)[number]))
    write_view(read_map(path), tmp_path / "sequence.html")
    tab.open(tmp_path / "sequence.html", "#place=9")
    assert "number 3 of the session" in tab[DETAILS] and "Heading" not in tab[DETAILS]
    assert tab["world.v[8] < world.v[3] && world.u[8] === world.u[3]"] is True
    assert tab.complaints == []


def test_a_hostile_map_runs_nothing_in_a_browser(tab: Tab, tmp_path: Path) -> None:
    write_hostile(tmp_path / "town.d2map")
    write_view(read_map(tmp_path / "town.d2map"), tmp_path / "town.html")
    tab.open(tmp_path / "town.html", "#place=2")
    assert HOSTILE in tab[DETAILS]
    assert tab["document.title"] == "town.d2map"
    assert len(tab.requests) == 1
    assert tab["document.querySelectorAll('script').length"] == 3


def test_a_script_that_got_into_the_page_would_neither_run_nor_load_anything(tab: Tab, town_page: Path) -> None:
    tab.open(town_page)
    tab["document.body.append(Object.assign(document.createElement('script'), {text: 'document.title = 1'}))"]
    tab["void (new Image().src = 'http://127.0.0.1:9/picture')"]
    assert tab["document.title"] == "town.d2map"
    assert len(tab.complaints) == 2 and all("Content Security Policy" in text for text in tab.complaints)
