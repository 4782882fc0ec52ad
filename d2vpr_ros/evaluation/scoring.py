"""Answers against the truth: the numbers the demo and the evaluation report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

from d2vpr_ros.bags.trajectory import Trajectory
from d2vpr_ros.evaluation.recall import recall_of
from d2vpr_ros.geometry import Pose

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ScoredQuery:
    """One image of a drive and what the localizer made of it.

    Attributes:
        stamp_ns: of the image, as recorded.
        truth: T_map_base.
        answerable: the map has a place within the radius of the truth.
        best: (3,) base position of the best candidate, metres, or None without candidates.
        place_id: of the best candidate.
        answer: T_map_base as published on `~/pose_prior`, or None.
        covariance: (6, 6) that came with it.
        latency_s: from the image's stamp to the arrival of the pose prior.
    """

    stamp_ns: int
    truth: Pose
    answerable: bool
    best: Array | None = None
    place_id: int | None = None
    answer: Pose | None = None
    covariance: Array | None = None
    latency_s: float | None = None

    @property
    def error_m(self) -> float | None:
        """Metres between answer and truth."""
        return None if self.answer is None else float(np.linalg.norm(self.answer.position - self.truth.position))

    def verdict(self, radius_m: float) -> str:
        """`correct`, `false`, `missed` (silent though the map has the place) or `silent`."""
        if self.error_m is not None:
            return "correct" if self.error_m <= radius_m else "false"
        return "missed" if self.answerable else "silent"


@dataclass(frozen=True)
class Summary:
    """Attributes:
    queries: images the localizer answered, with a pose prior or with silence.
    answerable, answerable_share: queries with a map place within the radius.
    answered: pose priors.
    correct: pose priors within the radius of the truth.
    precision: correct / answered, over every answer; None without answers.
    recall_at_1: answerable queries whose best candidate lies within the radius, accepted or not.
    median_error_m: of all answers.
    covariance_coverage_95: answers whose truth lies in the 95 % ellipsoid of their position.
    p50_latency_ms, p95_latency_ms: image stamp to pose prior.
    dropped_frames: images sent that the localizer never answered.
    """

    queries: int
    answerable: int
    answerable_share: float | None
    answered: int
    correct: int
    radius_m: float
    precision: float | None
    recall_at_1: float | None
    median_error_m: float | None
    covariance_coverage_95: float | None
    p50_latency_ms: float | None
    p95_latency_ms: float | None
    dropped_frames: int

    def as_json(self) -> dict[str, float | int | None]:
        return asdict(self)

    def rows(self) -> list[tuple[str, str]]:
        """The table people read: (what, value)."""
        percent = "{:.1%}".format
        return [
            ("queries", str(self.queries)),
            ("answerable", f"{self.answerable} ({_shown(self.answerable_share, percent)})"),
            ("answered", str(self.answered)),
            (f"correct within {self.radius_m:g} m", str(self.correct)),
            ("precision", _shown(self.precision, percent)),
            ("recall@1", _shown(self.recall_at_1, percent)),
            ("median error", _shown(self.median_error_m, "{:.2f} m".format)),
            ("truth in 95 % ellipsoid", _shown(self.covariance_coverage_95, percent)),
            ("latency p50", _shown(self.p50_latency_ms, "{:.0f} ms".format)),
            ("latency p95", _shown(self.p95_latency_ms, "{:.0f} ms".format)),
            ("dropped frames", str(self.dropped_frames)),
        ]


@dataclass(frozen=True, eq=False)
class Answer:
    """A pose prior as it arrived: T_map_base, (6, 6) covariance, seconds since the image's stamp."""

    pose: Pose
    covariance: Array
    latency_s: float


def score(
    candidates: Mapping[int, npt.NDArray[Any]],
    answers: Mapping[int, Answer],
    truth: Trajectory,
    places: Array,
    radius_m: float,
) -> list[ScoredQuery]:
    """Hold what a localizer said against the truth, by the images' stamps.

    Args:
        candidates: for each image its candidates, best first, as structured arrays with x, y, z and place_id.
        answers: the accepted ones among the images.
        truth: T_map_base over time; images without a truth are left out.
        places: (N, 3) base positions of the map's places, metres.
    """
    queries = []
    for stamp_ns, points in sorted(candidates.items()):
        at = truth.at(stamp_ns, max_gap_s=1.0)
        if at is None:
            continue
        best = points[0] if len(points) else None
        answer = answers.get(stamp_ns)
        queries.append(
            ScoredQuery(
                stamp_ns,
                at,
                answerable=bool((np.linalg.norm(places - at.position, axis=1) <= radius_m).any()),
                best=None if best is None else np.array([best["x"], best["y"], best["z"]], dtype=np.float64),
                place_id=None if best is None else int(best["place_id"]),
                answer=answer.pose if answer else None,
                covariance=answer.covariance if answer else None,
                latency_s=answer.latency_s if answer else None,
            )
        )
    return queries


def summarise(queries: Sequence[ScoredQuery], radius_m: float, dropped_frames: int) -> Summary:
    """Score a drive; a position within `radius_m` of the truth is correct."""
    answered = [query for query in queries if query.answer is not None]
    errors = [query.error_m for query in answered if query.error_m is not None]
    correct = sum(error <= radius_m for error in errors)
    answerable = [query for query in queries if query.answerable]
    found = [
        query.best is not None and float(np.linalg.norm(query.best - query.truth.position)) <= radius_m
        for query in answerable
    ]
    latencies_ms = [1e3 * query.latency_s for query in answered if query.latency_s is not None]
    return Summary(
        queries=len(queries),
        answerable=len(answerable),
        answerable_share=_mean([query.answerable for query in queries]),
        answered=len(answered),
        correct=correct,
        radius_m=radius_m,
        precision=correct / len(answered) if answered else None,
        recall_at_1=recall_of(np.array(found)[:, None], (1,))[1] if found else None,
        median_error_m=_quantile(errors, 0.5),
        covariance_coverage_95=_mean([in_ellipsoid(query) for query in answered]),
        p50_latency_ms=_quantile(latencies_ms, 0.5),
        p95_latency_ms=_quantile(latencies_ms, 0.95),
        dropped_frames=dropped_frames,
    )


_CHI2_95 = float(chi2.ppf(0.95, df=3))


def in_ellipsoid(query: ScoredQuery) -> bool:
    """Whether the truth lies in the ellipsoid that holds 95 % of the answer's position distribution."""
    if query.answer is None or query.covariance is None:
        return False
    offset = query.truth.position - query.answer.position
    distance2 = float(offset @ np.linalg.solve(query.covariance[:3, :3], offset))
    return distance2 <= _CHI2_95


def _mean(values: Sequence[bool]) -> float | None:
    return float(np.mean(values)) if values else None


def _quantile(values: Sequence[float], share: float) -> float | None:
    return float(np.quantile(values, share)) if values else None


def _shown(value: float | None, form: object) -> str:
    return "none" if value is None else str(form(value))  # type: ignore[operator]
