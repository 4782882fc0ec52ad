"""`d2vpr calibrate` fits on labelled drives, measures on what it did not see, and stores the fit in the map."""

from __future__ import annotations

import sqlite3
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from places import IDENTITY, WIDTH, alike_along_the_way, straight_street, write_places
from scipy.special import expit

from d2vpr_ros.cli.main import main as d2vpr
from d2vpr_ros.errors import UserError
from d2vpr_ros.evaluation.calibrating import LEAST_OF_EACH, Labelled, fit, held_out, refit
from d2vpr_ros.localize import Localizer
from d2vpr_ros.localize.calibration import Calibration, Calibrations
from d2vpr_ros.mapping import PlaceMap, read_map
from d2vpr_ros.mapping.store import open_writable
from d2vpr_ros.sim.drive import record_drive

FITTED = Calibration(mass=1.0, excess=2.0, images=-3.0, scatter=-0.5, agreement=0.5, bias=0.25)


class Describes:
    """What a localizer asks of an extractor that is never given a picture."""

    identity = IDENTITY
    width = WIDTH


@pytest.fixture
def street(tmp_path: Path) -> PlaceMap:
    return write_places(tmp_path / "m.d2map", straight_street(12), alike_along_the_way(12, seed=4, width=WIDTH))


NOTHING = Calibration(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
"""Says of every answer that it is as likely right as wrong."""


def answers_under(calibration: Calibration, count: int) -> Labelled:
    """Images that are right as often as this calibration says."""
    draw = np.random.default_rng(5)
    rows = np.column_stack([draw.normal(size=(count, 5)) * [2.0, 1.0, 0.2, 1.0, 1.0], np.ones(count)])
    right = draw.random(count) < expit(rows @ list(asdict(calibration).values()))
    return Labelled(rows, np.ones(count), right, np.arange(count) * 10 // count % 5)


def test_a_fit_is_believed_for_what_it_says_of_images_it_has_not_seen() -> None:
    images = answers_under(FITTED, 2000)
    found = refit("single_image", NOTHING, images)
    assert found.before.log_loss == pytest.approx(np.log(2))
    assert found.after.log_loss < 0.7 * found.before.log_loss
    assert found.after.calibration_error < 0.05
    assert found.calibration.mass == pytest.approx(FITTED.mass, abs=0.3)
    assert found.calibration.excess == pytest.approx(FITTED.excess, abs=0.5)


def test_too_few_wrong_answers_are_refused() -> None:
    images = answers_under(FITTED, 500)
    few = images.of(images.right | (np.cumsum(~images.right) < LEAST_OF_EACH))
    with pytest.raises(UserError, match=r"24 wrong answers; a calibration needs 25 of each; .*--off-map-bag"):
        fit(few)
    with pytest.raises(UserError, match="a calibration needs 25 of each"):
        held_out(few)


def test_a_localizer_takes_the_calibration_that_its_map_holds(street: PlaceMap) -> None:
    with open_writable(street.path) as writer:
        writer.set_calibration("single_image", asdict(NOTHING))
        writer.set_calibration("single_image", asdict(FITTED))  # the last one counts
    calibrations = Localizer(read_map(street.path), Describes()).judge.calibrations
    assert calibrations.single_image == FITTED
    assert calibrations.with_odometry == Calibrations().with_odometry


def test_the_calibration_of_another_version_is_left_out(street: PlaceMap, caplog: pytest.LogCaptureFixture) -> None:
    with open_writable(street.path) as writer:
        writer.set_calibration("with_odometry", {"mass": 1.0, "stars": 2.0})
        writer.set_calibration("by_night", asdict(FITTED))
    assert Localizer(read_map(street.path), Describes()).judge.calibrations == Calibrations()
    assert "fit it anew with d2vpr calibrate" in caplog.text


@pytest.mark.parametrize(
    "text",
    ["", "[1]", "{", '{"mass": null}', '{"mass": NaN}', '{"mass": 1e999}', pytest.param("[" * 100_000, id="deep")],
)
def test_a_map_with_a_damaged_calibration_is_refused_in_a_line(street: PlaceMap, text: str) -> None:
    with sqlite3.connect(street.path) as connection:
        connection.execute("INSERT INTO d2vpr_meta VALUES ('calibration_with_odometry', ?)", (text,))
    with pytest.raises(UserError, match="has a damaged header"):
        read_map(street.path)


def test_drives_of_the_map_and_of_elsewhere_calibrate_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    town, place_map = tmp_path / "town", tmp_path / "town.d2map"
    for folder, seed, condition, seconds in ((town, 7, "noon", 20.0), (tmp_path / "elsewhere", 8, "noon", 20.0)):
        record_drive(folder, seed, condition, duration_s=seconds, rate_hz=2.0, compressed=True, width=160, height=120)
    built = ["map", "build", str(town), "-o", str(place_map), "--max-interval", "1", "--device", "cpu"]
    assert d2vpr(built) == 0
    calibrate = ["calibrate", str(place_map), str(town), "--single", "--device", "cpu"]
    page = tmp_path / "page.html"
    assert d2vpr([*calibrate, "--off-map-bag", str(tmp_path / "elsewhere"), "--page", str(page)]) == 0
    assert "new calibration for single image and single image compared" in capsys.readouterr().out
    assert page.read_text(encoding="utf-8").count("<svg") == 4
    stored = read_map(place_map).header.calibrations
    assert stored.keys() == {"single_image", "single_image_compared"}
    assert stored["single_image"].keys() == asdict(FITTED).keys()
