"""Image in, estimate out: the one object that the node, the offline evaluation and the tests drive."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from d2vpr_ros.describe import Extractor
from d2vpr_ros.geometry import Pose, distance
from d2vpr_ros.images.frame import Frame
from d2vpr_ros.localize.covariance import place_covariance
from d2vpr_ros.localize.decision import DEFAULT_ACCEPTANCE, Acceptance, decide
from d2vpr_ros.localize.estimate import Estimate, Match, RejectReason, State
from d2vpr_ros.localize.evidence import Background, Hypotheses, Query, support
from d2vpr_ros.mapping import Index, PlaceMap, check_model

Rows = npt.NDArray[np.int64]

_NEIGHBOURS = 200  # candidates looked up for an image and remembered; others count as ordinary
_HYPOTHESES = 60  # of them tried as the robot's place
_CARRIED = 20  # best places of the last image, moved on by the odometry and tried again
_STRONGEST = 3.0  # standard deviations; of many images no single one decides, however alike it looks
_PUBLISHED = 20
_EVIDENCE = 0.5  # consecutive images are no independent evidence: their summed score counts half
_ELSEWHERE = 6.0  # keyframe spacings; a place this far from the answer is its rival


@dataclass(frozen=True)
class LocalizerOptions:
    """Attributes:
    sequence: score a place by all remembered images; without, each image stands alone.
    window: images remembered. With odometry one is remembered each time the robot has moved a keyframe spacing.
    tolerance_m: how far places may lie from where the motion puts them; None takes a keyframe spacing.
    top_speed_mps: bounds the motion between images where there is no odometry.
    acceptance: when an answer counts.
    """

    sequence: bool = True
    window: int = 40
    tolerance_m: float | None = None
    top_speed_mps: float = 2.0
    acceptance: Acceptance = DEFAULT_ACCEPTANCE


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
        self.index = Index.of(place_map.descriptors)
        self.background = Background.of(place_map.descriptors)
        self.tolerance_m = options.tolerance_m or place_map.spacing_m
        self._elsewhere_m = _ELSEWHERE * place_map.spacing_m
        neighbours = (place_map.descriptors[:-1] * place_map.descriptors[1:]).sum(axis=1)
        self._alike = float(np.median(neighbours)) if len(neighbours) else 1.0
        self.use_mount(mount)
        self.reset()

    def use_mount(self, mount: Pose | None) -> None:
        """Where the robot's camera is on its base (T_base_cameraOptical), known from now on."""
        self.mount = mount
        poses = [self.map.base_pose(row, mount) for row in range(len(self.map))]
        self._positions = np.array([pose.position for pose in poses])
        self._rotations = np.array([pose.rotation.as_matrix() for pose in poses])

    def reset(self) -> None:
        """Forget the earlier images, as after a jump in time or on request."""
        self._remembered: deque[Query] = deque(maxlen=self.options.window)
        self._carried: Rows = np.empty(0, np.int64)

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
        similarities, rows = (found[0] for found in self.index.search(descriptor[None], _NEIGHBOURS))
        scores = self.background.standardise(descriptor, similarities)
        if self.options.sequence:
            scores = np.minimum(scores, _STRONGEST)
        query = Query(stamp_ns, descriptor, self._positions[rows], scores, odometry)

        tried = np.union1d(rows[:_HYPOTHESES], self._moved_on(odometry)) if self.options.sequence else rows
        own = dict(zip(rows.tolist(), scores.tolist(), strict=True))
        total = np.array([own.get(row, 0.0) for row in tried.tolist()])
        images = 1
        if self.options.sequence:
            hypotheses = Hypotheses(self._positions[tried], self._rotations[tried])
            earlier, used = support(
                hypotheses,
                stamp_ns,
                odometry,
                self._remembered,
                self.tolerance_m,
                self.options.top_speed_mps,
                self._elsewhere_m,  # reach beyond it cannot tell the answer from its rivals
            )
            total += earlier
            images += used
        mean = total / images
        similar = self.map.descriptors[tried] @ descriptor
        order = np.lexsort((-similar, -mean))
        self._carried = tried[order[:_CARRIED]]
        self._remember(query)
        return self._estimate(stamp_ns, tried[order], mean[order], similar[order], images)

    def _moved_on(self, odometry: Pose | None) -> Rows:
        """The places nearest to where the last image's best places have come to by now."""
        last = self._remembered[-1] if self._remembered else None
        if last is None or not len(self._carried):
            return self._carried
        moved: npt.NDArray[np.float64] = np.zeros(3)
        if odometry is not None and last.odometry is not None:
            moved = (last.odometry.inverse() @ odometry).position
        now = self._positions[self._carried] + self._rotations[self._carried] @ moved
        gaps = np.linalg.norm(now[:, None] - self._positions[None], axis=-1)
        return gaps.argmin(axis=1)

    def _remember(self, query: Query) -> None:
        """Keep the image unless it is from the spot of the last one: seen twice it would be the same evidence twice."""
        last = self._remembered[-1] if self._remembered else None
        if last is None or self._has_moved(last, query):
            self._remembered.append(query)

    def _has_moved(self, last: Query, query: Query) -> bool:
        """By the odometry a keyframe spacing; without, by looking less alike than neighbouring places of the map do."""
        if last.odometry is not None and query.odometry is not None:
            return distance(last.odometry, query.odometry) >= self.map.spacing_m
        return float(last.descriptor @ query.descriptor) < self._alike

    def _estimate(
        self,
        stamp_ns: int,
        rows: Rows,
        scores: npt.NDArray[np.float64],
        similarities: npt.NDArray[np.float32],
        images: int,
    ) -> Estimate:
        gaps = np.linalg.norm(self._positions[rows] - self._positions[rows[0]], axis=1)
        rival = float(scores[gaps > self._elsewhere_m].max(initial=0.0))
        reason = decide(float(scores[0]), rival, images, self.options.acceptance, self.options.sequence)
        accepted = reason is RejectReason.NONE
        shown = rows[:_PUBLISHED]
        matches = tuple(
            Match(rank, int(row), float(similarity), float(score), float(belief), accepted and rank == 0)
            for rank, (row, similarity, score, belief) in enumerate(
                zip(shown, similarities, scores, softmax(_EVIDENCE * images * scores), strict=False)
            )
        )
        if not accepted:
            state = State.LOST if reason is RejectReason.NO_MATCH else State.CANDIDATE
            return Estimate(stamp_ns, state, reason, matches)
        covariance = place_covariance(self._positions[rows[gaps <= self.tolerance_m]], self.map.spacing_m)
        pose = self.map.base_pose(int(rows[0]), self.mount)
        return Estimate(stamp_ns, State.LOCALIZED, reason, matches, pose, covariance)
