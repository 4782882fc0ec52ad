"""Image in, estimate out: the one object that the node, the offline evaluation and the tests drive."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from d2vpr_ros.describe import Extractor
from d2vpr_ros.geometry import Pose
from d2vpr_ros.images.frame import Frame
from d2vpr_ros.localize.agreement import Query, agreement
from d2vpr_ros.localize.covariance import place_covariance
from d2vpr_ros.localize.estimate import Estimate, Match, RejectReason, State
from d2vpr_ros.localize.threshold import similarity_threshold
from d2vpr_ros.mapping import Index, PlaceMap, check_model


@dataclass(frozen=True)
class LocalizerOptions:
    """Attributes:
    candidates: places looked up for an image.
    voters: how many candidates of an earlier image may vote for a place.
    sequence: accept only what consecutive images agree on; without, each image stands alone.
    window: images remembered, this one included.
    min_agreeing: images of the window, this one included, that have to agree.
    min_similarity: least cosine of an accepted match; None learns it from the map.
    tolerance_m: how far agreeing candidates may lie apart; None takes three keyframe spacings.
    top_speed_mps: bounds the motion between images where there is no odometry.
    """

    candidates: int = 20
    voters: int = 3
    sequence: bool = True
    window: int = 6
    min_agreeing: int = 4
    min_similarity: float | None = None
    tolerance_m: float | None = None
    top_speed_mps: float = 2.0


class Localizer:
    """Keeps what it remembers of the last images; everything else is given."""

    def __init__(
        self,
        place_map: PlaceMap,
        extractor: Extractor,
        options: LocalizerOptions = LocalizerOptions(),
        mount: Pose | None = None,
    ) -> None:
        """
        Args:
            mount: T_base_cameraOptical of the robot's camera; None takes that of the camera the map was made with.

        Raises:
            UserError: the map was made by another model.
        """
        check_model(place_map, extractor.identity)
        self.map = place_map
        self.extractor = extractor
        self.options = options
        self.mount = mount
        self.index = Index.of(place_map.descriptors)
        self.tolerance_m = options.tolerance_m or 3.0 * place_map.spacing_m
        self.min_similarity = (
            similarity_threshold(place_map, self.tolerance_m)
            if options.min_similarity is None
            else options.min_similarity
        )
        self._remembered: deque[Query] = deque(maxlen=max(1, options.window - 1))

    def reset(self) -> None:
        """Forget the earlier images, as after a jump in time or on request."""
        self._remembered.clear()

    def locate(self, frame: Frame, odometry: Pose | None = None) -> Estimate:
        """Describe one image and say where the robot is.

        Args:
            odometry: T_odom_base at the frame's stamp, if the robot has any.

        Raises:
            UserError: the image is empty or not RGB.
        """
        return self.match(self.extractor.describe([frame.rgb])[0], frame.stamp_ns, odometry)

    def match(self, descriptor: npt.NDArray[np.float32], stamp_ns: int, odometry: Pose | None = None) -> Estimate:
        """The answer to an image already described as (D,) float32 of unit length."""
        similarities, rows = (found[0] for found in self.index.search(descriptor[None], self.options.candidates))
        base_poses = [self.map.base_pose(int(row), self.mount) for row in rows]
        positions = np.array([pose.position for pose in base_poses])
        voters = slice(self.options.voters)
        current = Query(stamp_ns, rows, similarities.astype(np.float64), positions, odometry)
        votes = agreement(current, base_poses, self._remembered, self.tolerance_m, self.options.top_speed_mps)
        self._remembered.append(
            Query(stamp_ns, rows[voters], current.similarities[voters], positions[voters], odometry)
        )
        return self._decide(current, base_poses, votes)

    def _decide(self, query: Query, base_poses: list[Pose], votes: npt.NDArray[np.float64]) -> Estimate:
        """Take the candidate that most queries agree on (of equals, the most similar); accept it or say why not."""
        best = int(np.lexsort((query.similarities, votes))[-1])
        away = np.linalg.norm(query.base_positions - query.base_positions[best], axis=1) > self.tolerance_m
        rival_votes = float(votes[away].max(initial=-1.0))
        reason = RejectReason.NONE
        if query.similarities[best] < self.min_similarity:
            reason = RejectReason.NO_MATCH
        elif self.options.sequence and votes[best] + 1 < self.options.min_agreeing:
            reason = RejectReason.UNCONFIRMED
        elif self.options.sequence and rival_votes >= votes[best]:
            reason = RejectReason.AMBIGUOUS
        accepted = reason is RejectReason.NONE
        remembered = float(self.options.window if self.options.sequence else 1)
        order = [best, *(rank for rank in range(len(query.rows)) if rank != best)]
        matches = tuple(
            Match(
                rank=rank,
                row=int(query.rows[index]),
                similarity=float(query.similarities[index]),
                belief=min(1.0, float(votes[index] + 1) / remembered),
                accepted=accepted and rank == 0,
            )
            for rank, index in enumerate(order)
        )
        if not accepted:
            state = State.LOST if reason is RejectReason.NO_MATCH else State.CANDIDATE
            return Estimate(query.stamp_ns, state, reason, matches)
        agreeing = query.base_positions[~away]
        covariance = place_covariance(agreeing, self.map.spacing_m)
        return Estimate(query.stamp_ns, State.LOCALIZED, reason, matches, base_poses[best], covariance)
