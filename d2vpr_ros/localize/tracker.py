"""Image after image: moves the belief along, measures it, and says where its mass stands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from d2vpr_ros.geometry import Pose, distance, turn
from d2vpr_ros.localize.belief import Belief, Places
from d2vpr_ros.localize.likelihood import Likelihood, softened
from d2vpr_ros.localize.measurement import look, weigh
from d2vpr_ros.localize.transition import move, spread_out

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

_WEIGHT = 0.5  # of an image a spacing further on: it is no independent evidence
_TURN_RAD = np.radians(40.0)  # shows as much new as a spacing
_STILL = 0.1  # share of a neighbour's change that camera noise makes: without odometry, less shows nothing new
_NEIGHBOURHOOD, _ELSEWHERE = 3.0, 6.0  # spacings; mass within the one is the answer's, beyond the other a rival's


@dataclass(frozen=True, eq=False)
class Observation:
    """One image as the belief sees it.

    Attributes:
        stamp_ns: of the image.
        descriptor: (D,) of unit length.
        candidates, scores: (C,) rows of the places most like it and their standardised similarities.
        odometry: T_odom_base at the stamp, or None.
        deviation_m: standard deviation of the odometry since the last image.
    """

    stamp_ns: int
    descriptor: npt.NDArray[np.float32]
    candidates: Rows
    scores: Array
    odometry: Pose | None
    deviation_m: float = 0.0


@dataclass(frozen=True, eq=False)
class Standing:
    """Where the mass stands after an image.

    Attributes:
        ranked: (R,) rows by falling mass; beliefs: (R,) their masses.
        best: the place the answer is made from, heaviest of the neighbourhood.
        mass: of the neighbourhood; rival: of the heaviest neighbourhood elsewhere; off_map: of being off the map.
        fit: mean standardised similarity of the images along the best way; images: how many they are.
        position: (3,) of the base, the neighbourhood's mean; scatter: (3, 3) its covariance, metres squared.
    """

    ranked: Rows
    beliefs: Array
    best: int
    mass: float
    rival: float
    off_map: float
    fit: float
    images: float
    position: Array
    scatter: Array


class Tracker:
    """Keeps the belief and the last image; everything else is given."""

    def __init__(
        self, places: Places, likelihood: Likelihood, alike: float, top_speed_mps: float, *, sequence: bool
    ) -> None:
        """
        Args:
            alike: similarity of neighbouring places, below which an image shows something new.
            top_speed_mps: bounds the motion where there is no odometry.
            sequence: without, every image stands alone.
        """
        self._places = places
        self._likelihood = likelihood
        self._alike = alike
        self._top_speed_mps = top_speed_mps
        self._sequence = sequence
        self.reset()

    def reset(self) -> None:
        """Forget everything, as after a jump in time or on request."""
        self.belief = Belief.nothing_known()
        self._last: Observation | None = None

    def update(self, image: Observation) -> Standing:
        """Take an image into account; where the mass stands then."""
        if not self._sequence:
            self.reset()
        predicted, new = self._predicted(image)
        scores = softened(image.scores) if self._sequence else image.scores
        by_odometry = image.odometry is not None
        evidence = look(predicted, self._places, image.candidates, scores, self._likelihood, by_odometry)
        # Remembered is only what is new, or a robot at a standstill would talk itself into certainty.
        self.belief = weigh(evidence, _WEIGHT * new, new)
        self._last = image
        return self._standing(weigh(evidence, _WEIGHT if by_odometry and self._sequence else 1.0, new))

    def _predicted(self, image: Observation) -> tuple[Belief, float]:
        """The belief at the image's time, and how much of the image is new: 0 to 1."""
        last = self._last
        if last is None:
            return self.belief, 1.0
        if last.odometry is not None and image.odometry is not None:
            step = last.odometry.inverse() @ image.odometry
            ways = distance(last.odometry, image.odometry) / self._places.spacing_m
            moved = min(1.0, max(ways, turn(last.odometry, image.odometry) / _TURN_RAD))
            return move(self.belief, self._places, step, moved, image.deviation_m), moved
        change = (1 - float(last.descriptor @ image.descriptor)) / max(1 - self._alike, 1e-6)
        new = float(np.clip((change - _STILL) / (1 - _STILL), 0.0, 1.0))
        if last.candidates[0] == image.candidates[0]:  # pictures of nothing differ, and all resemble the same place
            new = 0.0
        reach = self._top_speed_mps * abs(image.stamp_ns - last.stamp_ns) * 1e-9
        return spread_out(self.belief, self._places, reach, new), new

    def _standing(self, belief: Belief) -> Standing:
        places, order = self._places, np.argsort(-belief.log_mass, kind="stable")
        rows, log_mass = belief.rows[order], belief.log_mass[order]
        positions = places.positions[rows]
        gaps = _gaps(positions, 0) / places.spacing_m
        near, far = gaps <= _NEIGHBOURHOOD, gaps > _ELSEWHERE
        rival = 0.0
        if far.any():
            around = _gaps(positions, int(far.argmax())) / places.spacing_m <= _NEIGHBOURHOOD
            rival = float(np.exp(logsumexp(log_mass[around & far])))
        log_near = logsumexp(log_mass[near])
        share = np.exp(log_mass[near] - log_near)
        robot = (positions + belief.offsets[order])[near]
        position = share @ robot
        return Standing(
            ranked=rows,
            beliefs=np.exp(log_mass),
            best=int(rows[0]),
            mass=float(np.exp(log_near)),
            rival=rival,
            off_map=float(np.exp(belief.off_map)),
            fit=float(belief.mean_fit[order[0]]),
            images=float(belief.images[order[0]]),
            position=position,
            scatter=(robot - position).T @ ((robot - position) * share[:, None]),
        )


def _gaps(positions: Array, row: int) -> Array:
    """(A,) metres from one of the positions (A, 3) to each."""
    gaps: Array = np.linalg.norm(positions - positions[row], axis=1)
    return gaps
