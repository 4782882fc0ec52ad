"""The player on the page of `d2vpr evaluate`: what it says and draws of each image, and how it goes through them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from browser import Tab, browser, find_browser
from hypothesis import given
from hypothesis import strategies as st
from places import IDENTITY, WIDTH, unit_rows

from d2vpr_ros.describe.features import FeatureExtractor
from d2vpr_ros.evaluation.moments import Believed, evenly, moments_of
from d2vpr_ros.evaluation.offline import Answered
from d2vpr_ros.evaluation.player import make_player
from d2vpr_ros.evaluation.player_drawing import Plans
from d2vpr_ros.evaluation.player_words import WHY
from d2vpr_ros.evaluation.report import Table, write_report
from d2vpr_ros.evaluation.scoring import ScoredQuery
from d2vpr_ros.geometry import FORWARD_MOUNT, Pose
from d2vpr_ros.localize import Estimate
from d2vpr_ros.localize.types import Match, RejectReason, State
from d2vpr_ros.mapping import Camera, MapHeader, PlaceMap, Session, read_map
from d2vpr_ros.mapping.picture import encode_picture
from d2vpr_ros.mapping.store import NewPlace, create_map

PLACES, SECOND = 6, 1_000_000_000
HOSTILE = "</template></script><script>document.title = 'owned'</script><img src=x onerror=alert(1)>{{ 7 * 7 }}"
WALL = cv2.resize(
    np.random.default_rng(3).integers(0, 256, (16, 30, 3), dtype=np.uint8), (600, 120), interpolation=cv2.INTER_CUBIC
)


def seen_at(metre: float) -> bytes:
    """A part of a wall, as a JPEG."""
    left = round(12 * metre)
    return encode_picture(np.ascontiguousarray(WALL[:, left : left + 160]))


def write_wall(path: Path, pictures: bool = True, metric: bool = True) -> PlaceMap:
    """Places a metre apart along a wall."""
    with create_map(path, MapHeader(IDENTITY, WIDTH, "map", 1.0, metric=metric)) as writer:
        session = writer.begin_session(Session("wall"))
        camera = writer.add_camera(session, Camera("front", 160, 120, FORWARD_MOUNT))
        for number, row in enumerate(unit_rows(PLACES, 1)):
            pose = Pose.planar(float(number), 0.0, 0.0)
            jpeg = seen_at(number) if pictures else None
            writer.add_place(session, camera, NewPlace(number, pose @ FORWARD_MOUNT if metric else pose, row, jpeg))
    return read_map(path)


def answered(number: int, accepted: bool, drive: str = "drive", truth: bool = True) -> Answered:
    """An image 0.2 m beside place `number`, which the localizer believes in with 0.7, and in the next with 0.2."""
    at = Pose.planar(number + 0.1, 0.2, 0.0)
    rows = (number, (number + 1) % PLACES)
    matches = tuple(
        Match(rank, row, 0.8, belief, accepted and not rank)
        for rank, (row, belief) in enumerate(zip(rows, (0.7, 0.2), strict=True))
    )
    state = State.LOCALIZED if accepted else State.CANDIDATE
    reason = RejectReason.NONE if accepted else RejectReason.AMBIGUOUS
    estimate = Estimate(number * SECOND, state, reason, matches, 0.995 if accepted else 0.4)
    query = ScoredQuery(
        number * SECOND, True, accepted, True, off=0.2, probability=estimate.probability, place_id=number + 1,
        truth=at if truth else None, answer=Pose.planar(float(number), 0.0, 0.0) if accepted and truth else None,
        covariance=np.eye(6) if accepted and truth else None, drive=drive, image_topic="/camera/image",
        state=state.value, reject_reason=reason.value, similarity=0.8,
    )  # fmt: skip
    return Answered(estimate, False, query)


@pytest.fixture(scope="module")
def features() -> FeatureExtractor:
    return FeatureExtractor.open(device="cpu")


def write_page(
    path: Path, place_map: PlaceMap, features: FeatureExtractor, every: list[Answered], most: int = 100
) -> Path:
    def query_jpeg(query: ScoredQuery) -> bytes:
        return seen_at(query.stamp_ns / SECOND + 0.1)

    moments = moments_of(every, most)
    player = make_player(moments, len(every), 0, place_map, features, "m", query_jpeg)
    write_report(path, "A drive", "", Table((), ()), [], [], [], "m", query_jpeg, place_map.picture, player)
    return path


def drive(drive: str = "drive", images: int = 4) -> list[Answered]:
    """Silent at first, then answered."""
    return [answered(number, number >= 2, drive) for number in range(images)]


@given(count=st.integers(0, 500), most=st.integers(0, 60))
def test_images_are_chosen_evenly_with_the_first_and_the_last(count: int, most: int) -> None:
    chosen = evenly(count, most).tolist()
    assert len(chosen) == min(count, most) and chosen == sorted(set(chosen))
    if most >= 2 and count >= 2:
        assert (chosen[0], chosen[-1]) == (0, count - 1)
        assert np.ptp(np.diff(chosen)) <= 1
    assert all(0 <= number < count for number in chosen)


def test_every_reason_for_silence_is_told_in_a_sentence() -> None:
    assert set(WHY) == set(RejectReason) - {RejectReason.NONE}


def test_the_likelier_place_is_drawn_larger_and_the_truth_where_it_is(tmp_path: Path) -> None:
    plans = Plans(write_wall(tmp_path / "wall.d2map"), [one.query for one in drive() if one.query])
    query = answered(2, accepted=True).query
    assert query is not None and query.truth is not None
    svg = plans.now(query, Believed((2, 3), (0.7, 0.2)))
    radii = [float(radius) for radius in re.findall(r'r="([\d.]+)" fill="#1f6fd6"', svg)]
    assert len(radii) == 2 and radii[0] > radii[1]
    x, y = plans.at(query.truth.position[:2])
    assert f'cx="{x:.1f}" cy="{y:.1f}" r="5" fill="#1d2730"' in svg
    assert "<polygon" in svg and "<polygon" in plans.near(query, Believed())
    silent = plans.now(replace(query, answer=None), Believed((2,), (0.7,), np.array([2.0, 0.0, 0.0])))
    assert "<polygon" not in silent and "stroke-dasharray" in silent


def test_a_page_shows_pictures_with_inliers_and_says_why_there_is_no_answer(
    tmp_path: Path, features: FeatureExtractor
) -> None:
    page = write_page(tmp_path / "page.html", write_wall(tmp_path / "wall.d2map"), features, drive()).read_text()
    assert page.count("<template>") == 4 and page.count("<image ") == 8
    assert page.count("<line") > 4 * 20  # of each pair
    assert page.count("Silent: ambiguous · probability 0.400") == 2
    assert page.count(WHY[RejectReason.AMBIGUOUS]) == 2
    assert page.count("Answered, right: off by 0.20 m and 0° · probability 0.99500") == 2
    assert "All 4 images." in page
    assert not re.search(r'="[^"]*nan', re.sub(r"base64,[^\"]*", "", page))


@pytest.mark.parametrize(("pictures", "metric"), [(False, True), (True, False)])
def test_a_map_without_pictures_or_metres_shows_what_it_has(
    tmp_path: Path, features: FeatureExtractor, pictures: bool, metric: bool
) -> None:
    place_map = write_wall(tmp_path / "wall.d2map", pictures, metric)
    every = [answered(number, number >= 2, truth=metric) for number in range(4)]
    page = write_page(tmp_path / "page.html", place_map, features, every).read_text()
    assert page.count("<image ") == (8 if pictures else 4)
    assert ("the map has no readable picture of the place" in page) is not pictures
    assert ('aria-label="around the robot"' in page) is metric


def test_a_long_drive_is_thinned_and_the_page_says_so(tmp_path: Path, features: FeatureExtractor) -> None:
    every = drive(images=PLACES)
    page = write_page(tmp_path / "page.html", write_wall(tmp_path / "wall.d2map"), features, every, 3).read_text()
    assert page.count("<template>") == 3 and "3 of 6 images, evenly chosen" in page


def test_pictures_that_are_none_and_images_without_candidates_are_shown_empty(
    tmp_path: Path, features: FeatureExtractor
) -> None:
    nothing = answered(0, accepted=False)
    assert nothing.query is not None
    lost = Estimate(0, State.LOST, RejectReason.OFF_MAP, ())
    query = replace(nothing.query, place_id=None, similarity=None, reject_reason="off map", off=None)
    moments = moments_of([replace(nothing, estimate=lost, query=query)], 1)
    player = make_player(moments, 1, 3, write_wall(tmp_path / "wall.d2map"), features, "m", lambda _: b"no JPEG")
    assert "<image" not in player.moments[0].pair and "no place came into question" in player.moments[0].said
    assert ("Would have been", "nothing") in player.moments[0].facts
    assert player.note == "All 1 images. 3 images without a truth are left out."


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """A page in headless Chromium."""
    executable = find_browser()
    if executable is None:
        pytest.skip("no Chromium found (chromium, google-chrome, or D2VPR_CHROMIUM): the page is only parsed")
    with browser(executable, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, features: FeatureExtractor) -> Path:
    folder = tmp_path_factory.mktemp("page")
    return write_page(folder / "page.html", write_wall(folder / "wall.d2map"), features, drive(HOSTILE))


def shows(tab: Tab, number: int) -> bool:
    """Waits until the page shows this image; its facts are put in with its pictures."""
    seen = f"document.getElementById('facts').innerText.includes('{number} of 4,')"
    script = f"const look = () => {seen} ? ok(true) : requestAnimationFrame(look); look();"
    return bool(tab[f"new Promise((ok) => {{ {script} }})"])


SAID = "document.getElementById('said').innerText"


def test_keys_buttons_the_slider_and_the_plan_go_from_image_to_image(tab: Tab, page: Path) -> None:
    tab.open(page)
    assert shows(tab, 1) and "Silent: ambiguous" in tab[SAID] and tab["location.hash"] == ""
    tab.press("ArrowRight")
    assert shows(tab, 2) and tab["location.hash"] == "#image=2"
    tab["document.getElementById('next').click()"]
    assert shows(tab, 3) and "Answered, right" in tab[SAID]
    tab.press("ArrowLeft")
    assert shows(tab, 2)
    slider = "document.getElementById('slider')"
    tab[f"({slider}.value = 3, {slider}.dispatchEvent(new Event('input')))"]
    assert shows(tab, 4)
    tab["document.querySelector('[data-moment=\"1\"]').dispatchEvent(new MouseEvent('click', {bubbles: true}))"]
    assert shows(tab, 2)
    tab[f"{slider}.focus()"]
    for key, number in (("End", 4), ("ArrowRight", 4), ("Home", 1)):
        tab.press(key)
        assert shows(tab, number)
    assert tab.complaints == [] and tab.requests == [page.as_uri()]


def test_play_goes_on_to_the_last_image_and_an_address_opens_one(tab: Tab, page: Path) -> None:
    tab.open(page, "#image=3")
    assert shows(tab, 3)
    tab["document.getElementById('play').click()"]
    assert tab["document.getElementById('play').textContent"] == "Pause"
    assert shows(tab, 4) and tab["document.getElementById('play').textContent"] == "Play"
    assert tab["document.querySelectorAll('#pair image').length"] == 2


def test_what_a_recording_is_called_runs_nothing(tab: Tab, page: Path) -> None:
    tab.open(page)
    assert shows(tab, 1) and HOSTILE in tab["document.getElementById('facts').innerText"]
    assert tab["document.title"] == "A drive" and tab["document.querySelectorAll('script').length"] == 1
    assert tab.complaints == [] and len(tab.requests) == 1
