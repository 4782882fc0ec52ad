"""Whether the newest images, taken by themselves, speak for another place than the belief's.

A robot that was carried away keeps its belief for long: all it saw before still speaks for the old place, and there is
no motion to the new one. So a second belief begins from nothing at an image that resembles somewhere else more. While
its images speak against the answer there is none; once it is sure, it is the belief (as short and long averages of the
likelihood are set against each other in augmented Monte Carlo localization, Thrun, Burgard and Fox, 2005, 8.3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from d2vpr_ros.localize.belief import Places
from d2vpr_ros.localize.likelihood import softened
from d2vpr_ros.localize.tracker import Observation, Standing, Tracker

_BELIEVED = 0.5  # mass of an answer that can be doubted
_STARTS = 2.5  # standard deviations by which an image resembles another place more than the answer's
_SAME_PLACE = 6.0  # spacings; nearer, the two beliefs say the same
_LONGEST = 20.0  # images


@dataclass(frozen=True, eq=False)
class Objection:
    """What the newest images say by themselves.

    Attributes:
        standing: of the belief from these images alone.
        against: by how many standard deviations, summed over them, they resemble its way more than the answer's.
        agreed: the belief has come round to the same place, and these images are its history from now on.
    """

    standing: Standing
    against: float
    agreed: bool = False

    @property
    def chance(self) -> float:
        """Of the answer they speak against, as such standard deviations go: at most a half."""
        return float(ndtr(-self.against))


class Doubt:
    """Keeps the second belief and how well its images fitted the answer.

    Attributes:
        last: what the last image said; None where nothing speaks against the answer.
    """

    def __init__(self, tracker: Callable[[], Tracker], places: Places) -> None:
        """
        Args:
            tracker: makes one that knows nothing.
        """
        self._make, self._places = tracker, places
        self.reset()

    def reset(self) -> None:
        """No doubt."""
        self.last: Objection | None = None
        self._other: Tracker | None = None
        self._here = 0.0

    def forget_odometry(self) -> None:
        """As `Tracker.forget_odometry`."""
        if self._other is not None:
            self._other.forget_odometry()

    def update(self, image: Observation, standing: Standing, chance: Callable[[Standing], float]) -> Objection | None:
        """Take an image into account that the belief was updated with; None where nothing speaks against the answer.

        Args:
            chance: of an answer, as far as descriptors tell (`Judge.alone`).
        """
        if self._other is None:
            if standing.mass < _BELIEVED:
                return None
            # The belief may have followed the robot at once, and then what it saw elsewhere speaks against the answer.
            foreign = standing.similar > standing.fit + _STARTS
            if not foreign and self._elsewhere(image, standing) < standing.similar + _STARTS:
                return None
            self._other = self._make()
        other = self._other.update(image)
        self._here += other.new * standing.similar
        against = other.fit * other.images - self._here
        apart_m = float(np.linalg.norm(self._places.positions[other.best] - self._places.positions[standing.best]))
        came_round = apart_m <= _SAME_PLACE * self._places.spacing_m
        if not came_round and against > 0 and other.images <= _LONGEST:
            self.last = Objection(other, against)
            return self.last
        began_anew = self.last is not None and standing.images <= other.images  # nothing of elsewhere is in its history
        if came_round and (began_anew or chance(other) > chance(standing)):
            return Objection(other, against, agreed=True)
        if came_round and standing.fit < other.fit:
            return None
        self.reset()
        return None

    def settled(self) -> Tracker:
        """The second belief, which is the belief from now on."""
        if self._other is None:
            raise ValueError("there is no doubt")
        other = self._other
        self.reset()
        return other

    def _elsewhere(self, image: Observation, standing: Standing) -> float:
        """How much the image resembles the best place that is not the answer's."""
        positions = self._places.positions
        gaps = np.linalg.norm(positions[image.candidates] - positions[standing.best], axis=1)
        return float(softened(image.scores[gaps > _SAME_PLACE * self._places.spacing_m]).max(initial=0.0))
