"""Fit the default calibrations of the localizer, and measure them on towns that had no part in it.

    python -m models.fit_calibration --cache FOLDER [--footage FOOTAGE] [--weights nano]

Maps are the calibration towns (seeds 500 to 502) at noon, each a drive of about 400 m. Queries are drives through the
same town, 1.5 m aside, at dusk, at night and in snow; and, as answers that can only be wrong, drives through the other
towns and, with --footage, floors of the tower that are not in the map. What a town is measured by is fitted on the
others. FOLDER keeps what is rendered and described.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from d2vpr_ros.bags.drive import open_drive
from d2vpr_ros.bags.pose_topics import trajectory_from_bag
from d2vpr_ros.bags.reader import open_bag
from d2vpr_ros.describe import Extractor
from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import Pose
from d2vpr_ros.localize import Localizer, LocalizerOptions
from d2vpr_ros.localize.calibration import Calibration, calibration_error, features, fit_calibration, share
from d2vpr_ros.localize.covariance import answer_covariance
from d2vpr_ros.mapping import Camera, MapHeader, PlaceMap, Session, read_map
from d2vpr_ros.mapping.keyframes import KeyframeRule, KeyframeSelector
from d2vpr_ros.mapping.store import NewPlace, create_map
from d2vpr_ros.sim.drive import record_drive
from models.data import read_rgb, tower_pictures

Array = npt.NDArray[np.float64]

SEEDS = (500, 501, 502)
CONDITIONS = ("dusk", "night", "snow")
FLOORS = ("floor10", "floor12", "floor14", "basement0")
MAP_CONDITION, ASIDE_M, RATE_HZ, RADIUS_M = "noon", 1.5, 2.5, 5.0
WAYS = {
    "with_odometry": (True, True),
    "without_odometry": (True, False),
    "single_image": (False, False),
}
"""How answers are made: with what came before, with odometry."""
FAR_M = 1e3
CHI2_95 = 5.991  # two degrees of freedom


@dataclass(frozen=True, eq=False)
class Described:
    """A drive as the localizer sees it: (N, D) descriptors, (N,) stamps, (N, 7) poses, NaN where not known."""

    descriptors: npt.NDArray[np.float32]
    stamps_ns: npt.NDArray[np.int64]
    odometry: Array
    slam: Array
    truth: Array


@dataclass(frozen=True, eq=False)
class Answers:
    """What the localizer said to a drive, accepted or not.

    Attributes:
        group: name of the town or tower whose map was used; measured by what is fitted on the others.
        on_map: whether the drive goes through that town.
        rows, shares: of the calibration.
        right: (N,) within RADIUS_M.
        misses, covariances: (N, 2), (N, 2, 2) horizontal error and what was said of it.
    """

    group: str
    name: str
    on_map: bool
    rows: Array
    shares: Array
    right: npt.NDArray[np.bool_]
    misses: Array
    covariances: Array


def described_town(cache: Path, extractor: Extractor, seed: int, condition: str, aside_m: float) -> Described:
    """Record and describe a drive, or take it from the cache."""
    name = f"{seed}_{condition}_{aside_m:g}"
    known = cache / f"{name}.{extractor.identity.weights_sha256[:8]}.npz"
    if not known.exists():
        bag_path = cache / name
        if not bag_path.exists():
            record_drive(bag_path, seed, condition, lateral_offset_m=aside_m, rate_hz=RATE_HZ, compressed=True)
        with open_bag(bag_path) as bag:
            tracks = [trajectory_from_bag(bag, topic) for topic in ("/odom", "/slam/pose", "/ground_truth/pose")]
            posed = list(open_drive(bag, pose_topic="/slam/pose").frames())
        stamps = [one.frame.stamp_ns for one in posed]
        poses = [
            [pose.numbers if (pose := track.at(stamp, 1.0)) else [np.nan] * 7 for stamp in stamps] for track in tracks
        ]
        descriptors = extractor.describe([one.frame.rgb for one in posed])
        np.savez(known, *(np.asarray(part) for part in (descriptors, stamps, *poses)))
    with np.load(known) as stored:
        return Described(*(stored[f"arr_{number}"] for number in range(5)))


def described_floor(cache: Path, extractor: Extractor, footage: Path, floor: str) -> Described:
    """A walk through a floor of the tower, a picture a second; its places lie a metre apart on a line."""
    known = cache / f"{floor}.{extractor.identity.weights_sha256[:8]}.npz"
    if not known.exists():
        pictures = [picture for picture in tower_pictures(footage) if picture.floor == floor]
        descriptors = extractor.describe([read_rgb(picture.path) for picture in pictures])
        np.savez(known, descriptors)
    with np.load(known) as stored:
        descriptors = stored["arr_0"]
    count = len(descriptors)
    poses = np.zeros((count, 7))
    poses[:, 0], poses[:, 6] = np.arange(count), 1.0
    return Described(descriptors, np.arange(count) * 1_000_000_000, np.full((count, 7), np.nan), poses, poses)


def as_map(cache: Path, name: str, extractor: Extractor, drive: Described) -> PlaceMap:
    """A map of a drive's keyframes, by the poses of its SLAM."""
    path = cache / f"{name}.d2map"
    path.unlink(missing_ok=True)
    wanted = KeyframeSelector(KeyframeRule(1.0))
    with create_map(path, MapHeader(extractor.identity, extractor.width, "map", 1.0)) as writer:
        session = writer.begin_session(Session(name))
        camera = writer.add_camera(session, Camera("camera", 320, 240, Pose.identity()))
        for stamp, numbers, descriptor in zip(drive.stamps_ns, drive.slam, drive.descriptors, strict=True):
            if np.isfinite(numbers).all() and wanted.wants(Pose.of(*numbers), int(stamp)):
                wanted.take(Pose.of(*numbers), int(stamp))
                writer.add_place(session, camera, NewPlace(int(stamp), Pose.of(*numbers), descriptor))
    return read_map(path)


