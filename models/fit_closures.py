"""Fit what inliers are worth to loop closure (`d2vpr_ros.loops.consent`).

    python -m models.fit_closures FOLDER [--footage FOOTAGE] [--weights nano]

Right candidates are revisits of simulated tours (seeds 550 to 552: by day, at dusk, in rain), wrong ones are other
places of these towns and, with --footage, other floors of a tower that look alike. A floor has no metres, so only two
views of it can be compared; their inliers stand for those of a metric pose, too, which are fewer. FOLDER keeps what is
rendered and described.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from tqdm import tqdm

from d2vpr_ros.bags.pose_topics import trajectory_from_bag
from d2vpr_ros.bags.reader import open_bag
from d2vpr_ros.cli.main import main as d2vpr
from d2vpr_ros.describe import Extractor
from d2vpr_ros.describe.features import FeatureExtractor
from d2vpr_ros.geometry import Pose, distance, turn
from d2vpr_ros.images.decode import decode_compressed
from d2vpr_ros.loops.closing import in_order, odometry_of, place_of
from d2vpr_ros.loops.consent import Weights
from d2vpr_ros.loops.measuring import geometry_of
from d2vpr_ros.loops.past import Past
from d2vpr_ros.mapping import PlaceMap, read_map
from d2vpr_ros.mapping.picture import encode_picture
from d2vpr_ros.multiview import PlaceGeometry, View, view_of
from d2vpr_ros.multiview.two_view import two_view_inliers
from d2vpr_ros.sim.drive import TRUTH
from models.bench.loop_tours import Tour, record
from models.data import read_rgb, tower_pictures

TOURS = (Tour(550, 400.0, 1.15), Tour(551, 300.0, 2.0, "dusk"), Tour(552, 400.0, 2.0, "rain"))
SAME_M, SAME_DEG, OTHER_M = 5.0, 40.0, 10.0
"""A candidate nearer and turned less than this is right, one farther than the last is wrong."""
EVERY = 3  # keyframes, and floor images, of which one is looked at
SURE = 0.99


@dataclass
class Counts:
    """Inliers of right and of wrong candidates, in metric poses and in two views."""

    metric: dict[bool, list[int]] = field(default_factory=lambda: {True: [], False: []})
    two_views: dict[bool, list[int]] = field(default_factory=lambda: {True: [], False: []})


def count_tour(place_map: PlaceMap, truth: Sequence[Pose], features: FeatureExtractor, counts: Counts) -> None:
    """Add the candidates of a tour.

    Args:
        truth: T_map_base by row.
    """
    past = Past(place_map.path, place_map.header)
    odometry = odometry_of(place_map, np.zeros(len(place_map), np.bool_))
    geometry: PlaceGeometry | None = None
    for row in tqdm(in_order(place_map), unit="place"):
        place = place_of(place_map, row, odometry[int(place_map.ids[row])])
        found = past.candidates(place.descriptor)
        past.add(place)
        if found is None or found.z < past.params.least_z or row % EVERY:
            continue
        geometry = geometry or geometry_of(past, features)
        geometry.grow(past.map(), past.way, min(len(past), past.findable + 10))
        best = int(found.rows[0])
        apart_m, apart_deg = distance(truth[best], truth[row]), np.degrees(turn(truth[best], truth[row]))
        is_right = apart_m < SAME_M and apart_deg < SAME_DEG
        view, old = geometry.place_view(row), geometry.place_view(best)
        if view is None or old is None or not (is_right or apart_m > OTHER_M):
            continue
        counts.two_views[is_right].append(len(two_view_inliers(view, old)[0]))
        sighting = geometry.sightings(view, [best], place.camera.mount)[0]
        if sighting.pose is not None:
            counts.metric[is_right].append(sighting.inliers)


@dataclass(frozen=True, eq=False)
class Floor:
    """Attributes:
    descriptors: (N, D) of its pictures, and these, JPEG.
    """

    descriptors: npt.NDArray[np.float32]
    pictures: list[bytes]


def described_floors(footage: Path, extractor: Extractor) -> dict[str, Floor]:
    """The floors of the tower by name."""
    images: dict[str, list[npt.NDArray[np.uint8]]] = {}
    for picture in tower_pictures(footage):
        images.setdefault(picture.floor, []).append(read_rgb(picture.path))
    return {
        name: Floor(extractor.describe(every), [encode_picture(rgb) for rgb in every]) for name, every in images.items()
    }


def count_floors(floors: dict[str, Floor], features: FeatureExtractor, counts: Counts) -> None:
    """Add each floor's images with those of the other floors that they resemble most; all are wrong."""
    views: dict[tuple[str, int], View] = {}

    def view(floor: str, number: int) -> View:
        if (floor, number) not in views:
            jpeg = np.frombuffer(floors[floor].pictures[number], np.uint8)
            views[floor, number] = view_of(decode_compressed(jpeg), features)
        return views[floor, number]

    for floor, described in tqdm(floors.items(), unit="floor"):
        rivals = [
            (other, number)
            for other, theirs in floors.items()
            for number in range(len(theirs.descriptors))
            if other != floor
        ]
        descriptors = np.concatenate([theirs.descriptors for other, theirs in floors.items() if other != floor])
        for number in range(0, len(described.descriptors), EVERY):
            best = rivals[int(np.argmax(descriptors @ described.descriptors[number]))]
            inliers = len(two_view_inliers(view(floor, number), view(*best))[0])
            counts.two_views[False].append(inliers)
            counts.metric[False].append(inliers)


