"""`d2vpr calibrate` fits on labelled drives, measures on what it did not see, and stores the fit in the map."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from mapped import build_map
from places import WIDTH, Describes, alike_along_the_way, straight_street, write_places

from d2vpr_ros.cli.main import main as d2vpr
from d2vpr_ros.errors import UserError
from d2vpr_ros.evaluation.calibrating import LEAST_OF_EACH, Labelled, fit, held_out, refit
from d2vpr_ros.localize import Localizer
from d2vpr_ros.localize.decision import CALIBRATION, Calibration, probability
from d2vpr_ros.localize.types import BeliefSummary
from d2vpr_ros.mapping import PlaceMap, read_map
from d2vpr_ros.mapping.store import open_writable
from d2vpr_ros.sim.drive import record_drive

FITTED = Calibration(slope=0.5, offset=1.0)


@pytest.fixture
def street(tmp_path: Path) -> PlaceMap:
    return write_places(tmp_path / "m.d2map", straight_street(12), alike_along_the_way(12, seed=4, width=WIDTH))


def answers_under(calibration: Calibration, count: int) -> Labelled:
    """Images that are right as often as this calibration says."""
    draw = np.random.default_rng(5)
    shares, log_odds = draw.uniform(0.5, 1.0, count), draw.normal(scale=4.0, size=count)
    anywhere = BeliefSummary(
        best=0, hypothesis=0, mass=1.0, rival=0.0, off_map=0.0, mapped=1.0, images=1.0, fit=5.0, score=5.0, real=0.0,
        position=np.zeros(3),
    )  # fmt: skip
    summaries = tuple(
        replace(anywhere, mass=mass, rival=1 - mass, real=real) for mass, real in zip(shares, log_odds, strict=True)
    )
    right = draw.random(count) < [probability(summary, calibration) for summary in summaries]
    return Labelled(summaries, right, np.arange(count) * 10 // count % 5)


def test_a_fit_is_believed_for_what_it_says_of_images_it_has_not_seen() -> None:
    images = answers_under(FITTED, 2000)
    found = refit(Calibration(), images)
    assert found.after.log_loss < found.before.log_loss
    assert found.after.calibration_error < 0.05 < found.before.calibration_error
    assert found.calibration.slope == pytest.approx(FITTED.slope, abs=0.1)
    assert found.calibration.offset == pytest.approx(FITTED.offset, abs=0.3)


def test_probabilities_that_are_right_already_stay_as_they_are() -> None:
    found = refit(Calibration(), answers_under(Calibration(), 10_000))
    assert found.calibration.slope == pytest.approx(1.0, abs=0.1)
    assert found.calibration.offset == pytest.approx(0.0, abs=0.2)


def test_evidence_never_speaks_against_an_answer_whatever_the_images_show() -> None:
    assert fit(answers_under(Calibration(slope=-1.0, offset=0.0), 500)).slope == 0.0


def test_too_few_wrong_answers_are_refused() -> None:
    images = answers_under(FITTED, 500)
    few = images.of(images.right | (np.cumsum(~images.right) < LEAST_OF_EACH))
    with pytest.raises(UserError, match=r"24 wrong answers; a calibration needs 25 of each; .*--off-map-bag"):
        fit(few)
    with pytest.raises(UserError, match="a calibration needs 25 of each"):
        held_out(few)


def test_a_localizer_takes_the_calibration_that_its_map_holds(street: PlaceMap) -> None:
    assert Localizer(street, Describes()).calibration == Calibration()
    with open_writable(street.path) as writer:
        writer.set_calibration(CALIBRATION, asdict(Calibration(9.0, 9.0)))
        writer.set_calibration(CALIBRATION, asdict(FITTED))  # the last one counts
    assert Localizer(read_map(street.path), Describes()).calibration == FITTED


def test_the_calibrations_of_another_version_are_left_out_until_a_fit_replaces_them(
    street: PlaceMap, caplog: pytest.LogCaptureFixture
) -> None:
    with sqlite3.connect(street.path) as connection:
        for way in ("with_odometry", "single_image"):
            row = (f"calibration_{way}", json.dumps({"mass": 1.0, "excess": 2.0}))
            connection.execute("INSERT INTO d2vpr_meta VALUES (?, ?)", row)
    assert Localizer(read_map(street.path), Describes()).calibration == Calibration()
    assert "fit it anew with d2vpr calibrate" in caplog.text
    caplog.clear()
    with open_writable(street.path) as writer:
        writer.set_calibration(CALIBRATION, asdict(FITTED))
    assert Localizer(read_map(street.path), Describes()).calibration == FITTED
    assert not caplog.text


@pytest.mark.parametrize(
    "text",
    ["", "[1]", "{", '{"mass": null}', '{"mass": NaN}', '{"mass": 1e999}', pytest.param("[" * 100_000, id="deep")],
)
def test_a_map_with_a_damaged_calibration_is_refused_in_a_line(street: PlaceMap, text: str) -> None:
    with sqlite3.connect(street.path) as connection:
        connection.execute("INSERT INTO d2vpr_meta VALUES ('calibration_log_odds', ?)", (text,))
    with pytest.raises(UserError, match="has a damaged header"):
        read_map(street.path)


def test_drives_of_the_map_and_of_elsewhere_calibrate_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    town, place_map = tmp_path / "town", tmp_path / "town.d2map"
    for folder, seed, condition, seconds in ((town, 7, "noon", 17.0), (tmp_path / "elsewhere", 8, "noon", 17.0)):
        record_drive(folder, seed, condition, duration_s=seconds, rate_hz=2.0, compressed=True, width=160, height=120)
    build_map(town, place_map, "--max-interval", "1")
    calibrate = ["calibrate", str(place_map), str(town), "--single", "--device", "cpu"]
    page, elsewhere = tmp_path / "page.html", ["--off-map-bag", str(tmp_path / "elsewhere")]
    assert d2vpr([*calibrate, *elsewhere, "--off-map-prior", "0"]) == 2
    assert "0 is for a robot that never leaves the map" in capsys.readouterr().err
    assert d2vpr([*calibrate, *elsewhere, "--page", str(page)]) == 0
    said = capsys.readouterr().out
    assert "before" in said and "new calibration" in said
    assert page.read_text(encoding="utf-8").count("<svg") == 2
    stored = read_map(place_map).header.calibrations
    assert stored.keys() == {CALIBRATION}
    assert stored[CALIBRATION].keys() == asdict(FITTED).keys()