def answered(
    place_map: PlaceMap, extractor: Extractor, drive: Described, way: str, group: str, name: str, *, on_map: bool
) -> Answers:
    """Drive the localizer through a described drive."""
    sequence, by_odometry = WAYS[way]
    localizer = Localizer(place_map, extractor, LocalizerOptions(sequence=sequence))
    rows, shares, misses, covariances = [], [], [], []
    for number, stamp in enumerate(drive.stamps_ns):
        numbers = drive.odometry[number]
        odometry = Pose.of(*numbers) if by_odometry and np.isfinite(numbers).all() else None
        standing = localizer.match(drive.descriptors[number], int(stamp), odometry).standing
        assert standing is not None
        rows.append(features(standing, place_map.spacing_m))
        shares.append(share(standing))
        misses.append(standing.position[:2] - drive.truth[number, :2] if on_map else np.full(2, FAR_M))
        covariances.append(answer_covariance(standing.scatter, localizer.alike_m)[:2, :2])
    right = np.linalg.norm(misses, axis=1) <= RADIUS_M
    return Answers(
        group, name, on_map, np.array(rows), np.array(shares), right, np.array(misses), np.array(covariances)
    )


def collect(cache: Path, extractor: Extractor, footage: Path | None, way: str) -> Iterator[Answers]:
    """Every map with every drive."""
    cache.mkdir(parents=True, exist_ok=True)
    noon = {seed: described_town(cache, extractor, seed, MAP_CONDITION, 0.0) for seed in SEEDS}
    queries = {
        (seed, condition): described_town(cache, extractor, seed, condition, ASIDE_M)
        for seed in SEEDS
        for condition in CONDITIONS
    }
    for seed in SEEDS:
        place_map = as_map(cache, f"{seed}", extractor, noon[seed])
        for (other, condition), drive in [*queries.items(), *(((s, MAP_CONDITION), d) for s, d in noon.items())]:
            if other != seed or condition != MAP_CONDITION:
                name, on_map = f"{seed} by {other} {condition}", other == seed
                yield answered(place_map, extractor, drive, way, f"{seed}", name, on_map=on_map)
    if footage:
        floors = {floor: described_floor(cache, extractor, footage, floor) for floor in FLOORS}
        for floor, mapped in floors.items():
            place_map = as_map(cache, floor, extractor, mapped)
            for walked, walk in floors.items():
                if walked != floor:
                    yield answered(place_map, extractor, walk, way, "tower", f"{floor} by {walked}", on_map=False)


def fit(answers: list[Answers]) -> Calibration:
    """One calibration of all; drives on and off the map count alike in sum, however many there are."""
    on = sum(len(one.right) for one in answers if one.on_map)
    off = sum(len(one.right) for one in answers if not one.on_map)
    counts = np.concatenate([np.full(len(one.right), 1.0 if one.on_map else on / max(1, off)) for one in answers])
    rows, shares = np.concatenate([one.rows for one in answers]), np.concatenate([one.shares for one in answers])
    return fit_calibration(rows, shares, np.concatenate([one.right for one in answers]), counts)


def chances(calibration: Calibration, one: Answers) -> Array:
    """(N,) probabilities of the answers to a drive."""
    weights = [calibration.mass, calibration.fit, calibration.images, calibration.scatter, calibration.bias]
    fitted: Array = one.shares / (1 + np.exp(-one.rows @ np.array(weights)))
    return fitted


def report(way: str, answers: list[Answers], accepted: float) -> None:
    """Print what each town gets from the calibration of the others."""
    print(f"\n{way}: accepted from {accepted:g}")
    print(f"{'drive':26}{'images':>7}{'accepted':>9}{'wrong':>6}{'median m':>9}{'in 95 %':>8}")
    errors, on_map = [], []
    false, off_map = 0, 0
    for one in answers:
        calibration = fit([other for other in answers if other.group != one.group])
        probability = chances(calibration, one)
        taken = probability >= accepted
        if not one.on_map:
            false, off_map = false + int(taken.sum()), off_map + len(taken)
            continue
        errors.append(probability)
        on_map.append(one.right)
        good = taken & one.right
        lengths = np.linalg.norm(one.misses[good], axis=1)
        squared = np.einsum("ni,nij,nj->n", one.misses[good], np.linalg.inv(one.covariances[good]), one.misses[good])
        median = np.median(lengths) if len(lengths) else np.nan
        inside = (squared <= CHI2_95).mean() if len(lengths) else np.nan
        wrong = (taken & ~one.right).sum()
        print(f"{one.name:26}{len(taken):7}{taken.mean():9.2f}{wrong:6}{median:9.2f}{inside:8.2f}")
    error = calibration_error(np.concatenate(errors), np.concatenate(on_map))
    print(f"off the map: {false} of {off_map} accepted; expected calibration error on the map {error:.3f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="nano")
    parser.add_argument("--cache", type=Path, required=True, help="folder for what is rendered and described, 300 MB")
    parser.add_argument("--footage", type=Path, help="folder with ie_tower")
    parser.add_argument("--accepted", type=float, default=LocalizerOptions().acceptance.probability)
    arguments = parser.parse_args()
    try:
        extractor = Extractor.open(arguments.weights)
        for way in WAYS:
            answers = list(collect(arguments.cache, extractor, arguments.footage, way))
            report(way, answers, arguments.accepted)
            print(f"{way} = {fit(answers)}", flush=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
