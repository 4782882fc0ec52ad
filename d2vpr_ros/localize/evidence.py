"""What an image says of a place, as log-likelihood ratios: of its descriptor, and of the inliers of its landmarks.

Each ratio has one meaning: *the image was taken at this place* against *the best that everything else would show by
chance*. What is measured of the map (how far places look alike, how similar neighbours are) is learned from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from d2vpr_ros.localize.params import LocalizerParams
from d2vpr_ros.mapping import PlaceMap
from d2vpr_ros.multiview.place_geometry import Sighting

Array = npt.NDArray[np.float64]

QUALITIES = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
"""Of an image at its own place: 1 under the map's own light, 0 if nothing can be recognised."""

_SCALES = (1.0, 8.0)
_PAIRS, _SAMPLE = 500, 1000
_OWN = 2.0  # distances over which places look alike; so far about a place is its own neighbourhood
_AS_IF = 10.0  # places that the spread over all of them counts as, beside those elsewhere


@dataclass(frozen=True, eq=False)
class Background:
    """How similar an image is to places elsewhere: what makes its similarity to one place stand out.

    Attributes:
        sample: (M, D) float32 descriptors spread evenly over the map.
        positions: (M, 3) metres, of their places.
        own_m: so far about a place lie those that look like it; they are no background for it.
    """

    sample: npt.NDArray[np.float32]
    positions: Array
    own_m: float

    @staticmethod
    def of(descriptors: npt.NDArray[np.float32], positions: Array, alike_m: float) -> Background:
        """Of a map with (N, D) descriptors at (N, 3) positions that look alike over `alike_m` metres."""
        every = max(1, len(descriptors) // _SAMPLE)
        sample, where = np.ascontiguousarray(descriptors[::every]), np.ascontiguousarray(positions[::every])
        return Background(sample, where, _OWN * alike_m)  # side by side in memory: read for every image

    def of_image(self, descriptor: npt.NDArray[np.float32], position: Array) -> tuple[float, float]:
        """Mean and standard deviation of an image's similarity to the places elsewhere: what makes z-scores of it.

        Light and weather change all similarities of a query alike; this takes that out. Without its own neighbourhood
        a place stands out as much in a map of forty places as in a large one. Where hardly a place of the map is
        elsewhere, all of them are the measure.

        Args:
            position: (3,) of the place most like it; elsewhere is what lies further off than its own neighbourhood.
        """
        # Not by @: for so little its library starts threads that then spin beside the network's for milliseconds.
        ordinary = np.einsum("md,d->m", self.sample, descriptor).astype(np.float64)
        elsewhere = ordinary[np.linalg.norm(self.positions - position, axis=1) > self.own_m]
        mean, spread = ordinary.mean(), ordinary.var()
        if len(elsewhere):
            share = len(elsewhere) / (len(elsewhere) + _AS_IF)
            mean = share * elsewhere.mean() + (1 - share) * mean
            spread = share * elsewhere.var() + (1 - share) * spread
        return float(mean), max(float(np.sqrt(spread)), 1e-6)


@dataclass(frozen=True)
class Likelihood:
    """Attributes:
    scale: standardised similarity of places that see each other, learned from the map.

    At a wrong place the standardised similarity is about normal, N(0, 1). At the right one it is N(q * scale, 1),
    where the image's quality q is 1 under the map's own light and 0 if nothing can be recognised. Since nobody knows
    q, all are equally likely: an image that resembles nothing then says little against any place.
    """

    scale: float

    @staticmethod
    def learned(
        background: Background, descriptors: npt.NDArray[np.float32], positions: Array, steps: npt.NDArray[np.int64]
    ) -> Likelihood:
        """From the neighbours in a map: (N, D) descriptors at (N, 3), (M, 2) rows that follow each other in a drive."""
        if len(steps) == 0:
            return Likelihood(_SCALES[0])
        alike = []
        for before, after in steps[:: max(1, len(steps) // _PAIRS)]:
            mean, deviation = background.of_image(descriptors[before], positions[before])
            alike.append((float(descriptors[after] @ descriptors[before]) - mean) / deviation)
        return Likelihood(float(np.clip(np.median(alike), *_SCALES)))

    def log_ratio(self, scores: Array) -> Array:
        """(...) standardised similarities -> log of p(score | there) / p(score | not there)."""
        means = QUALITIES * self.scale
        terms = means * np.asarray(scores, np.float64)[..., None] - means**2 / 2
        ratio: Array = np.logaddexp.reduce(terms, axis=-1) - np.log(len(means))
        return ratio


_LAGS = 60
_LAG_SAMPLE = 300


def alike_m(place_map: PlaceMap) -> float:
    """Metres along the map's drives over which similarity falls to half of what it is between neighbours.

    Similarity is counted above the mean between any two places. Never less than the spacing; a map in which it does
    not fall that far gives the longest distance looked at.
    """
    steps = place_map.steps
    if len(steps) == 0:
        return place_map.spacing_m
    following = np.full(len(place_map), -1, np.int64)
    following[steps[:, 0]] = steps[:, 1]
    start = steps[:: max(1, len(steps) // _LAG_SAMPLE), 0]
    sample = place_map.descriptors[:: max(1, len(place_map) // _LAG_SAMPLE)]
    ordinary = float((place_map.descriptors[start] @ sample.T).mean())
    at: npt.NDArray[np.int64] = start.copy()
    gone: npt.NDArray[np.float64] = np.zeros(len(start))
    first, reached = np.nan, 0.0
    for _ in range(_LAGS):
        onward = following[at]
        goes_on = onward >= 0
        start, at, gone, onward = start[goes_on], at[goes_on], gone[goes_on], onward[goes_on]
        if len(start) == 0:
            break
        gone = gone + np.linalg.norm(place_map.positions[onward] - place_map.positions[at], axis=1)
        at = onward
        alike = float((place_map.descriptors[start] * place_map.descriptors[at]).sum(axis=1).mean()) - ordinary
        first = alike if np.isnan(first) else first
        reached = float(np.median(gone))
        if alike < first / 2:
            break
    return max(place_map.spacing_m, reached)


def pose_ratio(inliers: int, share: float, spread: float, residual_px: float, params: LocalizerParams) -> float:
    """Log-likelihood ratio of a pose found with the landmarks of a place: at that place against elsewhere.

    Elsewhere few images give a pose. What they give has few inliers, all in one part of the picture, far from where
    they should be, among many landmarks that are missing. No pose says less than none.

    Args:
        inliers, share, spread, residual_px: of the pose, as in `multiview.place_geometry.Sighting`.
    """
    features = (np.log(inliers), np.log(share), spread, residual_px, 1.0)
    weights = (params.pose_inliers, params.pose_share, params.pose_spread, params.pose_residual, params.pose_offset)
    return float(np.clip(np.dot(features, weights), params.absent_ratio, params.most_pose_ratio))


@dataclass(frozen=True)
class Evidence:
    """What images say of the places of one map.

    Attributes:
        background: how similar an image is to places elsewhere.
        likelihood: of z-scores.
        by_chance: z-score of the place most like an image where none is the right one: the largest of so many from
            N(0, 1), about.
    """

    background: Background
    likelihood: Likelihood
    by_chance: float
    params: LocalizerParams

    @staticmethod
    def of(place_map: PlaceMap, alike_m: float, params: LocalizerParams) -> Evidence:
        """Learned from a map."""
        descriptors, positions = place_map.descriptors, place_map.positions
        background = Background.of(descriptors, positions, alike_m)
        likelihood = Likelihood.learned(background, descriptors, positions, place_map.steps)
        return Evidence(background, likelihood, float(np.sqrt(2 * np.log(max(len(place_map), 2)))), params)

    def scores(self, similarities: npt.NDArray[np.float32], ordinary: tuple[float, float]) -> Array:
        """Similarities to places as z-scores, by `Background.of_image`."""
        scores = (similarities.astype(np.float64) - ordinary[0]) / ordinary[1]
        most, slope = self.params.soft_from, self.params.soft_slope
        return np.where(scores > most, most + slope * (scores - most), scores)

    def likeness(self, scores: Array) -> Array:
        """Log-likelihood ratios of the place itself against one that looks like it, where scores chose the place."""
        return self._likeness(scores, self.params.likeness_from)

    def likeness_held(self, scores: Array) -> Array:
        """The same of places where earlier images and motion expect the robot: no best of many."""
        return self._likeness(scores, self.params.likeness_held_from)

    def _likeness(self, scores: Array, least: float) -> Array:
        most = self.params.most_likeness
        return np.asarray(np.clip(self.params.likeness * (scores - self.by_chance - least), -most, most))

    def of_pose(self, sighting: Sighting) -> float:
        """Log-likelihood ratio of the pose of a sighting at the place of the image, against elsewhere."""
        return pose_ratio(sighting.inliers, sighting.share, sighting.spread, sighting.residual_px, self.params)

    def of_pictures(self, inliers: int) -> float:
        """The same of two pictures without a pose, as in a map without metres, where look-alike places share more."""
        return float(np.interp(np.log(max(inliers, 1)), np.log(_SHARED), _SHARED_RATIO))


_SHARED = (14.0, 20.0, 30.0, 40.0, 55.0, 80.0, 120.0)
_SHARED_RATIO = (-1.2, -0.7, -0.1, 0.3, 1.5, 2.9, 4.5)
