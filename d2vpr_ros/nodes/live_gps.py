"""What a GPS receiver says while the robot drives, asked like its recorded track: tags for images, and poses."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from d2vpr_ros.bags.gps import GpsTrack, track_from_fixes
from d2vpr_ros.bags.gps_poses import headings, poses_along
from d2vpr_ros.bags.trajectory import Geo, Trajectory
from d2vpr_ros.fields import stamp_ns
from d2vpr_ros.geodesy import LocalFrame
from d2vpr_ros.geometry import Pose
from d2vpr_ros.nodes.poses import JUMP_NS, Posed

_KEPT = 200  # fixes: 20 s at 10 Hz, in which a robot that moves at all shows its heading


class LiveFixes:
    """The newest fixes of a sensor_msgs/NavSatFix topic."""

    def __init__(self) -> None:
        self._messages: deque[Any] = deque(maxlen=_KEPT)

    def add(self, message: Any) -> None:
        """A message; after a jump back in time all start anew."""
        if self._messages and stamp_ns(message.header) < stamp_ns(self._messages[-1].header) - JUMP_NS:
            self._messages.clear()
        self._messages.append(message)

    def is_settled(self, stamp: int) -> bool:
        """Whether no better answer for this time is to be waited for."""
        return bool(self._messages) and stamp_ns(self._messages[-1].header) >= stamp

    def at(self, stamp: int, max_gap_s: float) -> Geo | None:
        """As `bags.gps.GpsTrack.at`."""
        track = self.track()
        return None if track is None else track.at(stamp, max_gap_s)

    def track(self) -> GpsTrack | None:
        """Of the fixes kept; None without any."""
        return track_from_fixes(self._messages, "gps/fix")


class GpsPoses:
    """Poses of the base on the receiver's track: level, headed along it, in an east-north-up frame.

    Until the robot has driven 2 m its heading is not known, and there is no pose.

    Attributes:
        origin: of that frame; the first fix, unless the map has one. None before.
    """

    def __init__(self, origin: LocalFrame | None, antenna: Callable[[str], Pose | None]) -> None:
        """
        Args:
            antenna: T_base_antenna by the frame of the antenna; where it is None the antenna is at the base's origin.
        """
        self.origin = origin
        self._antenna = antenna
        self._fixes = LiveFixes()
        self._poses: Trajectory | None = None

    def add(self, message: Any) -> None:
        """A sensor_msgs/NavSatFix."""
        self._fixes.add(message)
        track = self._fixes.track()
        if track is None:
            return
        self.origin = self.origin or track.origin
        heights = track.geo[:, 2] if track.has_altitude else np.full(len(track.geo), self.origin.altitude)
        enu = self.origin.to_enu(np.column_stack([track.geo[:, :2], heights]))
        if not track.has_altitude:
            enu[:, 2] = 0.0  # else the earth's curvature shows
        track = replace(track, origin=self.origin, enu=enu)
        mount = self._antenna(track.frame_id)
        arm = np.zeros(3) if mount is None else mount.position
        is_headed = headings(track.stamps_ns, track.enu) is not None
        self._poses = poses_along(track, arm) if is_headed else None

    def is_settled(self, stamp: int) -> bool:
        return self._fixes.is_settled(stamp)

    def at(self, stamp: int, max_gap_s: float) -> Posed | None:
        if self._poses is None or (pose := self._poses.at(stamp, max_gap_s)) is None:
            return None
        return pose, self._poses.covariance_at(stamp)

    def geo(self, pose: Pose) -> Geo | None:
        """Latitude, longitude and altitude of a pose in the frame."""
        return None if self._poses is None else self._poses.geo(pose.position)
