"""Fit the default calibrations of the localizer, and measure them on places that had no part in it.

    python -m models.fit_calibration --cache FOLDER [--footage FOOTAGE] [--weights nano] [--shipped]

Maps are the calibration towns (seeds 500 to 502) at noon, each a drive of about 400 m, and with --footage floors of a
tower, every other picture of each. Queries are drives through the same town, 1.5 m aside, at dusk, at night and in
snow, and the other pictures of the floor; and, as answers that can only be wrong, drives through the other towns and
the other floors, which look alike. What a town or a floor is measured by is fitted on the others. FOLDER keeps what is
rendered and described.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from d2vpr_ros.describe import Extractor
from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import Pose
from d2vpr_ros.localize import Localizer, LocalizerOptions, RejectReason
from d2vpr_ros.localize.agreement import Agreement
from d2vpr_ros.localize.calibration import (
    Calibration,
    Calibrations,
    calibration_error,
    features,
    fit_calibration,
    share,
)
from d2vpr_ros.localize.covariance import answer_covariance
from d2vpr_ros.mapping import PlaceMap
from models.calibration_drives import MAP_CONDITION, SEEDS, Described, Drives, all_drives, as_map

Array = npt.NDArray[np.float64]

RADIUS_M = 5.0
WAYS = {
    "with_odometry": (True, True),
    "without_odometry": (True, False),
    "single_image": (False, False),
}
"""How answers are made: with what came before, with odometry."""
TOP_SPEED_MPS = {True: 8.0, False: 2.0}
"""Of the simulated drives, which go at 5 m/s, and of the walks."""
AGREEMENT = 4
"""Column of the agreement in `features`."""
FAR_M = 1e3
CHI2_95 = 5.991  # two degrees of freedom


@dataclass(frozen=True, eq=False)
class Answers:
    """What the localizer said to a drive, accepted or not.

    Attributes:
        group: name of the town or tower whose map was used; measured by what is fitted on the others.
        on_map: whether the drive goes through that town.
        rows, shares: of the calibration, with the agreement of the pictures in `AGREEMENT`.
        right: (N,) within RADIUS_M.
        doubted: (N,) not answered whatever the probability, since the newest images say otherwise.
        misses, covariances: (N, 2), (N, 2, 2) horizontal error and what was said of it.
    """

    group: str
    name: str
    on_map: bool
    rows: Array
    shares: Array
    right: npt.NDArray[np.bool_]
    doubted: npt.NDArray[np.bool_]
    misses: Array
    covariances: Array


def answered(
    place_map: PlaceMap, extractor: Extractor, drive: Described, way: str, group: str, name: str, *, on_map: bool
) -> Answers:
    """Drive the localizer through a described drive."""
    sequence, by_odometry = WAYS[way]
    top_speed_mps = TOP_SPEED_MPS[group in map(str, SEEDS)]
    options = LocalizerOptions(sequence=sequence, top_speed_mps=top_speed_mps)
    localizer, agreement = Localizer(place_map, extractor, options), Agreement(place_map)
    rows, shares, doubted, misses, covariances = [], [], [], [], []
    for number, stamp in enumerate(drive.stamps_ns):
        numbers, descriptor = drive.odometry[number], drive.descriptors[number]
        odometry = Pose.of(*numbers) if by_odometry and np.isfinite(numbers).all() else None
        estimate = localizer.match(descriptor, int(stamp), odometry)
        standing = estimate.standing
        assert standing is not None
        if not sequence:
            agreement.forget()
        agrees = agreement.take(drive.features[number], descriptor, standing)
        assert agrees is not None
        rows.append(features(standing, place_map, agrees))
        shares.append(share(standing))
        doubted.append(estimate.reject_reason is RejectReason.MOTION_CONTRADICTS)
        misses.append(standing.position[:2] - drive.truth[number, :2] if on_map else np.full(2, FAR_M))
        covariance = answer_covariance(
            standing.scatter, standing.images, localizer.alike_m, place_map.spacing_m, by_odometry=odometry is not None
        )
        covariances.append(covariance[:2, :2])
    right = np.linalg.norm(misses, axis=1) <= RADIUS_M
    return Answers(
        group,
        name,
        on_map,
        np.array(rows),
        np.array(shares),
        right,
        np.array(doubted),
        np.array(misses),
        np.array(covariances),
    )


def collect(cache: Path, extractor: Extractor, drives: Drives, way: str) -> Iterator[Answers]:
    """Every map with every drive."""
    for seed in SEEDS:
        place_map = as_map(cache, f"{seed}", extractor, drives.noon[seed])
        others = {(other, MAP_CONDITION): drive for other, drive in drives.noon.items() if other != seed}
        for (other, condition), drive in {**drives.queries, **others}.items():
            name, on_map = f"{seed} by {other} {condition}", other == seed
            yield answered(place_map, extractor, drive, way, f"{seed}", name, on_map=on_map)
    for floor, mapped in drives.floors.items():
        place_map = as_map(cache, floor, extractor, mapped.part(0))
        for walked, walk in drives.floors.items():
            on_map = walked == floor
            drive = walk.part(1) if on_map else walk
            yield answered(place_map, extractor, drive, way, floor, f"{floor} by {walked}", on_map=on_map)


def fit(answers: list[Answers], *, compared: bool) -> Calibration:
    """One calibration of all; drives on and off the map count alike in sum, however many there are.

    Of those in doubt, too: without them the rest off the map are few, and chance decides what tells them apart.
    """
    on = sum(len(one.right) for one in answers if one.on_map)
    off = sum(len(one.right) for one in answers if not one.on_map)
    counts = np.concatenate([np.full(len(one.right), 1.0 if one.on_map else on / max(1, off)) for one in answers])
    rows, shares = np.concatenate([one.rows for one in answers]), np.concatenate([one.shares for one in answers])
    if not compared:
        rows[:, AGREEMENT] = 0.0
    return fit_calibration(rows, shares, np.concatenate([one.right for one in answers]), counts)


def report(
    way: str, answers: list[Answers], accepted: float, *, compared: bool, shipped: Calibration | None = None
) -> None:
    """Print what each town gets from the calibration of the others, or from the one shipped."""
    whose = "fitted on the others" if shipped is None else "as shipped"
    print(f"\n{way}, pictures {'compared' if compared else 'not compared'}, {whose}: accepted from {accepted:g}")
    print(f"{'drive':26}{'images':>7}{'accepted':>9}{'wrong':>6}{'median m':>9}{'in 95 %':>8}")
    errors, on_map = [], []
    false, off_map = 0, 0
    for one in answers:
        others = [other for other in answers if other.group != one.group]
        calibration = fit(others, compared=compared) if shipped is None else shipped
        rows = one.rows.copy()
        if not compared:
            rows[:, AGREEMENT] = 0.0
        probability = calibration.probabilities(rows, one.shares)
        taken = (probability >= accepted) & ~one.doubted
        if not one.on_map:
            false, off_map = false + int(taken.sum()), off_map + len(taken)
            continue
        errors.append(probability[~one.doubted])
        on_map.append(one.right[~one.doubted])
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
    parser.add_argument("--shipped", action="store_true", help="measure the calibrations in use instead of fitting")
    arguments = parser.parse_args()
    try:
        extractor = Extractor.open(arguments.weights)
        drives = all_drives(arguments.cache, extractor, arguments.footage)
        for way in WAYS:
            answers = list(collect(arguments.cache, extractor, drives, way))
            for compared in (False, True):
                if arguments.shipped:
                    shipped: Calibration = getattr(Calibrations(), f"{way}_compared" if compared else way)
                    report(way, answers, arguments.accepted, compared=compared, shipped=shipped)
                    continue
                report(way, answers, arguments.accepted, compared=compared)
                print(f"{way} = {fit(answers, compared=compared)}", flush=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
