"""Odometry that began anew under a localized robot: most likely it was carried, and is still where its map is.

The calibrations take it for as likely that a robot is off the map as that it is on it. Of one that was just localized
and whose odometry then broke off, as when its base is switched off, carried and switched on, more is known.
"""

from __future__ import annotations

from d2vpr_ros.geometry import Pose
from d2vpr_ros.localize.tracker import Standing

_STAYS = 4.0  # times as likely on the map as off it
_LONGEST = 20.0  # images; a robot that was not found by then is probably elsewhere


class Restart:
    """Keeps how many images there were since.

    Attributes:
        now: the odometry broke off with the newest image; that the robot was localized before says nothing any more.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """As if the robot had never been localized."""
        self.now = self._odometry = False
        self._since: float | None = None

    def see(self, odometry: Pose | None, standing: Standing, *, localized: bool) -> None:
        """Take an image into account.

        Args:
            odometry: T_odom_base at the image; None without, and where it does not go on from the image before.
            standing: of the belief with that image.
            localized: whether the robot was, before it.
        """
        self.now = self._odometry and odometry is None
        if localized:
            self._since = standing.new if self.now else None
        elif self._since is not None:
            self._since += standing.new
        self._odometry = odometry is not None

    def odds(self, standing: Standing) -> float:
        """Of being on the map against being off it, beside what its images say; 1 where nothing else is known.

        Only for an answer from images since then: what was believed before says nothing of where it was carried.
        """
        if self._since is None or self._since > _LONGEST:
            return 1.0
        return _STAYS if standing.images <= self._since + 0.5 else 1.0
