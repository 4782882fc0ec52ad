"""All numbers of an evaluation, out of what became of each image."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from d2vpr_ros.bags.reader import WHOLE, Part
from d2vpr_ros.evaluation import counting
from d2vpr_ros.evaluation.curve import area, precision_recall, recall_at_precision
from d2vpr_ros.evaluation.kidnapping import Kidnapping
from d2vpr_ros.evaluation.moments import Moment
from d2vpr_ros.evaluation.reliability import calibration_error
from d2vpr_ros.evaluation.scoring import ScoredQuery, in_ellipse, metres_between, semi_axis_m, turn_in_ellipsoid
from d2vpr_ros.evaluation.table import rows

STAGES = ("decode", "describe", "match")


@dataclass(frozen=True, eq=False)
class ScoredDrive:
    """What became of one recording.

    Attributes:
        name: another for each recording.
        queries: its images that have a truth, in order.
        unscored: how many have none.
        path, image_topics: where the images are.
        truth: what they were judged by, in words.
        odometry, gps: the topics, None without.
        kidnappings: on this drive, if any were asked for.
        part: of the recording.
        moments: images for the player of the page, if one is asked for.
    """

    name: str
    queries: Sequence[ScoredQuery]
    unscored: int = 0
    path: Path = Path()
    image_topics: tuple[str, ...] = ()
    truth: str = ""
    odometry: str | None = None
    gps: str | None = None
    kidnappings: Sequence[Kidnapping] = ()
    part: Part = WHOLE
    moments: Sequence[Moment] = ()


@dataclass(frozen=True)
class Measures:
    """None where there is nothing to count.

    Attributes:
        frames: images with a truth; unscored_frames: the others.
        answerable, answerable_share: the map has a place within the radius.
        accepted, correct, false_accepts: answers that were given, right and wrong ones; precision: right of given.
        recall_at_k: a right candidate is among the first k, of all images; recall_at_k_answerable: of the answerable.
        recall_at_p_precision, precision_recall_area: by the probability (`curve`), of the answerable images.
        median_error_*, p95_error_*, *_turn_deg: of the answers given, right or wrong.
        covariance_coverage_95: answers whose truth lies in their 95 % ellipse on the xy-plane; by_third: of the third
            with the lowest probabilities, the middle and the highest; turn_coverage_95: the same of rotations.
        median_semi_axis_95_m: the longer half axis of that ellipse.
        calibration_error: expected gap between probability and share of right, over all images (`calibration_error`).
        localized_fraction: answers given, of all images; localized_once_found: of those from the first answer on.
        time_to_first_fix_s, distance_to_first_fix_m: from the first image to the first answer; of several drives the
            median, without those that had none, which drives_without_fix counts.
        p50_decode_ms and so on: how long the stages took.
    """

    frames: int
    unscored_frames: int
    answerable: int
    answerable_share: float | None
    accepted: int
    correct: int
    false_accepts: int
    false_accepts_per_1000: float | None
    precision: float | None
    recall_at_1: float | None
    recall_at_5: float | None
    recall_at_10: float | None
    recall_at_1_answerable: float | None
    recall_at_5_answerable: float | None
    recall_at_10_answerable: float | None
    recall_at_100_precision: float | None
    recall_at_99_precision: float | None
    precision_recall_area: float | None
    median_error_m: float | None
    p95_error_m: float | None
    median_error_frames: float | None
    p95_error_frames: float | None
    median_turn_deg: float | None
    p95_turn_deg: float | None
    covariance_coverage_95: float | None
    covariance_coverage_95_by_third: list[float | None]
    median_semi_axis_95_m: float | None
    turn_coverage_95: float | None
    turn_coverage_95_by_third: list[float | None]
    calibration_error: float | None
    localized_fraction: float | None
    localized_once_found: float | None
    time_to_first_fix_s: float | None
    distance_to_first_fix_m: float | None
    drives_without_fix: int
    p50_decode_ms: float | None
    p95_decode_ms: float | None
    p50_describe_ms: float | None
    p95_describe_ms: float | None
    p50_match_ms: float | None
    p95_match_ms: float | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def rows(self, radius: float, unit: str) -> list[tuple[str, str]]:
        """The table people read: (what, value)."""
        return rows({**asdict(self), "radius": radius, "unit": unit})


def measure(drives: Sequence[ScoredDrive], unit: str) -> Measures:
    """Count.

    Args:
        unit: of the queries' `off`: m or frames.
    """
    queries = [query for drive in drives for query in drive.queries]
    answers = [query for query in queries if query.accepted]
    answerable = [query for query in queries if query.answerable]
    recalls, among_answerable = counting.recalls(queries), counting.recalls(answerable)
    curve = precision_recall(queries)
    correct = sum(query.right for query in answers)
    frames_off = [query.off for query in answers if unit == "frames"]
    thirds = _thirds(answers)
    first = [_first_fix(drive.queries) for drive in drives]
    latency_ms = {stage: [1e3 * query.seconds[stage] for query in queries if query.seconds] for stage in STAGES}
    quantile = counting.quantile
    return Measures(
        frames=len(queries),
        unscored_frames=sum(drive.unscored for drive in drives),
        answerable=len(answerable),
        answerable_share=counting.share(query.answerable for query in queries),
        accepted=len(answers),
        correct=correct,
        false_accepts=len(answers) - correct,
        false_accepts_per_1000=counting.per_thousand(len(answers) - correct, len(queries)),
        precision=counting.precision(queries),
        recall_at_1=recalls[1],
        recall_at_5=recalls[5],
        recall_at_10=recalls[10],
        recall_at_1_answerable=among_answerable[1],
        recall_at_5_answerable=among_answerable[5],
        recall_at_10_answerable=among_answerable[10],
        recall_at_100_precision=None if curve is None else recall_at_precision(curve, 1.0),
        recall_at_99_precision=None if curve is None else recall_at_precision(curve, 0.99),
        precision_recall_area=None if curve is None else area(curve),
        median_error_m=quantile((query.error_m for query in answers), 0.5),
        p95_error_m=quantile((query.error_m for query in answers), 0.95),
        median_error_frames=quantile(frames_off, 0.5),
        p95_error_frames=quantile(frames_off, 0.95),
        median_turn_deg=quantile((query.turned_deg for query in answers), 0.5),
        p95_turn_deg=quantile((query.turned_deg for query in answers), 0.95),
        covariance_coverage_95=counting.share(map(in_ellipse, answers)),
        covariance_coverage_95_by_third=[counting.share(map(in_ellipse, third)) for third in thirds],
        median_semi_axis_95_m=quantile(map(semi_axis_m, answers), 0.5),
        turn_coverage_95=counting.share(map(turn_in_ellipsoid, answers)),
        turn_coverage_95_by_third=[counting.share(map(turn_in_ellipsoid, third)) for third in thirds],
        calibration_error=_calibration_error(queries),
        localized_fraction=counting.share(query.accepted for query in queries),
        localized_once_found=counting.share(
            query.accepted for drive, at in zip(drives, first, strict=True) for query in drive.queries[at:]
        ),
        time_to_first_fix_s=quantile(_times(drives, first), 0.5),
        distance_to_first_fix_m=quantile(_distances(drives, first), 0.5),
        drives_without_fix=sum(at == len(drive.queries) for drive, at in zip(drives, first, strict=True)),
        **{
            f"{name}_{stage}_ms": quantile(latency_ms[stage], part)
            for stage in STAGES
            for name, part in (("p50", 0.5), ("p95", 0.95))
        },
    )


def _thirds(answers: Sequence[ScoredQuery]) -> list[list[ScoredQuery]]:
    """Answers by rising probability, in three parts of equal size."""
    rising = sorted(answers, key=lambda query: query.probability)
    ends = [round(len(rising) * part / 3) for part in range(4)]
    return [rising[begin:end] for begin, end in itertools.pairwise(ends)]


def _calibration_error(queries: Sequence[ScoredQuery]) -> float | None:
    if not queries:
        return None
    right = np.array([query.right for query in queries])
    return calibration_error(np.array([query.probability for query in queries]), right)


def _first_fix(queries: Sequence[ScoredQuery]) -> int:
    """Number of the first image with an answer; the number of images if none has one."""
    return next((number for number, query in enumerate(queries) if query.accepted), len(queries))


def _times(drives: Sequence[ScoredDrive], first: Sequence[int]) -> list[float]:
    return [
        (drive.queries[at].stamp_ns - drive.queries[0].stamp_ns) * 1e-9
        for drive, at in zip(drives, first, strict=True)
        if at < len(drive.queries)
    ]


def _distances(drives: Sequence[ScoredDrive], first: Sequence[int]) -> list[float]:
    """Metres along the true way; none for drives whose truth is not in metres."""
    found = []
    for drive, at in zip(drives, first, strict=True):
        way = [query.truth for query in drive.queries[: at + 1]]
        if at < len(drive.queries) and None not in way:
            flat = drive.queries[0].horizontal
            steps = (metres_between(a, b, horizontal=flat) for a, b in itertools.pairwise(way) if a and b)
            found.append(sum(steps))
    return found
