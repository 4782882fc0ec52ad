"""Fit what the localizer makes of z-scores and poses, on towns that nothing is measured on.

    python -m models.fit_localizer --folder FOLDER [--weights nano] [--every 4]

Maps are the towns of seeds 500 to 502 at noon, whole loops and the first 35 s of them. Images are of drives through the
same town, 1.5 m aside, by dusk, night, snow and under clouds, and of the other towns. So places are wrong in another
town, elsewhere in the same loop, and in streets of the same town that the map has not. For each image the places most
like it are compared with it, as the localizer does. Printed are the values for
`d2vpr_ros.localize.params.LocalizerParams`, without each town (leave one out) and of all. FOLDER keeps what is
recorded, 300 MB.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
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
from d2vpr_ros.localize.evidence import pose_ratio
from d2vpr_ros.localize.params import DEFAULT_PARAMS, LocalizerParams
from d2vpr_ros.mapping import PlaceMap, read_map
from d2vpr_ros.multiview.lens import camera_lens
from d2vpr_ros.multiview.place_geometry import Sighting
from models.bench.half_mapped import MAPPED_S
from models.bench.town import build_map, drive

Array = npt.NDArray[np.float64]

SEEDS = (500, 501, 502)
CONDITIONS = ("dusk", "night", "snow", "overcast")
ASIDE_M = 1.5
RIGHT_M, WRONG_M = 5.0, 15.0
GROUPS, CANDIDATES = 3, 10


@dataclass(frozen=True)
class Sample:
    """An image and a group of places that it resembles.

    Attributes:
        town: of the map; rank: of the group, 0 for the places most like the image.
        right: whether the image was taken there.
        excess: z-score above the best of the map by chance.
        seen: what it shares with them.
    """

    town: int
    rank: int
    right: bool
    excess: float
    seen: Sighting


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
                    yield Sample(town, rank, away_m <= RIGHT_M, excess, sighting)


@dataclass(frozen=True)
class Fitted:
    """Values of the parameters of the same names."""

    pose_inliers: float
    pose_share: float
    pose_spread: float
    pose_residual: float
    pose_offset: float
    absent_ratio: float
    pose_weight: float
    likeness: float
    likeness_from: float


def fit(every: list[Sample]) -> Fitted:
    """Of places that were right and wrong."""
    right = np.array([one.right for one in every])
    posed = np.array([one.seen.pose is not None for one in every])
    found = [(posed[side].sum() + 1) / (side.sum() + 2) for side in (right, ~right)]  # shares of images with a pose
    features = np.array(
        [
            (np.log(one.seen.inliers), np.log(one.seen.share), one.seen.spread, one.seen.residual_px)
            for one in every
            if one.seen.pose is not None
        ]
    )
    inliers, share, spread, residual, offset = _logistic(features, right[posed])
    offset += float(np.log(found[0] / found[1]))
    absent = float(np.log((1 - found[0]) / (1 - found[1])))
    params = replace(
        DEFAULT_PARAMS,
        pose_inliers=inliers,
        pose_share=share,
        pose_spread=spread,
        pose_residual=residual,
        pose_offset=offset,
    )
    ratio = np.array([of_pose(one.seen, params) if one.seen.pose is not None else absent for one in every])
    excess = np.array([one.excess for one in every])
    first = np.array([one.rank == 0 for one in every])
    slope, weight, beginning = _logistic(np.stack([excess, ratio], axis=1)[first], right[first])
    return Fitted(inliers, share, spread, residual, offset, absent, weight, slope, -beginning / slope)


def of_pose(seen: Sighting, params: LocalizerParams) -> float:
    """Log-likelihood ratio of a pose, as the localizer has it."""
    return pose_ratio(seen.inliers, seen.share, seen.spread, seen.residual_px, params)


def _logistic(features: Array, right: npt.NDArray[np.bool_]) -> list[float]:
    """A weight for each column of (N, F), and an offset; right and wrong ones count alike in sum, as at even odds."""
    counts = np.where(right, 0.5 / right.sum(), 0.5 / (~right).sum())

    def loss(chosen: Array) -> float:
        chance = np.clip(expit(features @ chosen[:-1] + chosen[-1]), 1e-9, 1 - 1e-9)
        return float(-(counts * np.log(np.where(right, chance, 1 - chance))).sum() + 1e-3 * (chosen[:-1] ** 2).sum())

    found = minimize(loss, np.zeros(features.shape[1] + 1), method="L-BFGS-B")
    return [float(one) for one in found.x]


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
            for half in (False, True):
                name = f"{town}{'_half' if half else ''}.{extractor.identity.weights_sha256[:8]}.d2map"
                noon = drive(args.folder, town, "noon", duration_s=MAPPED_S if half else None)
                build_map(noon, args.folder / name, "--weights", args.weights)
                place_map = read_map(args.folder / name)
                for seed in (town,) if half else SEEDS:
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
