"""Listens to a localizer and keeps what it said, for scoring."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2

from d2vpr_ros.fields import read_pose, stamp_ns
from d2vpr_ros.geometry import Pose
from d2vpr_ros.nodes import messages

_DEPTH = 1000  # nothing may be lost: the score counts every answer


@dataclass(frozen=True, eq=False)
class ReceivedPrior:
    """A pose prior and when it came, by the system clock."""

    pose: Pose
    covariance: npt.NDArray[np.float64]
    frame: str
    received_ns: int


class Collector(Node):
    """Attributes:
    priors: by the image's stamp.
    matches: the points of `~/place_matches` (dtype `messages.MATCH_POINT`) by the image's stamp.
    diagnostics: newest value of each key of `/diagnostics`.
    """

    def __init__(self, localizer: str = "/d2vpr_localizer") -> None:
        super().__init__("d2vpr_collector")
        self.priors: dict[int, ReceivedPrior] = {}
        self.matches: dict[int, npt.NDArray[Any]] = {}
        self.diagnostics: dict[str, str] = {}
        self.changed = threading.Condition()
        self._inputs = [
            self.create_subscription(PoseWithCovarianceStamped, f"{localizer}/pose_prior", self._take_prior, _DEPTH),
            self.create_subscription(PointCloud2, f"{localizer}/place_matches", self._take_matches, _DEPTH),
            self.create_subscription(DiagnosticArray, "/diagnostics", self._take_diagnostics, _DEPTH),
        ]

    def wait_for_matches(self, count: int, timeout_s: float) -> bool:
        """Wait until so many images were answered, with a pose prior or with silence."""
        with self.changed:
            return self.changed.wait_for(lambda: len(self.matches) >= count, timeout_s)

    def _take_prior(self, message: PoseWithCovarianceStamped) -> None:
        received_ns = time.time_ns()
        covariance = np.array(message.pose.covariance, dtype=np.float64).reshape(6, 6)
        prior = ReceivedPrior(read_pose(message.pose.pose), covariance, message.header.frame_id, received_ns)
        with self.changed:
            self.priors[stamp_ns(message.header)] = prior
            self.changed.notify_all()

    def _take_matches(self, message: PointCloud2) -> None:
        with self.changed:
            points = messages.read_cloud(message, messages.MATCH_POINT)
            self.matches[stamp_ns(message.header)] = points
            self.changed.notify_all()

    def _take_diagnostics(self, message: DiagnosticArray) -> None:
        with self.changed:
            for status in message.status:
                self.diagnostics.update({item.key: item.value for item in status.values})
            self.changed.notify_all()
