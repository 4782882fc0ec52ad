"""Odometry that broke off under a localized robot: most likely it was carried, and is still where its map is.

The calibrations take it for as likely that a robot is off the map as that it is on it. Of one that was just localized
when its odometry broke off or began anew, as when its base is switched off, carried and switched on, more is known. On
the other hand, what it saw before speaks for a place only as far as what it has seen since does.
"""

from __future__ import annotations

from dataclasses import replace

from d2vpr_ros.localize.tracker import Standing
from d2vpr_ros.localize.transition import FORGOTTEN

_STAYS = 4.0  # times as likely on the map as off it
_LONGEST = 20.0  # images; a robot that was not found by then is probably elsewhere


class Restart:
    """Keeps how many images there were since, and how well they fitted the answers.

    Attributes:
        now: with the newest image; that the robot was localized before it says nothing any more.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """As if the robot had never been localized."""
        self.now = False
        self._known: bool | None = None
        self._since: float | None = None
        self._fit = 0.0
        self._left = False

    def leave(self) -> None:
        """The newest images say that the robot left the way that was its answer: what they fit later begins anew."""
        self._since, self._fit, self._left = 0.0, 0.0, True

    def begin(self, *, known: bool, localized: bool) -> None:
        """Before an image is looked at.

        Args:
            known: whether the odometry at the image is, and goes on from the one before.
            localized: whether the robot was, before it.
        """
        self.now = self._known is not None and self._known != known
        self._known = known
        if localized:
            self._since, self._fit, self._left = 0.0 if self.now else None, 0.0, False

    def count(self, standing: Standing) -> None:
        """Take an image into account that the belief was updated with."""
        if self._since is not None:  # as the histories do that it is compared with
            kept = (1 - FORGOTTEN) ** standing.new
            self._since = kept * self._since + standing.new
            self._fit = kept * self._fit + standing.new * standing.similar

    def odds(self, standing: Standing) -> float:
        """Of being on the map against being off it, beside what its images say; 1 where nothing else is known."""
        if self._since is None or self._left or self._since > _LONGEST or self._is_older(standing, self._since):
            return 1.0
        return _STAYS

    def heeded(self, standing: Standing) -> Standing:
        """An answer as far as the images since then bear it out: one from before fits no better than they do."""
        if self._since is None or not self._is_older(standing, self._since):
            return standing
        since = self._fit / self._since if self._since else standing.similar
        images = min(standing.images, self._since) if self._left else standing.images
        return replace(standing, fit=min(standing.fit, since), images=images)

    @staticmethod
    def _is_older(standing: Standing, since: float) -> bool:
        """Whether some of the images behind an answer are from before."""
        return standing.images > since + 0.5
