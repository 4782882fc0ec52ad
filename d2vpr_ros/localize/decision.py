"""When an answer counts, and why it does not."""

from __future__ import annotations

from dataclasses import dataclass

from d2vpr_ros.localize.estimate import RejectReason
from d2vpr_ros.localize.tracker import Standing

_RIVAL = 0.2  # of the answer's mass; more elsewhere is ambiguous
_LEAST_FIT = 1.0  # standard deviations; less is no match


@dataclass(frozen=True)
class Acceptance:
    """Attributes:
    probability: least probability of an answer while the robot is not localized.
    hold: how many times likelier to be wrong an answer may be once the robot is localized.
    images: least number of images behind an answer (with `sequence`), each a keyframe spacing from the one before.
    """

    probability: float = 0.99
    hold: float = 4.0
    images: int = 3

    def needed(self, localized: bool) -> float:
        """Least probability of an answer; less once the robot is localized, so that it does not flicker."""
        return 1 - self.hold * (1 - self.probability) if localized else self.probability

    def enough(self, standing: Standing, *, sequence: bool) -> bool:
        """Whether as many images as asked for are behind the answer."""
        return not sequence or standing.images >= self.images - 0.5


DEFAULT_ACCEPTANCE = Acceptance()


def decide(
    probability: float,
    standing: Standing,
    acceptance: Acceptance,
    *,
    localized: bool,
    sequence: bool,
    alone: float = 0.0,
) -> RejectReason:
    """Why an answer is not accepted, NONE if it is.

    Args:
        probability: that it is right.
        localized: whether the last answer was accepted.
        sequence: whether several images are asked for.
        alone: the probability before pictures were compared.
    """
    enough, needed = acceptance.enough(standing, sequence=sequence), acceptance.needed(localized)
    if enough and probability >= needed:
        return RejectReason.NONE
    if not enough:
        return RejectReason.UNCONFIRMED
    if alone >= needed:
        return RejectReason.VERIFICATION_FAILED
    if standing.off_map > standing.mass:
        return RejectReason.OFF_MAP
    if standing.rival > _RIVAL * standing.mass:
        return RejectReason.AMBIGUOUS
    return RejectReason.UNCONFIRMED if standing.fit >= _LEAST_FIT else RejectReason.NO_MATCH
