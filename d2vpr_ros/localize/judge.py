"""How probable an answer is, and whether it counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from d2vpr_ros.localize.agreement import LEAST, MOST, Agreement, Compared
from d2vpr_ros.localize.calibration import Calibrations
from d2vpr_ros.localize.change_test import LOST
from d2vpr_ros.localize.decision import decide
from d2vpr_ros.localize.estimate import RejectReason
from d2vpr_ros.localize.gps import chance
from d2vpr_ros.localize.options import LocalizerOptions, Verify
from d2vpr_ros.localize.tracker import Standing
from d2vpr_ros.mapping import PlaceMap
from d2vpr_ros.mapping.restriction import Region

_DISAGREE = 2.0  # times as likely to be wrong is an answer whose pictures agree little, before the robot is localized


@dataclass(frozen=True, eq=False)
class Judgement:
    """Attributes:
    probability: of the answer.
    reason: why it does not count, NONE if it does.
    agreement: of the pictures along the way, and `compared`, the newest of them; None where they were not compared.
    holds: the robot stays localized though the newest images are too poor to answer, as with someone before the camera.
    """

    probability: float
    reason: RejectReason
    agreement: float | None = None
    compared: Compared | None = None
    holds: bool = False


class Judge:
    """Keeps how well pictures agreed along the way.

    Attributes:
        calibrations: from the map, or the defaults.
        agreement: of the pictures.
    """

    def __init__(self, place_map: PlaceMap, options: LocalizerOptions) -> None:
        self._options, self._map = options, place_map
        self.calibrations = Calibrations.of_map(place_map.header.calibrations)
        self.agreement = Agreement(place_map)

    def alone(self, standing: Standing, *, by_odometry: bool, odds: float = 1.0) -> float:
        """The probability of an answer as far as descriptors tell: no pictures compared."""
        calibration = self.calibrations.of(sequence=self._options.sequence, odometry=by_odometry)
        return calibration.probability(standing, self._map, odds=odds)

    def judge(
        self,
        standing: Standing,
        descriptor: npt.NDArray[np.float32],
        rgb: npt.NDArray[np.uint8] | None,
        *,
        by_odometry: bool,
        localized: bool,
        odds: float = 1.0,
        fix: Region | None = None,
    ) -> Judgement:
        """Judge the answer to an image; pictures are compared only where that decides, for it takes its time.

        Args:
            rgb: the image; None is not compared.
            localized: whether the last answer counted.
            odds: that the robot is on the map against that it is off it, as far as it is known beside the images.
            fix: where a receiver says the robot is; an answer elsewhere does not count.
        """
        acceptance, sequence = self._options.acceptance, self._options.sequence
        compared = self.calibrations.of(sequence=sequence, odometry=by_odometry, compared=True)
        alone = self.alone(standing, by_odometry=by_odometry, odds=odds)
        probability, agreement = alone, None
        if (by_fix := chance(fix, standing.position)) < 1:
            return Judgement(alone * by_fix, RejectReason.GPS_CONTRADICTS)
        if rgb is not None and self._options.verify is not Verify.NEVER:
            # By night pictures of one place agree little, too: that makes the answer of many images likelier to be
            # wrong, not wrong. Of a single image they decide.
            doubled = max(0.0, 1 - _DISAGREE * (1 - alone))
            anyway = 0.0 if not sequence else alone if localized else doubled

            def with_pictures(agreement: float) -> float:
                return max(anyway, compared.probability(standing, self._map, agreement, odds))

            worst, best = with_pictures(LEAST), with_pictures(MOST)
            needed = acceptance.needed(localized)
            hopeless = not acceptance.enough(standing, sequence=sequence) or best < needed
            if self._options.verify is Verify.ALWAYS or not (hopeless or worst >= needed):
                agreement = self.agreement.take(self.agreement.seen(rgb), descriptor, standing)
                if agreement is not None:
                    probability = with_pictures(agreement)
            else:
                probability = min(alone, best) if hopeless else max(alone, worst)
        reason = decide(probability, standing, acceptance, localized=localized, sequence=sequence, alone=alone)
        still = localized and standing.left < LOST and probability >= (1 - standing.left) * acceptance.needed(True)
        return Judgement(probability, reason, agreement, None if agreement is None else self.agreement.last, still)
