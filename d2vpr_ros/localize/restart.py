"""Odometry that broke off under a localized robot: most likely it was carried, and is still where its map is.

The calibrations take it for as likely that a robot is off the map as that it is on it. Of one that was just localized
when its odometry broke off or began anew, as when its base is switched off, carried and switched on, more is known.
"""

from __future__ import annotations

from d2vpr_ros.localize.tracker import Standing
from d2vpr_ros.localize.transition import FORGOTTEN

_STAYS = 4.0  # times as likely on the map as off it
_LONGEST = 20.0  # images; a robot that was not found by then is probably elsewhere


class Restart:
    """Keeps how many images there were since.

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

    def begin(self, *, known: bool, localized: bool) -> None:
        """Before an image is looked at.

        Args:
            known: whether the odometry at the image is, and goes on from the one before.
            localized: whether the robot was, before it.
        """
        self.now = self._known is not None and self._known != known
        self._known = known
        if localized:
            self._since = 0.0 if self.now else None

    def count(self, standing: Standing) -> None:
        """Take an image into account that the belief was updated with."""
        if self._since is not None:  # as the histories do that it is compared with
            self._since = self._since * (1 - FORGOTTEN) ** standing.new + standing.new

    def odds(self, standing: Standing) -> float:
        """Of being on the map against being off it, beside what its images say; 1 where nothing else is known.

        Only for an answer from images since then: what was believed before says nothing of where it was carried.
        """
        if self._since is None or self._since > _LONGEST:
            return 1.0
        return _STAYS if standing.images <= self._since + 0.5 else 1.0
