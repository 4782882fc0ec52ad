"""Re-ranking candidates by inliers, and answering by one image alone: from counts alone, however they were made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from d2vpr_ros.describe import Extractor
from d2vpr_ros.describe.features import FeatureExtractor
from d2vpr_ros.images.decode import decode_compressed
from d2vpr_ros.mapping.picture import encode_picture
from d2vpr_ros.multiview import View, view_of
from d2vpr_ros.multiview.two_view import two_view_inliers
from d2vpr_ros.multiview.view import Picture
from models.bench.geometry_answers import CANDIDATES, ELSEWHERE_M, Answer, posed_inliers
from models.benchmarks import Benchmark
from models.data import read_rgb, tower_pictures

LOOK_ALIKE = ("floor3", "floor10", "floor16")
"""Floors that may be fitted on; those held out are reported only."""
PLACES_APART = 5


@dataclass(frozen=True, eq=False)
class Ranked:
    """The candidates of one image, the most alike first.

    Attributes:
        inliers: of each.
        right: which of them show its place.
        places: (N, D) where they stand, in whatever is counted in.
        apart: candidates further than this from the best one are its rivals.
    """

    inliers: npt.NDArray[np.int64]
    right: npt.NDArray[np.bool_]
    places: npt.NDArray[np.float64]
    apart: float

    @property
    def best(self) -> int:
        """The candidate with the most inliers."""
        return int(np.argmax(self.inliers))

    @property
    def margin(self) -> int:
        """Inliers of the best minus those of the best candidate elsewhere."""
        elsewhere = np.linalg.norm(self.places - self.places[self.best], axis=1) > self.apart
        return int(self.inliers[self.best] - self.inliers[elsewhere].max(initial=0))


@dataclass(frozen=True)
class RankingFigures:
    """Shares of all images.

    Attributes:
        by_descriptor, by_inliers: recall@1 before and after re-ranking.
        answered_99, answered_100: largest share that is answered by margin with that precision.
    """

    images: int
    by_descriptor: float
    by_inliers: float
    answered_99: float
    answered_100: float


def ranking_figures(ranked: Sequence[Ranked]) -> RankingFigures:
    right = np.array([one.right[one.best] for one in ranked])
    margins = np.array([one.margin for one in ranked])
    return RankingFigures(
        len(ranked),
        float(np.mean([one.right[0] for one in ranked])),
        float(right.mean()),
        answered_share(margins, right, 0.99),
        answered_share(margins, right, 1.0),
    )


def answered_share(scores: npt.NDArray[np.int64], right: npt.NDArray[np.bool_], precision: float) -> float:
    """The largest share of images that a threshold above 0 on their scores answers with at least this precision."""
    best = 0.0
    for limit in np.unique(scores[scores > 0]):
        answered = scores >= limit
        if right[answered].mean() >= precision:
            best = max(best, float(answered.mean()))
    return best


def of_answers(answers: Sequence[Answer], mixed: bool = False) -> list[Ranked]:
    """Groups of candidates with metres.

    Args:
        mixed: count inliers as the sightings have them, of two views where there is no pose; else those are 0.
    """
    return [
        Ranked(
            np.array([seen.inliers if mixed else posed_inliers(seen) for seen in one.sightings]),
            np.array(one.right),
            np.array([place.position[list(one.axes)] for place in one.places]),
            ELSEWHERE_M,
        )
        for one in answers
    ]


@dataclass(frozen=True, eq=False)
class Looked:
    """Pictures as the geometry and the search see them.

    Attributes:
        descriptors: (N, D) float32 of unit length.
        views: of each.
    """

    descriptors: npt.NDArray[np.float32]
    views: tuple[View, ...]

    def of(self, chosen: npt.NDArray[np.bool_]) -> Looked:
        """Some of them."""
        return Looked(self.descriptors[chosen], tuple(self.views[row] for row in np.flatnonzero(chosen)))


def through_jpeg(rgb: Picture) -> Picture:
    """A picture as a map stores it."""
    return decode_compressed(np.frombuffer(encode_picture(rgb), np.uint8))


def look(pictures: Sequence[Picture], extractor: Extractor, features: FeatureExtractor, stored: bool) -> Looked:
    """Look at images, or at places: a map keeps the descriptor of the whole picture, and a small picture."""
    small = [through_jpeg(rgb) for rgb in pictures] if stored else pictures
    return Looked(extractor.describe(pictures), tuple(view_of(rgb, features) for rgb in small))


def of_views(
    queries: Looked, database: Looked, positives: npt.NDArray[np.bool_], places: npt.NDArray[np.float64]
) -> list[Ranked]:
    """Candidates without metres: inliers of two views.

    Args:
        positives: (queries, database), which show one place.
        places: (database,) their numbers.
    """
    alike = queries.descriptors @ database.descriptors.T
    found = []
    for number, view in enumerate(queries.views):
        rows = np.argsort(-alike[number], kind="stable")[:CANDIDATES]
        inliers = np.array([len(two_view_inliers(view, database.views[row])[0]) for row in rows])
        found.append(Ranked(inliers, positives[number, rows], places[rows, None], PLACES_APART))
    return found


def of_benchmark(one: Benchmark, extractor: Extractor, features: FeatureExtractor) -> list[Ranked]:
    """Snow pairs and floors: a place's number is that of its picture."""
    places = np.arange(len(one.database), dtype=np.float64)
    queries = look(one.queries, extractor, features, stored=False)
    database = look(one.database, extractor, features, stored=True)
    return of_views(queries, database, one.positives, places)


def look_alike(
    footage: Path, floors: Sequence[str], every: int, extractor: Extractor, features: FeatureExtractor
) -> tuple[list[Ranked], list[Ranked]]:
    """Images of a floor in its own map, and in the maps of other floors; the even seconds of each floor are a map.

    Args:
        every: of so many of the odd seconds one is asked for.
    """
    pictures = [one for one in tower_pictures(footage) if one.floor in floors]
    kept = [one for one in pictures if one.second % 2 == 0]
    asked = [one for one in pictures if one.second % 2 == 1][::every]
    queries = look([read_rgb(one.path) for one in asked], extractor, features, stored=False)
    database = look([read_rgb(one.path) for one in kept], extractor, features, stored=True)
    near = np.array([[a.video == b.video and abs(a.second - b.second) <= 3 for b in kept] for a in asked])
    videos = {video: number for number, video in enumerate(dict.fromkeys(one.video for one in kept))}
    places = np.array([1e6 * videos[one.video] + one.second for one in kept])
    right: list[Ranked] = []
    wrong: list[Ranked] = []
    for floor in floors:
        of_map, own = (np.array([one.floor == floor for one in part]) for part in (kept, asked))
        for chosen, ranked in ((own, right), (~own, wrong)):
            rows = np.ix_(chosen, of_map)
            ranked += of_views(queries.of(chosen), database.of(of_map), near[rows], places[of_map])
    return right, wrong
