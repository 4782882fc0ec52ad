"""What a localizer said over DDS, held against the truth: the demo's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from d2vpr_ros.bags.trajectory import Trajectory
from d2vpr_ros.evaluation import counting
from d2vpr_ros.evaluation.scoring import Array, ScoredQuery, in_ellipse
from d2vpr_ros.evaluation.table import Number, rows
from d2vpr_ros.geometry import Pose

_ARRIVAL = "image to pose prior"


@dataclass(frozen=True, eq=False)
class Answer:
    """A pose prior as it arrived: T_map_base, (6, 6) covariance, seconds since the image's stamp."""

    pose: Pose
    covariance: Array
    latency_s: float


@dataclass(frozen=True)
class Summary:
    """Attributes:
    queries: images the localizer answered, with a pose prior or with silence.
    answerable, answerable_share: queries with a map place within the radius.
    answered: pose priors.
    correct: pose priors within the radius of the truth.
    precision: correct / answered, over every answer; None without answers.
    recall_at_1, recall_at_1_answerable: queries whose best candidate lies within the radius, accepted or not: of all,
        and of the answerable ones.
    median_error_m: of all answers.
    covariance_coverage_95: answers whose truth lies in the 95 % ellipse of their position.
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
    recall_at_1_answerable: float | None
    median_error_m: float | None
    covariance_coverage_95: float | None
    p50_latency_ms: float | None
    p95_latency_ms: float | None
    dropped_frames: int

    def as_json(self) -> dict[str, Number]:
        return asdict(self)

    def rows(self) -> list[tuple[str, str]]:
        """The table people read: (what, value)."""
        return rows({**asdict(self), "radius": self.radius_m, "unit": "m"})


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
        radius_m: a position this near the truth is right.
    """
    queries = []
    for stamp_ns, points in sorted(candidates.items()):
        at = truth.at(stamp_ns, max_gap_s=1.0)
        if at is None:
            continue
        positions = np.column_stack([points["x"], points["y"], points["z"]]).astype(np.float64)
        off = np.linalg.norm(positions - at.position, axis=1)
        answer = answers.get(stamp_ns)
        answered_off = None if answer is None else float(np.linalg.norm(answer.pose.position - at.position))
        best_off = float(off[0]) if len(off) else None
        shown_off = best_off if answered_off is None else answered_off
        queries.append(
            ScoredQuery(
                stamp_ns,
                answerable=bool((np.linalg.norm(places - at.position, axis=1) <= radius_m).any()),
                accepted=answer is not None,
                right=shown_off is not None and shown_off <= radius_m,
                found=tuple((off <= radius_m).tolist()),
                off=shown_off,
                place_id=int(points[0]["place_id"]) if len(points) else None,
                truth=at,
                answer=answer.pose if answer else None,
                covariance=answer.covariance if answer else None,
                seconds={_ARRIVAL: answer.latency_s} if answer else {},
            )
        )
    return queries


def summarise(queries: Sequence[ScoredQuery], radius_m: float, dropped_frames: int) -> Summary:
    """The numbers of a drive."""
    answered = [query for query in queries if query.accepted]
    answerable = [query for query in queries if query.answerable]
    latencies_ms = [1e3 * query.seconds[_ARRIVAL] for query in answered]
    return Summary(
        queries=len(queries),
        answerable=len(answerable),
        answerable_share=counting.share(query.answerable for query in queries),
        answered=len(answered),
        correct=sum(query.right for query in answered),
        radius_m=radius_m,
        precision=counting.precision(queries),
        recall_at_1=counting.recalls(queries)[1],
        recall_at_1_answerable=counting.recalls(answerable)[1],
        median_error_m=counting.quantile((query.error_m for query in answered), 0.5),
        covariance_coverage_95=counting.share(map(in_ellipse, answered)),
        p50_latency_ms=counting.quantile(latencies_ms, 0.5),
        p95_latency_ms=counting.quantile(latencies_ms, 0.95),
        dropped_frames=dropped_frames,
    )
