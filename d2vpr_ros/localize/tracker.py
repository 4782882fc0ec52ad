"""Image after image: moves the belief along, measures it, and says where its mass stands."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from d2vpr_ros.fields import NANOSECONDS
from d2vpr_ros.geometry import Pose, distance, turn
from d2vpr_ros.localize.belief import Belief, Places
from d2vpr_ros.localize.change_test import has_left
from d2vpr_ros.localize.likelihood import Likelihood, softened
from d2vpr_ros.localize.measurement import Evidence, look, weigh, without_image, without_light
from d2vpr_ros.localize.transition import SHORTEST_S, coast, move
from d2vpr_ros.mapping.restriction import Region

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

_WEIGHT = 0.5  # of an image a spacing further on: it is no independent evidence
_WEIGHT_BY_SIGHT = 1.0  # of one that counts, where there is no odometry
_TURN_RAD = np.radians(40.0)  # shows as much new as a spacing
_NEWS = 0.3  # share of a neighbour's change from which an image counts where there is no odometry
_CALMS = 0.9  # share of the fastest that the odometry said, which is still expected an image later
_NEIGHBOURHOOD, _ELSEWHERE = 3.0, 6.0  # spacings; mass within the one is the answer's, beyond the other a rival's
_NEAREST = 1.2  # spacings; at least so far the answer's position is averaged


@dataclass(frozen=True, eq=False)
class Observation:
    """One image as the belief sees it.

    Attributes:
        stamp_ns: of the image.
        descriptor: (D,) of unit length.
        candidates, scores: (C,) rows of the places most like it and their standardised similarities.
        odometry: T_odom_base at the stamp, or None.
        deviation_m: standard deviation of the odometry since the last image.
        fix: where a receiver says that the robot was; None without one that says how exactly.
    """

    stamp_ns: int
    descriptor: npt.NDArray[np.float32]
    candidates: Rows
    scores: Array
    odometry: Pose | None
    deviation_m: float = 0.0
    fix: Region | None = None


@dataclass(frozen=True, eq=False)
class Standing:
    """Where the mass stands after an image.

    Attributes:
        ranked: (R,) rows by falling mass; beliefs: (R,) their masses.
        best: the place the answer is made from, heaviest of the neighbourhood.
        mass: of the neighbourhood; rival: of the heaviest neighbourhood elsewhere; off_map: of being off the map.
        fit: mean standardised similarity of the images along the best way; images: how many they are.
        similar: of this image to the best place; new: how much of an image it is, 0 to 1.
        position: (3,) of the base, mean over the nearest of the neighbourhood.
        scatter: (3, 3) of the whole neighbourhood's mass around it, metres squared.
        left: chance that the robot has left the way of these images, by the newest of them (`change_test`).
    """

    ranked: Rows
    beliefs: Array
    best: int
    mass: float
    rival: float
    off_map: float
    fit: float
    images: float
    similar: float
    new: float
    position: Array
    scatter: Array
    left: float = 0.0


@dataclass(frozen=True, eq=False)
class _Step:
    """How the belief comes to the next image.

    Attributes:
        belief: at its time.
        weight: of the image as evidence to remember.
        new: how much of an image it is for the history, 0 to 1.
        counts: whether anything of it is remembered.
        unmoved: as `change_test.follow` has it.
    """

    belief: Belief
    weight: float
    new: float
    counts: bool = True
    unmoved: float = 0.0


class Tracker:
    """Keeps the belief and the last image; everything else is given."""

    def __init__(
        self,
        places: Places,
        likelihood: Likelihood,
        alike: float,
        alike_m: float,
        top_speed_mps: float,
        *,
        sequence: bool,
    ) -> None:
        """
        Args:
            alike: similarity of neighbouring places, below which an image shows something new.
            alike_m: how far along a drive places look alike (`reach.alike_m`).
            top_speed_mps: bounds the motion where there is no odometry.
            sequence: without, every image stands alone.
        """
        self._places = places
        self._likelihood = likelihood
        self._alike = alike
        # Where places stand far apart an image tells which is the nearest, and the others only pull the answer away.
        self._averaged_m = float(np.clip(alike_m / 2, _NEAREST * places.spacing_m, _NEIGHBOURHOOD * places.spacing_m))
        self._top_speed_mps = top_speed_mps
        self._sequence = sequence
        self.reset()

    def reset(self) -> None:
        """Forget everything, as after a jump in time or on request."""
        self.belief = Belief.nothing_known()
        self._last: Observation | None = None
        self._speed_mps = 0.0

    def forget_odometry(self) -> None:
        """What it says next does not go on from what it said before."""
        if self._last is not None:
            self._last = replace(self._last, odometry=None)

    def update(self, image: Observation) -> Standing:
        """Take an image into account; where the mass stands then."""
        if not self._sequence:
            self.reset()
        step = self._step(image)
        scores = softened(image.scores) if self._sequence else image.scores
        evidence = look(
            step.belief, self._places, image.candidates, scores, self._likelihood, self._sequence, image.fix,
            by_odometry=image.odometry is not None,
            unmoved=step.unmoved,
        )  # fmt: skip
        weight = _WEIGHT if image.odometry is not None and self._sequence else 1.0  # for this answer
        shown = weigh(evidence, weight, step.new)
        # Remembered is only what is new, or a robot at a standstill would talk itself into certainty.
        if step.counts:
            remembered = shown if step.weight == weight else weigh(evidence, step.weight, step.new)
            self.belief = without_light(remembered)
            self._last = image
        return self._standing(shown, evidence, step.new)

    def miss(self, image: Observation) -> None:
        """Take an image into account that no place comes into question for.

        Without a fix that says so nothing changes: the next image goes on from the last one that was looked at.
        """
        if image.fix is None or not self._sequence:
            return
        step = self._step(image)
        if step.counts:
            evidence = without_image(step.belief, self._places, image.fix)
            self.belief = without_light(weigh(evidence, step.weight, step.new))
            self._last = image

    def _step(self, image: Observation) -> _Step:
        """From the last image that counted to this one."""
        last = self._last
        if last is None:
            return _Step(self.belief, _WEIGHT, 1.0)
        seconds = max(abs(image.stamp_ns - last.stamp_ns) / NANOSECONDS, SHORTEST_S)
        if last.odometry is not None and image.odometry is not None:
            motion = last.odometry.inverse() @ image.odometry
            ways = distance(last.odometry, image.odometry) / self._places.spacing_m
            self._speed_mps = max(distance(last.odometry, image.odometry) / seconds, _CALMS * self._speed_mps)
            moved = min(1.0, max(ways, turn(last.odometry, image.odometry) / _TURN_RAD))
            belief = move(self.belief, self._places, motion, moved, image.deviation_m)
            return _Step(belief, _WEIGHT * moved, moved)
        # Odometry that was there till now knows better than a parameter how fast this robot goes.
        fastest_mps = max(self._top_speed_mps, self._speed_mps)
        change = (1 - float(last.descriptor @ image.descriptor)) / max(1 - self._alike, 1e-6)
        if change < _NEWS:
            return _Step(self.belief, 0.0, 0.0, counts=False)
        # Pictures of nothing differ, too, but all resemble the same place: such ones are no more than one image.
        other = last.candidates[:1].tolist() != image.candidates[:1].tolist()
        belief = coast(self.belief, self._places, seconds, fastest_mps)
        return _Step(belief, _WEIGHT_BY_SIGHT, float(other), unmoved=0.0 if other else min(change, 1.0))

    def _standing(self, belief: Belief, evidence: Evidence, new: float) -> Standing:
        places, order = self._places, np.argsort(-belief.log_mass, kind="stable")
        rows, log_mass = belief.rows[order], belief.log_mass[order]
        positions = places.positions[rows]
        gaps = _gaps(positions, 0) / places.spacing_m
        near, far = gaps <= _NEIGHBOURHOOD, gaps > _ELSEWHERE
        rival = 0.0
        if far.any():
            around = _gaps(positions, int(far.argmax())) / places.spacing_m <= _NEIGHBOURHOOD
            rival = float(np.exp(np.logaddexp.reduce(log_mass[around & far])))
        log_near = np.logaddexp.reduce(log_mass[near])
        share = np.exp(log_mass[near] - log_near)
        robot = (positions + belief.offsets[order])[near]
        averaged = np.where(gaps[near] * places.spacing_m <= self._averaged_m, share, 0.0)
        position = averaged @ robot / averaged.sum()
        return Standing(
            ranked=rows,
            beliefs=np.exp(log_mass),
            best=int(rows[0]),
            mass=float(np.exp(log_near)),
            rival=rival,
            off_map=float(np.exp(belief.off_map)),
            fit=float(belief.mean_fit[order[0]]),
            images=float(belief.images[order[0]]),
            left=has_left(float(belief.chances[order[0], 0]), by_odometry=evidence.by_odometry),
            similar=float(evidence.similar[evidence.belief.rows == rows[0]][0]),
            new=new,
            position=position,
            scatter=(robot - position).T @ ((robot - position) * share[:, None]),
        )


def _gaps(positions: Array, row: int) -> Array:
    """(A,) metres from one of the positions (A, 3) to each."""
    gaps: Array = np.linalg.norm(positions - positions[row], axis=1)
    return gaps
