"""Fit what the localizer makes of z-scores and inliers, on towns that nothing is measured on.

    python -m models.fit_localizer --folder FOLDER [--weights nano] [--every 4]

Maps are the towns of seeds 500 to 502 at noon. Images are of drives through the same town, 1.5 m aside, by dusk, night,
snow and under clouds, and of the other towns, which can only be wrong. For each image the places most like it are
compared with it, as the localizer does. Printed are the values for `d2vpr_ros.localize.params.LocalizerParams`. FOLDER
keeps what is recorded, 300 MB.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from d2vpr_ros.bags.drive import open_drive
from d2vpr_ros.bags.reader import open_bag
from d2vpr_ros.describe import Extractor
from d2vpr_ros.errors import UserError
from d2vpr_ros.localize import Localizer, LocalizerOptions
from d2vpr_ros.localize.evidence import inlier_ratio
from d2vpr_ros.localize.params import DEFAULT_PARAMS
from d2vpr_ros.mapping import PlaceMap, read_map
from d2vpr_ros.multiview.lens import camera_lens
from d2vpr_ros.multiview.params import DEFAULT_PARAMS as GEOMETRY
from models.bench.town import build_map, drive

Array = npt.NDArray[np.float64]

SEEDS = (500, 501, 502)
CONDITIONS = ("dusk", "night", "snow", "overcast")
ASIDE_M = 1.5
RIGHT_M, WRONG_M = 5.0, 15.0
GROUPS, CANDIDATES = 3, 10
_RULE_OF_THREE = 3.0  # an event that was not seen in N tries has at most the chance 3 / N, at 95 %


@dataclass(frozen=True)
class Sample:
    """An image and a group of places that it resembles.

    Attributes:
        town: of the map; rank: of the group, 0 for the places most like the image.
        right: whether the image was taken there.
        excess: z-score above the best of the map by chance.
        inliers: of a pose; 0 without one.
    """

    town: int
    rank: int
    right: bool
    excess: float
    inliers: int


def samples(
    place_map: PlaceMap, town: int, bag_path: Path, extractor: Extractor, every: int, own: bool
) -> Iterator[Sample]:
    """Of every so many images of a recording, the groups of places most like it."""
    localizer = Localizer(place_map, extractor, LocalizerOptions())
    geometry, evidence = localizer.geometry, localizer.evidence
    assert geometry is not None
    with open_bag(bag_path) as bag:
        recorded = open_drive(bag, pose_topic="/ground_truth/pose")
        (camera,) = recorded.cameras.values()
        lens = camera_lens(camera.calibration)
        for number, one in enumerate(recorded.frames()):
            if number % every:
                continue
            (descriptor,) = extractor.describe([one.frame.rgb])
            similarities, rows = localizer.search.nearest(descriptor, CANDIDATES)
            ordinary = evidence.background.of_image(descriptor, place_map.positions[rows[0]])
            scores = dict(zip(rows.tolist(), evidence.scores(similarities, ordinary).tolist(), strict=True))
            seen = geometry.sightings(geometry.view(one.frame.rgb, lens), rows.tolist())[:GROUPS]
            for rank, sighting in enumerate(seen):
                away_m = float(np.linalg.norm(place_map.positions[sighting.row] - one.pose.position)) if own else np.inf
                if away_m <= RIGHT_M or away_m >= WRONG_M:
                    excess = scores[sighting.row] - evidence.by_chance
                    inliers = sighting.inliers if sighting.pose is not None else 0
                    yield Sample(town, rank, away_m <= RIGHT_M, excess, inliers)


@dataclass(frozen=True)
class Fitted:
    """Values of the parameters of the same names."""

    inlier_tail: float
    absent_ratio: float
    most_inlier_ratio: float
    inlier_weight: float
    likeness: float
    likeness_from: float


def fit(every: list[Sample]) -> Fitted:
    """Of places that were right and wrong."""
    right = np.array([one.right for one in every])
    inliers = np.array([one.inliers for one in every])
    wrong_poses = inliers[~right & (inliers > 0)]
    absent = (
        ((inliers[right] == 0).sum() + 1) / (right.sum() + 2),
        ((inliers[~right] == 0).sum() + 1) / ((~right).sum() + 2),
    )
    tail = (
        float(np.mean(wrong_poses - GEOMETRY.least_inliers + 0.5)) if len(wrong_poses) else DEFAULT_PARAMS.inlier_tail
    )
    most = float(np.log((~right).sum() / _RULE_OF_THREE))
    absent_ratio = float(np.log(absent[0] / absent[1]))
    ratio = np.array([inlier_ratio(one.inliers, tail, most) if one.inliers else absent_ratio for one in every])
    excess = np.array([one.excess for one in every])
    first = np.array([one.rank == 0 for one in every])
    slope, weight, offset = _logistic(np.stack([excess, ratio], axis=1)[first], right[first])
    return Fitted(tail, absent_ratio, most, weight, slope, -offset / slope)


def _logistic(features: Array, right: npt.NDArray[np.bool_]) -> tuple[float, float, float]:
    """Two weights that are not negative, and an offset; right and wrong ones count alike in sum, as at even odds."""
    counts = np.where(right, 0.5 / right.sum(), 0.5 / (~right).sum())

    def loss(chosen: Array) -> float:
        chance = np.clip(expit(features @ chosen[:2] + chosen[2]), 1e-9, 1 - 1e-9)
        return float(-(counts * np.log(np.where(right, chance, 1 - chance))).sum() + 1e-3 * (chosen**2).sum())

    found = minimize(
        loss, np.array([1.0, 1.0, 0.0]), method="L-BFGS-B", bounds=[(0.01, None), (0.01, None), (None, None)]
    )
    return float(found.x[0]), float(found.x[1]), float(found.x[2])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--weights", default="nano")
    parser.add_argument("--every", type=int, default=4, help="look at every so many images")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    try:
        extractor = Extractor.open(args.weights)
        every: list[Sample] = []
        for town in SEEDS:
            path = args.folder / f"{town}.{extractor.identity.weights_sha256[:8]}.d2map"
            build_map(drive(args.folder, town, "noon"), path, "--weights", args.weights)
            place_map = read_map(path)
            for seed in SEEDS:
                for condition in CONDITIONS if seed == town else CONDITIONS[seed % 2 :: 2]:
                    bag = drive(args.folder, seed, condition, ASIDE_M)
                    every += samples(place_map, town, bag, extractor, args.every, seed == town)
            print(f"{town}: {len(every)} samples", flush=True)
        for town in SEEDS:
            print(f"without town {town}: {fit([one for one in every if one.town != town])}")
        print(f"all: {fit(every)}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
