"""Image in, estimate out: predict, observe, decide, report. The one object that everything drives."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from d2vpr_ros.bags.covariance import moved as at_arm
from d2vpr_ros.describe import Extractor
from d2vpr_ros.fields import NANOSECONDS
from d2vpr_ros.geometry import Pose, distance, turn
from d2vpr_ros.images.frame import Frame
from d2vpr_ros.localize import decision
from d2vpr_ros.localize.belief import Hypotheses, Places, anywhere, nothing_known, tidied
from d2vpr_ros.localize.cameras import Cameras
from d2vpr_ros.localize.evidence import Evidence, alike_m
from d2vpr_ros.localize.filter import Candidates, Resembles, begin, drifted, moved, nearby, weigh_places
from d2vpr_ros.localize.gps import heeded, log_likelihood
from d2vpr_ros.localize.params import DEFAULT_PARAMS, LocalizerParams
from d2vpr_ros.localize.proving import Query, prove
from d2vpr_ros.localize.types import (
    DEFAULT_OPTIONS,
    Estimate,
    LocalizerOptions,
    Match,
    RejectReason,
    State,
    Verify,
)
from d2vpr_ros.mapping import PlaceMap, check_model
from d2vpr_ros.mapping.restriction import UNRESTRICTED, Region, Restriction
from d2vpr_ros.mapping.search import LocalSearch, Search
from d2vpr_ros.multiview.lens import Lens, camera_lens
from d2vpr_ros.multiview.neighbourhood import Neighbourhood
from d2vpr_ros.multiview.place_geometry import PlaceGeometry, Sighting, open_geometry

if TYPE_CHECKING:
    from d2vpr_ros.bags.calibration import Calibration

log = logging.getLogger(__name__)

_PUBLISHED = 20
_NO_IDEA = (RejectReason.NO_MATCH, RejectReason.OFF_MAP)
_SHORTEST_S = 1e-3  # between two images
_CALMS = 0.9  # share of the fastest that odometry and answers told, which is expected an image later


@dataclass(frozen=True, eq=False)
class Image:
    """Attributes:
    stamp_ns, descriptor, camera, odometry: as `Localizer.match` has them.
    nearest: row of the place most like it; None where no place came into question.
    ordinary: mean and deviation of its similarity to places elsewhere.
    """

    stamp_ns: int
    descriptor: npt.NDArray[np.float32]
    camera: int
    odometry: Pose | None
    nearest: int | None
    ordinary: tuple[float, float]


class Localizer:
    """Keeps the belief; everything else is given.

    Attributes:
        belief: after the last image.
        calibration: of the map's probabilities.
    """

    def __init__(
        self,
        place_map: PlaceMap,
        extractor: Extractor,
        options: LocalizerOptions = DEFAULT_OPTIONS,
        mount: Pose | None = None,
        search: Search | None = None,
        geometry: PlaceGeometry | None = None,
        params: LocalizerParams = DEFAULT_PARAMS,
    ) -> None:
        """
        Args:
            mount: T_base_cameraOptical of the robot's camera; None takes that of the camera the map was made with.
            search: where this map's places are looked up; None looks in memory.
            geometry: of the map, where there is one already; None opens one when the first image is compared.

        Raises:
            UserError: the map was made by another model.
        """
        check_model(place_map, extractor.identity)
        place_map.covariances  # noqa: B018  read now, not with the first answer
        self.map, self.extractor, self.options, self.params = place_map, extractor, options, params
        self.search = search or LocalSearch(place_map)
        self.calibration = decision.Calibration.of_map(place_map.header.calibrations)
        self._geometry = geometry
        self.alike_m = alike_m(place_map)
        self.spacing_m = max(place_map.spacing_m, params.least_spacing_m)
        self.evidence = Evidence.of(place_map, self.alike_m, params)
        # One by one: beside a large map there may be no room for a copy of it.
        neighbours = [float(place_map.descriptors[a] @ place_map.descriptors[b]) for a, b in place_map.steps]
        self._changes = max(1 - (float(np.median(neighbours)) if neighbours else 1.0), 1e-6)
        self._around = Neighbourhood(place_map)
        self._lenses: dict[int, Lens | None] = {}
        self.use_mount(mount)

    @cached_property
    def geometry(self) -> PlaceGeometry | None:
        """Compares images with the map's landmarks; None where the map has no pictures, or where none is wanted."""
        if self.options.verify is Verify.NEVER or not self.map.picture_sizes().any():
            return None
        return self._geometry or open_geometry(self.map)

    def use_mount(self, mount: Pose | None) -> None:
        """Where the robot's camera is on its base (T_base_cameraOptical), known from now on; starts anew."""
        self.use_mounts((mount,))

    def use_mounts(self, mounts: Sequence[Pose | None]) -> None:
        """The same for a robot with several cameras, by their numbers; that of each has to be known.

        Raises:
            UserError: several cameras, and a map without metres.
        """
        self.cameras = Cameras(self.map, mounts)
        params = self.params
        sigma_m = max(params.place_sigma * self.alike_m, params.place_sigma_spacings * self.spacing_m)
        reach_m, turn_rad = params.reach_spacings * self.spacing_m, np.radians(params.place_turn_deg)
        self._places = [Places.of(*bases, sigma_m, turn_rad, reach_m) for bases in self.cameras.bases]
        self.reset()

    @property
    def mount(self) -> Pose | None:
        """Of the only camera, or the first."""
        return self.cameras.mounts[0]

    def use_calibration(self, known: Calibration | None, camera: int = 0) -> None:
        """The intrinsics of one of the robot's cameras; None where not known."""
        self._lenses[camera] = camera_lens(known)

    def reset(self) -> None:
        """Forget the earlier images, as after a jump in time or on request."""
        self.belief = nothing_known(self.options.off_map_prior)
        self._last: Image | None = None
        self._last_of: dict[int, Image] = {}
        self._since_compared = 1.0
        self._next_id = 0
        self._held: int | None = None  # hypothesis of the last image's answer
        self._answered: int | None = None  # and of the last answer
        self._speed_mps = 0.0
        self._velocity = np.zeros(3)  # of the base, in its own frame, metres a second
        self._led_to: tuple[Hypotheses, float] | None = None

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
            rgb: the image itself, to compare with the map's landmarks; without, it is not compared.
            camera: its number among the mounts.
        """
        if not np.isfinite(descriptor).all():  # nothing is learned from it
            self._held = None
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
        similarities, rows = self.search.nearest(descriptor, self.params.candidates, restriction)
        if not self.map.header.metric:  # a step in metres says nothing about frames of a sequence
            odometry = None
        if not self.options.sequence:
            self.reset()
        nearest = int(rows[0]) if len(rows) else None
        ordinary = self.evidence.background.of_image(descriptor, self.map.positions[nearest or 0])
        image = Image(stamp_ns, descriptor, camera, odometry, nearest, ordinary)
        before = self._last_of.get(camera)
        new = self._predict(image)
        fix = restriction.region if restriction.measured else None
        if new > 0:
            witnessed = self.map.header.metric and rgb is not None and self.geometry is not None
            fresh = odometry is not None or before is None or before.nearest != nearest
            self._observe(image, rows, similarities, new, fix, fresh=fresh, witnessed=witnessed)
        if not len(rows):
            self._held = None
            if not len(self.belief.of):
                self._last_of.clear()  # nothing came of the image: the next is a whole one, even from the same spot
            return Estimate(stamp_ns, State.LOST, RejectReason.OFF_MAP, ())
        self._since_compared += new
        seen = self._compare(image, rgb) if rgb is not None and self._is_worth_comparing() else {}
        self._learn_velocity()
        return replace(self._report(image, seen, odds_by_fix, fix), far_fix_m=far_fix_m)

    def _predict(self, image: Image) -> float:
        """Move the belief to the image's time, unless it shows nothing new; returns how new it is, 0 to 1.

        An image that shows as much new as the next place would is a whole one; cameras share the evidence of one, for
        pictures taken at one spot are not independent.
        """
        params, last, before = self.params, self._last, self._last_of.get(image.camera)
        belief, new, hazard = self.belief, 1.0, 0.0
        self._led_to = None
        if last is not None and last.odometry is not None and image.odometry is not None:
            motion = last.odometry.inverse() @ image.odometry
            self._learn_speed(distance(last.odometry, image.odometry), image.stamp_ns - last.stamp_ns)
            if before is not None and before.odometry is not None:
                turned = np.degrees(turn(before.odometry, image.odometry)) / params.new_turn_deg
                new = min(1.0, max(distance(before.odometry, image.odometry) / self.spacing_m, turned))
            belief = replace(belief, of=moved(belief.of, motion, params))
            hazard = params.hazard * new
        elif last is not None:
            breaks = (last.odometry is None) != (image.odometry is None)
            change = 1.0 if before is None else (1 - float(before.descriptor @ image.descriptor)) / self._changes
            if change < params.least_change and not breaks:
                self._velocity[:] = 0.0  # the robot stands
                return 0.0
            new = min(1.0, change)
            seconds = max(abs(image.stamp_ns - last.stamp_ns) / NANOSECONDS, _SHORTEST_S)
            top_speed = self.options.top_speed_mps / (1.0 if self.map.header.metric else self.map.interval_s)
            speed = max(top_speed, self._speed_mps)
            belief = replace(belief, of=drifted(belief.of, self._velocity, seconds, speed, params))
            self._led_to = belief.of, seconds
            hazard = params.hazard_anew if breaks else params.hazard_by_sight * new
        self.belief = anywhere(belief, hazard)
        self._last = self._last_of[image.camera] = image
        return float(new) / len(self.cameras.mounts)

    def _observe(
        self,
        image: Image,
        rows: npt.NDArray[np.int64],
        similarities: npt.NDArray[np.float32],
        new: float,
        fix: Region | None,
        *,
        fresh: bool,
        witnessed: bool,
    ) -> None:
        """Weigh the hypotheses by descriptor and fix, and begin those of places that stand out."""
        places, evidence, belief = self._places[image.camera], self.evidence, self.belief
        of = belief.of
        if len(of):
            of = weigh_places(
                of,
                places,
                self._resembles(of, image),
                new,
                evidence.likeness_held,
                self.params,
                fresh=fresh,
                witnessed=witnessed,
            )
            if fix is not None:
                by_fix = new * log_likelihood(fix, of.positions)
                of = replace(of, log_mass=of.log_mass + by_fix, real=of.real + by_fix)
        scores = evidence.scores(similarities, image.ordinary)
        ratio = evidence.likelihood.log_ratio(scores)
        if fix is not None:
            ratio = ratio + log_likelihood(fix, places.positions[rows])
        candidates = Candidates(rows, scores, ratio, float(evidence.likelihood.log_ratio(np.zeros(()))))
        belief = replace(belief, of=of)
        belief = begin(belief, places, candidates, new, self._next_id, evidence.likeness, self.params)
        self._next_id += self.params.births
        self.belief = tidied(belief, places, self.params)

    def _resembles(self, of: Hypotheses, image: Image) -> Resembles:
        near = nearby(of, self._places[image.camera], self.params)
        rows, back = np.unique(near.rows, return_inverse=True)
        similarities = self.map.descriptors[rows] @ image.descriptor
        scores = self.evidence.scores(similarities, image.ordinary)[back].reshape(near.rows.shape)
        return Resembles(near, scores, self.evidence.likelihood.log_ratio(scores))

    def _is_worth_comparing(self) -> bool:
        if self.geometry is None or not len(self.belief.of):
            return False
        due = 0.0 if self._held is None else self.params.geometry_every
        return self.options.verify is Verify.ALWAYS or self._since_compared > due

    def _compare(self, image: Image, rgb: npt.NDArray[np.uint8]) -> Mapping[int, Sighting]:
        """Compare the image with the landmarks of the likeliest places."""
        assert self.geometry is not None
        query = Query(
            self.geometry.view(rgb, self._lenses.get(image.camera)),
            image.camera,
            self.cameras.mounts[image.camera],
            min(1.0, self._since_compared),
            image.odometry is None,
            lambda of: self._resembles(of, image),
        )
        places = self._places[image.camera]
        self.belief, seen = prove(self.belief, query, self.geometry, self.evidence, places, self._next_id)
        self._next_id += self.params.geometry_groups
        self._since_compared = 0.0
        return seen

    def _report(self, image: Image, seen: Mapping[int, Sighting], odds_by_fix: float, fix: Region | None) -> Estimate:
        of, places = self.belief.of, self._places[image.camera]
        summary, rows = decision.summarised(self.belief, places, self.spacing_m, self.params)
        by_fix = 0.0 if fix is None else float(log_likelihood(fix, summary.position[None])[0])
        chance = decision.probability(summary, self.calibration, odds_by_fix) * float(np.exp(by_fix))
        # The fix lowered the log-odds as well.
        without = decision.probability(replace(summary, real=summary.real - by_fix), self.calibration, odds_by_fix)
        reason = decision.decide(
            chance,
            summary,
            self.options.acceptance,
            held=self._held == summary.hypothesis,
            sequence=self.options.sequence,
            denied=bool(seen) and all(one.pose is None for one in seen.values()),
            by_fix=chance / max(without, 1e-300),
        )
        accepted = reason is RejectReason.NONE
        carried = accepted and self._answered not in (None, summary.hypothesis)
        self._held = summary.hypothesis if accepted else None
        self._answered = summary.hypothesis if accepted else self._answered
        answer = Estimate(
            image.stamp_ns,
            State.LOST if reason in _NO_IDEA else State.CANDIDATE,
            reason,
            self._matches(image, rows, seen, accepted=accepted),
            chance,
            summary,
            camera=image.camera,
            carried=carried,
        )
        if not accepted:
            return answer
        if not self.map.header.metric:
            return replace(answer, reject_reason=RejectReason.NO_METRES)
        best = int(np.flatnonzero(of.ids == summary.hypothesis)[0])
        pose = Pose(of.positions[best], Rotation.from_matrix(of.rotations[best]).as_quat())
        of_map = at_arm(self._around.noise(summary.best), pose.position - self.map.positions[summary.best])
        return replace(answer, state=State.LOCALIZED, pose=pose, covariance=of.covariances[best] + of_map)

    def _matches(
        self, image: Image, rows: npt.NDArray[np.int64], seen: Mapping[int, Sighting], *, accepted: bool
    ) -> tuple[Match, ...]:
        """The places of the likeliest hypotheses, each once."""
        masses = np.exp(self.belief.of.log_mass)
        beliefs: dict[int, float] = {}
        for number in np.argsort(-masses, kind="stable"):
            beliefs[int(rows[number])] = beliefs.get(int(rows[number]), 0.0) + float(masses[number])
        shown = list(beliefs)[:_PUBLISHED]
        similar = self.map.descriptors[shown] @ image.descriptor
        inliers = {row: one.inliers for first, one in seen.items() for row in (first, *one.rows)}
        return tuple(
            Match(rank, row, float(similar[rank]), min(beliefs[row], 1.0), accepted and rank == 0, inliers.get(row, 0))
            for rank, row in enumerate(shown)
        )

    def _learn_velocity(self) -> None:
        """By sight: by how far the image moved the heaviest hypothesis from where motion led (alpha-beta filter)."""
        of, led_to = self.belief.of, self._led_to
        if led_to is None or not len(of):
            return
        before, seconds = led_to
        best = int(np.argmax(of.log_mass))
        same = np.flatnonzero(before.ids == of.ids[best])
        if len(same) and of.log_mass[best] > np.log(0.5):
            change = of.rotations[best].T @ (of.positions[best] - before.positions[same[0]])
            self._velocity = self._velocity + self.params.velocity_gain * change / seconds
            self._speed_mps = max(float(np.linalg.norm(self._velocity)), _CALMS * self._speed_mps)

    def _learn_speed(self, metres: float, nanoseconds: int) -> None:
        """That bounds the motion where nothing is known of it, beside the parameter."""
        seconds = max(abs(nanoseconds) / NANOSECONDS, _SHORTEST_S)
        self._speed_mps = max(metres / seconds, _CALMS * self._speed_mps)
