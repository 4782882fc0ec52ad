"""When an answer counts: it must fit the images well, better than any place elsewhere, and over enough images."""

from __future__ import annotations

import math
from dataclasses import dataclass

from d2vpr_ros.localize.estimate import RejectReason


@dataclass(frozen=True)
class Acceptance:
    """Bounds in standard deviations of a query's similarity to the map, measured on the calibration towns.

    Attributes:
        score: least mean score of the images for the place.
        margin: least lead over the best place elsewhere, however many images there are.
        single_margin: the lead that one image alone would need; n images need it divided by the root of n.
        images: least number of images, this one included.
    """

    score: float = 1.2
    margin: float = 0.8
    single_margin: float = 2.5
    images: int = 3

    def margin_for(self, images: int) -> float:
        """Least lead of a mean over so many images."""
        return max(self.margin, self.single_margin / math.sqrt(images))


DEFAULT_ACCEPTANCE = Acceptance()


def decide(score: float, rival: float, images: int, acceptance: Acceptance, sequence: bool) -> RejectReason:
    """Why a place is not accepted, NONE if it is.

    Args:
        score: mean score of the best place.
        rival: of the best place elsewhere.
        images: how many images the scores are means of.
        sequence: whether several images are asked for.
    """
    if score < acceptance.score:
        return RejectReason.NO_MATCH
    if sequence and images < acceptance.images:
        return RejectReason.UNCONFIRMED
    if score - rival < acceptance.margin_for(images):
        return RejectReason.AMBIGUOUS
    return RejectReason.NONE
