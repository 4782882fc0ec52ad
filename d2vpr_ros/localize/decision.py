"""How probable an answer is, when it counts, and why it does not."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from scipy.special import expit

from d2vpr_ros.localize.belief import Belief, Places, Rows, at_start
from d2vpr_ros.localize.filter import nearby
from d2vpr_ros.localize.params import LocalizerParams
from d2vpr_ros.localize.types import Acceptance, BeliefSummary, RejectReason

log = logging.getLogger(__name__)

_RIVAL = 0.2  # of the answer's mass; more elsewhere is ambiguous
_LEAST_FIT = 1.0  # standard deviations; less is no match
_NEAR, _SIGMAS = 3.0, 4.0  # spacings, deviations of a place; so far about the best hypothesis the answer is right


def summarised(belief: Belief, places: Places, spacing_m: float, params: LocalizerParams) -> tuple[BeliefSummary, Rows]:
    """What a belief comes down to, and (A,) the row of the place that each hypothesis is nearest to."""
    of = belief.of
    near = nearby(of, places, params)
    radius_m = max(_NEAR * spacing_m, _SIGMAS * places.sigma_m)
    rows = near.rows[np.arange(len(of)), np.argmax(near.chances, axis=1)]
    best = int(np.argmax(of.log_mass))
    gaps = np.linalg.norm(of.positions - of.positions[best], axis=1)
    others = of.log_mass[gaps > 2 * radius_m]
    variance = float(np.linalg.eigvalsh(of.covariances[best, :3, :3])[-1])
    within = 1 - np.exp(-(radius_m**2) / (2 * variance))  # of a Gaussian on the plane
    return BeliefSummary(
        best=int(rows[best]),
        hypothesis=int(of.ids[best]),
        mass=float(within * np.exp(np.logaddexp.reduce(of.log_mass[gaps <= radius_m]))),
        rival=float(np.exp(others.max(initial=-np.inf))),
        off_map=float(np.exp(belief.off_map)),
        mapped=float(of.mapped[best]),
        real=float(of.real[best]) + at_start(belief),
        images=float(of.images[best]),
        fit=float(of.fit[best]),
        score=float(of.score[best]),
        position=of.positions[best],
    ), rows


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
    chance: float,
    summary: BeliefSummary,
    acceptance: Acceptance,
    *,
    held: bool,
    sequence: bool,
    denied: bool = False,
    by_fix: float = 1.0,
) -> RejectReason:
    """Why an answer is not accepted, NONE if it is.

    Args:
        chance: that it is right.
        held: the last answer came from the same hypothesis.
        sequence: whether several images are asked for.
        denied: the image was compared with landmarks, which are not in it.
        by_fix: share of the chance that a fix leaves it.
    """
    needed = acceptance.needed(held)
    if sequence and summary.images < acceptance.images - 0.5:
        return RejectReason.UNCONFIRMED
    if chance >= needed:
        return RejectReason.NONE
    if chance >= by_fix * needed:
        return RejectReason.GPS_CONTRADICTS
    if summary.off_map + summary.mass * (1 - summary.mapped) > share(summary):
        return RejectReason.OFF_MAP
    if summary.rival > _RIVAL * summary.mass:
        return RejectReason.AMBIGUOUS
    if denied and share(summary) >= needed:
        return RejectReason.VERIFICATION_FAILED
    return RejectReason.UNCONFIRMED if summary.fit >= _LEAST_FIT else RejectReason.NO_MATCH
