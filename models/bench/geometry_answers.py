"""What the geometry says to one image alone, and the figures of its poses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

from d2vpr_ros.geometry import Array, Pose, optical_heading, turn
from d2vpr_ros.mapping import PlaceMap
from d2vpr_ros.multiview import PlaceGeometry, Sighting, View
from models.bench.geometry_scenes import Query, Scene

CANDIDATES = 8
WRONG_CANDIDATES = 3
ELSEWHERE_M = 15.0
OFF_M = 2.0  # a pose further off is wrong, whatever place it comes from
CONFIDENCE = 0.95
OTHER_CAMERA = 1  # a focal length that wrong places tell is not held for right ones


@dataclass(frozen=True, eq=False)
class Answer:
    """One image: its truth, and what was found.

    Attributes:
        truth: T_map_cameraOptical.
        sightings: of the groups among the first candidates, the first candidate's first.
        places: T_map_cameraOptical of each sighting's place.
        axes, near_m: as in `Scene`.
        far, foreign: of the groups of the best candidates among the map's places over 15 m away, and among another
            town's: inliers with a pose, 0 where there is none, and the error of that pose in metres (infinite). The far
            end of a street is seen from over 15 m away, too: such a pose may be right.
    """

    truth: Pose
    sightings: tuple[Sighting, ...]
    places: tuple[Pose, ...]
    axes: tuple[int, ...]
    near_m: float
    far: tuple[tuple[int, float], ...]
    foreign: tuple[tuple[int, float], ...]

    @property
    def chosen(self) -> Sighting | None:
        """The sighting with a pose that has the most inliers."""
        posed = [sighting for sighting in self.sightings if sighting.pose is not None]
        return max(posed, key=lambda sighting: sighting.inliers) if posed else None

    @property
    def right(self) -> tuple[bool, ...]:
        """Which sightings are of a place near the camera."""
        return tuple(error_m(place, self.truth, self.axes) <= self.near_m for place in self.places)


@dataclass(frozen=True)
class PoseFigures:
    """The poses of a set of images. Metres and degrees; NaN where there is nothing to count.

    Attributes:
        answered: share of images with a pose.
        median_m, most_m: of the position error of those, 50 and 95 %.
        turn_deg: median; of the heading, or of the whole rotation where all three axes count.
        place_m, place_deg: medians of the first candidate's own pose, over all images.
        inside: share of truths inside the ellipse of 95 %.
        axis_ratio: median larger semi-axis of that ellipse over the median error.
    """

    images: int
    answered: float
    median_m: float
    most_m: float
    turn_deg: float
    place_m: float
    place_deg: float
    inside: float
    axis_ratio: float


def ask(geometry: PlaceGeometry, query: Query, scene: Scene, foreign: PlaceGeometry | None = None) -> Answer:
    """Ask a map about an image, and a map of elsewhere."""
    place_map, view = geometry.map, geometry.view(query.rgb, query.lens)
    best = best_rows(place_map, query)
    away = np.linalg.norm((place_map.positions[best] - query.truth.position)[:, scene.axes], axis=1)
    sightings = geometry.sightings(view, best[:CANDIDATES].tolist())
    return Answer(
        query.truth,
        sightings,
        tuple(place_map.camera_pose(sighting.row) for sighting in sightings),
        scene.axes,
        scene.near_m,
        tuple(off(one, query.truth, scene.axes) for one in rivals(geometry, view, best[away > ELSEWHERE_M])),
        ()
        if foreign is None
        else tuple((posed_inliers(one), np.inf) for one in rivals(foreign, view, best_rows(foreign.map, query))),
    )


def rivals(geometry: PlaceGeometry, view: View, rows: npt.NDArray[np.int64]) -> tuple[Sighting, ...]:
    """What the first of some candidates, none of them right, say."""
    return geometry.sightings(view, rows[:WRONG_CANDIDATES].tolist(), camera=OTHER_CAMERA)


def off(sighting: Sighting, truth: Pose, axes: Sequence[int]) -> tuple[int, float]:
    """Inliers with a pose, and how far that is off."""
    return posed_inliers(sighting), np.inf if sighting.pose is None else error_m(sighting.pose, truth, axes)


def best_rows(place_map: PlaceMap, query: Query) -> npt.NDArray[np.int64]:
    """All rows of the map, the most alike first."""
    return np.argsort(-(place_map.descriptors @ query.descriptor), kind="stable")


def posed_inliers(sighting: Sighting) -> int:
    return 0 if sighting.pose is None else sighting.inliers


def error_m(a: Pose, b: Pose, axes: Sequence[int]) -> float:
    """Between two positions, in some of their axes."""
    return float(np.linalg.norm((a.position - b.position)[list(axes)]))


def turn_deg(a: Pose, b: Pose, axes: Sequence[int]) -> float:
    """Between two headings; between whole rotations where all three axes count, or a camera looks up."""
    headings = optical_heading(a), optical_heading(b)
    if len(axes) == 3 or headings[0] is None or headings[1] is None:
        return float(np.degrees(turn(a, b)))
    return float(np.degrees(abs(np.angle(np.exp(1j * (headings[0] - headings[1]))))))


def ellipse(sighting: Sighting, truth: Pose, axes: Sequence[int]) -> tuple[bool, float]:
    """Whether the truth lies in the ellipse of 95 %, and that ellipse's larger semi-axis in metres."""
    assert sighting.pose is not None and sighting.covariance is not None
    at = list(axes)
    covariance = sighting.covariance[np.ix_(at, at)]
    off = (sighting.pose.position - truth.position)[at]
    limit = float(chi2.ppf(CONFIDENCE, len(at)))
    inside = float(off @ np.linalg.solve(covariance, off)) <= limit
    return inside, float(np.sqrt(limit * np.linalg.eigvalsh(covariance)[-1]))


def pose_figures(answers: Sequence[Answer]) -> PoseFigures:
    """The figures of issue 14's table, one image alone."""
    posed = [(one, found, found.pose) for one in answers if (found := one.chosen) is not None and found.pose]
    errors = [error_m(pose, one.truth, one.axes) for one, _, pose in posed]
    ellipses = np.array([ellipse(found, one.truth, one.axes) for one, found, _ in posed]).reshape(-1, 2)
    return PoseFigures(
        len(answers),
        len(posed) / max(1, len(answers)),
        quantile(errors, 0.5),
        quantile(errors, 0.95),
        quantile([turn_deg(pose, one.truth, one.axes) for one, _, pose in posed], 0.5),
        quantile([error_m(one.places[0], one.truth, one.axes) for one in answers], 0.5),
        quantile([turn_deg(one.places[0], one.truth, one.axes) for one in answers], 0.5),
        float(ellipses[:, 0].mean()) if len(posed) else np.nan,
        quantile(ellipses[:, 1], 0.5) / quantile(errors, 0.5),
    )


def count_within(answers: Sequence[Answer], limit_m: float) -> int:
    """How many images are answered with a pose this near to the truth."""
    poses = [(one, one.chosen) for one in answers]
    return sum(
        found is not None and found.pose is not None and error_m(found.pose, one.truth, one.axes) <= limit_m
        for one, found in poses
    )


def right_inliers(answers: Sequence[Answer]) -> list[int]:
    """Inliers with a pose, 0 where there is none, of the first right group of each image that has one."""
    return [posed_inliers(one.sightings[one.right.index(True)]) for one in answers if True in one.right]


def quantile(values: Sequence[float] | Array, share: float) -> float:
    return float(np.quantile(values, share)) if len(values) else float("nan")
