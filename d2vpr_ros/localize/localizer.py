"""Image in, estimate out: the one object that the node, the offline evaluation and the tests drive."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from d2vpr_ros.describe import Extractor
from d2vpr_ros.geometry import Pose
from d2vpr_ros.images.frame import Frame
from d2vpr_ros.localize.agreement import Compared
from d2vpr_ros.localize.cameras import Cameras
from d2vpr_ros.localize.change_test import LOST
from d2vpr_ros.localize.covariance import answer_covariance, of_place
from d2vpr_ros.localize.doubt import Doubt
from d2vpr_ros.localize.estimate import Estimate, Match, RejectReason, State
from d2vpr_ros.localize.gps import chance, heeded
from d2vpr_ros.localize.judge import Judge, Judgement
from d2vpr_ros.localize.likelihood import Background, Likelihood
from d2vpr_ros.localize.options import DEFAULT_OPTIONS, LocalizerOptions
from d2vpr_ros.localize.reach import alike_m
from d2vpr_ros.localize.restart import Restart
from d2vpr_ros.localize.tracker import Observation, Standing, Tracker
from d2vpr_ros.mapping import PlaceMap, check_model
from d2vpr_ros.mapping.restriction import UNRESTRICTED, Restriction
from d2vpr_ros.mapping.search import LocalSearch, Search

if TYPE_CHECKING:
    from d2vpr_ros.bags.calibration import Calibration

log = logging.getLogger(__name__)

_NEIGHBOURS = 200  # candidates looked up for an image; all others count as ordinary
_PUBLISHED = 20
_INLIERS_FOR_ROTATION = 60  # with fewer, the place's own heading is as good (models/bench/verification.py)
_NO_IDEA = (RejectReason.NO_MATCH, RejectReason.OFF_MAP)


class Localizer:
    """Keeps the belief; everything else is given."""

    def __init__(
        self,
        place_map: PlaceMap,
        extractor: Extractor,
        options: LocalizerOptions = DEFAULT_OPTIONS,
        mount: Pose | None = None,
        search: Search | None = None,
    ) -> None:
        """
        Args:
            mount: T_base_cameraOptical of the robot's camera; None takes that of the camera the map was made with.
            search: where this map's places are looked up; None looks in memory.

        Raises:
            UserError: the map was made by another model.
        """
        check_model(place_map, extractor.identity)
        place_map.covariances  # noqa: B018  read now, not with the first answer
        self.map = place_map
        self.extractor = extractor
        self.options = options
        self.search = search or LocalSearch(place_map)
        self.alike_m = alike_m(place_map)
        self.background = Background.of(place_map.descriptors, place_map.positions, self.alike_m)
        # One by one: beside a large map there may be no room for a copy of it.
        neighbours = [float(place_map.descriptors[a] @ place_map.descriptors[b]) for a, b in place_map.steps]
        self._alike = float(np.median(neighbours)) if neighbours else 1.0
        self.judge = Judge(place_map, options)
        self._restart = Restart()
        self._likelihood = Likelihood.learned(
            self.background, place_map.descriptors, place_map.positions, place_map.steps
        )
        self.use_mount(mount)

    def use_mount(self, mount: Pose | None) -> None:
        """Where the robot's camera is on its base (T_base_cameraOptical), known from now on; starts anew."""
        self.use_mounts((mount,))

    def use_mounts(self, mounts: Sequence[Pose | None]) -> None:
        """The same for a robot with several cameras, by their numbers; that of each has to be known.

        Raises:
            UserError: several cameras, and a map without metres.
        """
        self.cameras = Cameras(self.map, mounts, self._alike)
        speed = self.options.top_speed_mps / (1.0 if self.map.header.metric else self.map.interval_s)
        states, sequence = self.cameras.states, self.options.sequence
        tracker = partial(Tracker, states, self._likelihood, self._alike, self.alike_m, speed, sequence=sequence)
        self._tracker, self._doubt = tracker(), Doubt(tracker, states)
        self.reset()

    @property
    def mount(self) -> Pose | None:
        """Of the only camera, or the first."""
        return self.cameras.mounts[0]

    def use_calibration(self, known: Calibration | None) -> None:
        """The robot's camera, whose images come next; None where not known."""
        if known is None:
            self.judge.agreement.use_camera(None, 0, 0)
        else:
            k = np.reshape(known.k, (3, 3))
            self.judge.agreement.use_camera(k, known.width, known.height, known.distortion_model, known.d)

    def reset(self) -> None:
        """Forget the earlier images, as after a jump in time or on request."""
        self._tracker.reset()
        self._doubt.reset()
        self.cameras.forget()
        self.judge.agreement.forget()
        self._restart.forget()
        self._localized = False

    def locate(self, frame: Frame, odometry: Pose | None = None, restriction: Restriction = UNRESTRICTED) -> Estimate:
        """Describe one image and say where the robot is.

        Args:
            odometry: T_odom_base at the frame's stamp, if the robot has any.
            restriction: the places that come into question, such as those about a GPS fix.

        Raises:
            UserError: the image is empty or not RGB.
        """
        return self.match(self.extractor.describe([frame.rgb])[0], frame.stamp_ns, odometry, restriction, frame.rgb)

    def match(
        self,
        descriptor: npt.NDArray[np.float32],
        stamp_ns: int,
        odometry: Pose | None = None,
        restriction: Restriction = UNRESTRICTED,
        rgb: npt.NDArray[np.uint8] | None = None,
        camera: int = 0,
    ) -> Estimate:
        """The answer to an image already described as (D,) float32 of unit length.

        Args:
            rgb: the image itself, to compare with its place's picture; without, it is not compared.
            camera: its number among the mounts.
        """
        if not np.isfinite(descriptor).all():  # nothing is learned from it
            self._localized = False
            return Estimate(stamp_ns, State.LOST, RejectReason.NO_MATCH, ())
        estimate = self._match(descriptor, stamp_ns, odometry, restriction, rgb, camera)
        if estimate.is_finite:
            return estimate
        log.error("an answer is not finite: the belief starts anew; please report this with the map")
        self.reset()
        return Estimate(stamp_ns, State.LOST, RejectReason.NO_MATCH, ())

    def _match(
        self,
        descriptor: npt.NDArray[np.float32],
        stamp_ns: int,
        odometry: Pose | None,
        restriction: Restriction,
        rgb: npt.NDArray[np.uint8] | None,
        camera: int,
    ) -> Estimate:
        restriction, odds_by_fix, far_fix_m = heeded(restriction, self.map.positions)
        similarities, rows = self.search.nearest(descriptor, _NEIGHBOURS, restriction)
        fix = restriction.region if restriction.measured else None
        best = self.map.positions[rows[0] if len(rows) else 0]
        scores = self.background.standardise(descriptor, similarities, best)
        if not self.map.header.metric:  # a step in metres says nothing about frames of a sequence
            odometry = None
        was_localized = self._localized and self.options.sequence  # else each image stands alone
        self._restart.begin(known=odometry is not None, localized=was_localized)
        if odometry is None:
            for one in (self._tracker, self._doubt, self.cameras):
                one.forget_odometry()
        seen = Observation(stamp_ns, descriptor, rows, scores, odometry, fix=fix)
        image, remembered = self.cameras.take(camera, seen)
        if not len(rows):
            if remembered:
                self._tracker.miss(image)
            self._localized = False
            return Estimate(stamp_ns, State.LOST, RejectReason.OFF_MAP, ())
        tracker = self._tracker if remembered else copy(self._tracker)
        believed = tracker.update(image)
        objection = self._doubt.last
        if remembered and self.options.sequence:
            self._restart.count(believed)
            chance_alone = partial(self.judge.alone, by_odometry=odometry is not None)
            objection = self._doubt.update(image, believed, chance_alone)
        newest = self._restart.heeded(believed) if objection is None else objection.standing
        standing, seeing = self.cameras.seen(camera, image, newest)
        judged = self.judge.judge(
            standing,
            descriptor,
            rgb if seeing == camera else None,  # else the map has no view of this camera's there to compare it with
            by_odometry=odometry is not None,
            localized=was_localized and not self._restart.now and objection is None,
            odds=odds_by_fix * self._restart.odds(standing),
            fix=fix,
        )
        carried = objection is not None and (objection.agreed or judged.reason is RejectReason.NONE)
        if carried:
            self._tracker = self._doubt.settled()
        elif objection is not None:
            standing, seeing = self.cameras.seen(camera, image, believed)
            by_fix = chance(fix, standing.position)
            reason = RejectReason.MOTION_CONTRADICTS if by_fix == 1 else RejectReason.GPS_CONTRADICTS
            judged = Judgement(judged.probability * objection.chance * by_fix, reason)
        accepted = judged.reason is RejectReason.NONE
        self._localized = accepted or judged.holds
        if was_localized and not self._localized and standing.left >= LOST:
            self._restart.leave()
        answer = Estimate(
            stamp_ns,
            State.LOST if judged.reason in _NO_IDEA else State.CANDIDATE,
            judged.reason,
            self._matches(standing, descriptor, judged.compared, accepted),
            judged.probability,
            standing,
            judged.agreement,
            camera=seeing,
            carried=carried,
            far_fix_m=far_fix_m,
        )
        if not accepted:
            return answer
        if not self.map.header.metric:
            return replace(answer, reject_reason=RejectReason.NO_METRES)
        rotation = self._rotation(standing, judged.compared, self.cameras.mounts[seeing])
        covariance = answer_covariance(
            standing.scatter,
            standing.images,
            self.alike_m,
            self.map.spacing_m,
            by_odometry=self.options.sequence and odometry is not None,
            place=of_place(self.map, standing.best, standing.position),
        )
        pose = Pose(standing.position, rotation.as_quat())
        return replace(answer, state=State.LOCALIZED, pose=pose, covariance=covariance)

    def _rotation(self, standing: Standing, compared: Compared | None, mount: Pose | None) -> Rotation:
        """Of T_map_base: as at the place, corrected by how the camera turned where many inliers tell that."""
        if compared is None or compared.rotation is None or compared.inliers < _INLIERS_FOR_ROTATION:
            return self.map.base_pose(standing.best, mount).rotation
        mount = mount or self.map.camera_table[int(self.map.cameras[compared.row])].mount
        return self.map.camera_pose(compared.row).rotation * compared.rotation * mount.rotation.inv()

    def _matches(
        self, standing: Standing, descriptor: npt.NDArray[np.float32], compared: Compared | None, accepted: bool
    ) -> tuple[Match, ...]:
        shown = standing.ranked[:_PUBLISHED]
        similar = self.map.descriptors[shown] @ descriptor
        return tuple(
            Match(
                rank,
                int(row),
                float(similarity),
                float(belief),
                accepted and rank == 0,
                compared.inliers if compared is not None and compared.row == row else 0,
            )
            for rank, (row, similarity, belief) in enumerate(zip(shown, similar, standing.beliefs, strict=False))
        )
