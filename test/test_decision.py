"""An answer is as probable as its evidence says, and every silence has its reason."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logit

from d2vpr_ros.localize.decision import CALIBRATION, Calibration, decide, probability, share
from d2vpr_ros.localize.types import Acceptance, BeliefSummary, RejectReason

SURE = BeliefSummary(
    best=3, hypothesis=7, mass=0.97, rival=0.01, off_map=0.02, mapped=1.0, images=4.0, fit=5.0, score=5.0, real=6.0,
    position=np.zeros(3),
)  # fmt: skip
AS_IT_IS = Calibration()


def reason(
    chance: float, *, held: bool = False, asked: int = 1, by_fix: float = 1.0, sequence: bool = True, **known: Any
) -> RejectReason:
    standing = replace(SURE, **known)
    return decide(chance, standing, Acceptance(images=asked), held=held, sequence=sequence, by_fix=by_fix)


def test_every_silence_has_its_reason() -> None:
    assert reason(0.99) is RejectReason.NONE
    assert reason(0.2, mass=0.1, off_map=0.9) is RejectReason.OFF_MAP
    assert reason(0.5, mass=0.5, rival=0.4) is RejectReason.AMBIGUOUS
    assert reason(0.5, fit=0.4) is RejectReason.NO_MATCH
    assert reason(0.9) is RejectReason.UNCONFIRMED


def test_a_fix_is_the_reason_only_where_there_would_be_an_answer_without_it() -> None:
    assert reason(0.995 * 0.5, by_fix=0.5) is RejectReason.GPS_CONTRADICTS
    assert reason(0.9 * 0.5, by_fix=0.5) is RejectReason.UNCONFIRMED


def test_as_many_images_are_waited_for_as_are_asked_for() -> None:
    assert [reason(0.99, asked=3, images=seen) for seen in (1.0, 2.0, 2.9)] == [
        RejectReason.UNCONFIRMED, RejectReason.UNCONFIRMED, RejectReason.NONE,
    ]  # fmt: skip
    assert reason(0.99, asked=3, images=1.0, sequence=False) is RejectReason.NONE, "each image stands alone"


def test_an_answer_that_holds_needs_a_little_less_than_a_new_one() -> None:
    assert reason(0.97, held=True) is RejectReason.NONE
    assert reason(0.97) is RejectReason.UNCONFIRMED


def test_of_two_streets_that_look_alike_neither_is_more_than_half_likely() -> None:
    torn = replace(SURE, mass=0.49, rival=0.49, real=30.0)
    assert probability(torn, AS_IT_IS) <= 0.5


def test_past_the_end_of_the_map_no_evidence_helps() -> None:
    assert probability(replace(SURE, mapped=0.1, real=30.0), AS_IT_IS) <= 0.1


shares = st.floats(1e-6, 1.0)


@given(
    mass=shares, rival=st.floats(0, 1), off_map=st.floats(0, 1), mapped=st.floats(0, 1), real=st.floats(-60, 60),
    slope=st.floats(0.01, 5), offset=st.floats(-5, 5), odds=st.sampled_from([1.0, 0.01]),
)  # fmt: skip
def test_a_probability_is_one_and_rises_with_the_evidence(
    mass: float, rival: float, off_map: float, mapped: float, real: float, slope: float, offset: float, odds: float
) -> None:
    standing = replace(SURE, mass=mass, rival=rival, off_map=off_map, mapped=mapped, real=real)
    calibration = Calibration(slope, offset)
    chance = probability(standing, calibration, odds)
    assert 0.0 <= chance <= share(standing) <= 1.0
    assert probability(replace(standing, real=real + 1), calibration, odds) >= chance
    assert probability(replace(standing, rival=rival + 0.1), calibration, odds) <= chance
    assert probability(standing, calibration, 0.01 * odds) <= chance


def test_odds_by_a_fix_count_as_so_much_evidence() -> None:
    certain = replace(SURE, mass=1.0, rival=0.0, off_map=0.0, real=4.0)
    told = probability(certain, AS_IT_IS, odds=0.01)
    assert logit(told) == pytest.approx(4.0 + np.log(0.01))


def test_a_map_s_calibration_is_used_and_that_of_an_older_version_left_out_with_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fitted = Calibration(0.8, -0.5)
    assert Calibration.of_map({CALIBRATION: asdict(fitted)}) == fitted
    assert Calibration.of_map({}) == AS_IT_IS
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        for old in ({"by_odometry": {"mass": 1.0}}, {CALIBRATION: {"slope": 1.0, "bias": 0.0}}):
            assert Calibration.of_map(old) == AS_IT_IS
    assert [record.message for record in caplog.records] == [
        "the map's calibration is of another version and left out; fit it anew with d2vpr calibrate"
    ] * 2
