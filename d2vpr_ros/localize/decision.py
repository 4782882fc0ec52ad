"""How probable an answer is, when it counts, and why it does not."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from scipy.special import expit

from d2vpr_ros.localize.types import Acceptance, BeliefSummary, RejectReason

log = logging.getLogger(__name__)

_RIVAL = 0.2  # of the answer's mass; more elsewhere is ambiguous
_LEAST_FIT = 1.0  # standard deviations; less is no match


@dataclass(frozen=True)
class Calibration:
    """How a map's log-odds become a probability (Platt scaling): as they are, unless `d2vpr calibrate` fitted it.

    Attributes:
        slope, offset: of the log-odds that it is the place itself.
    """

    slope: float = 1.0
    offset: float = 0.0

    @staticmethod
    def of_map(stored: Mapping[str, Mapping[str, float]]) -> Calibration:
        """What was fitted for a map (`MapHeader.calibrations`). What another version stored is left out, and logged."""
        found = stored.get(CALIBRATION, {})
        if stored and (set(stored) != {CALIBRATION} or found.keys() != asdict(Calibration()).keys()):
            log.warning("the map's calibration is of another version and left out; fit it anew with d2vpr calibrate")
            return Calibration()
        return Calibration(**found)


CALIBRATION = "log_odds"
"""Name of the calibration in a map."""


def share(summary: BeliefSummary) -> float:
    """Of the mass that is at the answer and not elsewhere, where the map shows what is seen."""
    return summary.mass * summary.mapped


def probability(summary: BeliefSummary, calibration: Calibration, odds: float = 1.0) -> float:
    """That the robot is where the answer says: it is there rather than elsewhere, and it is the place itself.

    Args:
        odds: of being on the map by what is known beside the images.
    """
    real = calibration.slope * summary.real + calibration.offset + np.log(odds)
    return float(share(summary) * expit(real))


def decide(
    chance: float, summary: BeliefSummary, acceptance: Acceptance, *, held: bool, sequence: bool, by_fix: float = 1.0
) -> RejectReason:
    """Why an answer is not accepted, NONE if it is.

    Args:
        chance: that it is right.
        held: the last answer came from the same hypothesis.
        sequence: whether several images are asked for.
        by_fix: share of the chance that a fix leaves it.
    """
    needed = acceptance.needed(held)
    if sequence and summary.images < acceptance.images - 0.5:
        return RejectReason.UNCONFIRMED
    if chance >= needed:
        return RejectReason.NONE
    if chance >= by_fix * needed:
        return RejectReason.GPS_CONTRADICTS
    if summary.off_map > summary.mass:
        return RejectReason.OFF_MAP
    if summary.rival > _RIVAL * summary.mass:
        return RejectReason.AMBIGUOUS
    return RejectReason.UNCONFIRMED if summary.fit >= _LEAST_FIT else RejectReason.NO_MATCH