def fit(inliers: dict[bool, list[int]]) -> Weights:
    """Constant and slope of the logistic regression on the logarithm of inliers, right and wrong at even odds."""
    x = np.log(np.array(inliers[True] + inliers[False], np.float64) + 1)
    is_right = np.repeat([True, False], [len(inliers[True]), len(inliers[False])])
    share = np.where(is_right, 1 / len(inliers[True]), 1 / len(inliers[False]))

    def loss(weights: npt.NDArray[np.float64]) -> float:
        odds = weights[0] + weights[1] * x
        return float((share * np.logaddexp(0, np.where(is_right, -odds, odds))).sum() + 1e-4 * weights[1] ** 2)

    constant, slope = minimize(loss, [-20.0, 5.0]).x
    return float(constant), float(slope)


def tell(name: str, inliers: dict[bool, list[int]]) -> None:
    """Print the fit, and what it says of what it was fitted on."""
    constant, slope = fit(inliers)
    least = np.exp((np.log(SURE / (1 - SURE)) - constant) / slope) - 1
    right, wrong = np.array(inliers[True]), np.array(inliers[False])
    found, mistaken = np.mean(right >= least), np.mean(wrong >= least)
    print(f"{name}: ({constant:.1f}, {slope:.1f}); {SURE} at {least:.0f} inliers")
    print(f"  which {found:.0%} of {len(right)} right ones have, {mistaken:.1%} of {len(wrong)} wrong ones", end="")
    print(f" (at most {wrong.max()})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where tours, maps and descriptors are kept")
    parser.add_argument("--footage", type=Path, help="folder of the real footage")
    parser.add_argument("--weights", default="nano")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    features, counts = FeatureExtractor.open(), Counts()
    for one in TOURS:
        bag, path = record(one, args.folder), args.folder / f"tour_{one.seed}.d2map"
        if not path.exists():
            d2vpr(
                [
                    "map",
                    "build",
                    str(bag),
                    "-o",
                    str(path),
                    "--pose-topic",
                    "/odom",
                    "--weights",
                    args.weights,
                    "--no-landmarks",
                ]
            )
        place_map = read_map(path)
        with open_bag(bag) as recording:
            true = trajectory_from_bag(recording, TRUTH)
        truth = [pose for stamp in place_map.stamps_ns if (pose := true.at(int(stamp), 1.0)) is not None]
        count_tour(place_map, truth, features, counts)
    if args.footage:
        extractor = Extractor.open(args.weights)
        floors = described_floors(args.footage, extractor)
        count_floors(floors, features, counts)
    tell("metric", counts.metric)
    tell("two views", counts.two_views)


if __name__ == "__main__":
    main()
