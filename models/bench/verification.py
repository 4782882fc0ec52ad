"""What the inliers of geometric verification are worth, how well a heading is corrected, and what that costs.

    python -m models.bench.verification --footage FOOTAGE
    python -m models.bench.verification --footage FOOTAGE --detectors      # ORB, BRISK, AKAZE and SIFT beside

Pairs of one place: calibration towns at noon against 1.5 m aside at noon (other cars), at dusk, at night and in snow;
neighbouring frames of the footage. Pairs of different places: of those known to be elsewhere, for each query six at
random and the six that the network finds most alike. grief_stromovka_pairs, sevenscenes_tsdf and the tower's held-out
floors are reported only: no threshold and no fit comes from them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from d2vpr_ros.describe import Extractor
from d2vpr_ros.geometry import Array
from d2vpr_ros.images.decode import decode_compressed
from d2vpr_ros.localize.verification import Features, Picture, Verification, compare, extract
from d2vpr_ros.mapping.picture import encode_picture, shrink
from models.bench.picture_pairs import PairSet, choose, footage_sets, town_sets

Detector = Callable[[Picture, "Array | None"], Features]
Inliers = dict[str, tuple[list[int], list[int]]]
"""By set: of pairs of one place, and of different ones."""

REPORTED_ONLY = ("tower held out", "grief snow", "sevenscenes")
BOUNDS = (8, 15, 20, 30, 40, 60, 100, 400)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--footage", type=Path, required=True)
    parser.add_argument("--towns", type=int, nargs="+", default=[530, 531, 532], metavar="SEED")
    parser.add_argument("--places", type=int, default=40, help="of each town (40)")
    parser.add_argument("--detectors", action="store_true", help="compare detectors, on every fourth query")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    towns = list(town_sets(args.towns, args.places, yaw_deg=5.0))
    extractor, random = Extractor.open("nano"), np.random.default_rng(0)
    sets = [choose(one, extractor, random) for one in (*towns, *footage_sets(args.footage))]
    if args.detectors:
        for name, detector in {"corners, upright SIFT": extract, **other_detectors()}.items():
            print_separability(name, sets, detector, every=4)
        return
    print_ratio(print_separability("corners, upright SIFT", sets, extract))
    for yaw_deg in (5.0, 20.0):
        print_heading(list(town_sets(args.towns, args.places, yaw_deg)), yaw_deg)
    print_time(sets)


def inliers(one: PairSet, detector: Detector, every: int) -> tuple[list[int], list[int]]:
    """Of the pairs of one place, and of those of different ones; of every so many queries."""
    queries = [detector(picture, None) for picture in one.queries[::every]]
    places = [detector(picture, None) for picture in one.places]
    same, different = (
        [compare(queries[row], places[column]).inliers for row, column in np.argwhere(pairs[::every])]
        for pairs in (one.same, one.different)
    )
    return same, different


def print_separability(title: str, sets: list[PairSet], detector: Detector, every: int = 1) -> Inliers:
    """Shares of pairs of one place above what 1 % and 0.1 % of pairs of different places reach; what may be fitted."""
    found: Inliers = {}
    for one in sets:
        same, different = inliers(one, detector, every)
        known = found.setdefault(one.name, ([], []))
        known[0].extend(same)
        known[1].extend(different)
    fitted = {name: pairs for name, pairs in found.items() if name not in REPORTED_ONLY}
    pooled = np.concatenate([different for _, different in fitted.values()])
    limits = [int(np.quantile(pooled, share, method="higher")) + 1 for share in (0.99, 0.999)]
    print(f"\n{title}: 1 % of different places reach {limits[0]} inliers, 0.1 % {limits[1]} ({len(pooled)} pairs)")
    print(f"{'':18} pairs  5 %  50 %  different: pairs  50 %  99 %  most   same >= {limits[0]}  >= {limits[1]}")
    for name, (same, different) in found.items():
        low, middle = np.quantile(same, [0.05, 0.5])
        usual, rare = np.quantile(different, [0.5, 0.99])
        shares = "  ".join(f"{np.mean(np.array(same) >= limit):9.3f}" for limit in limits)
        numbers = f"{len(same):6}{low:5.0f}{middle:6.0f}{len(different):18}{usual:6.0f}{rare:6.0f}{max(different):6}"
        print(f"{name:18}{numbers}  {shares}")
    return fitted


def print_ratio(found: Inliers) -> None:
    """Log likelihood ratio a + b log(1 + inliers), every set and both kinds of pair counting alike.

    Inliers up to 10 are taken for 10: two pictures of one place may have none at night, and chance gives ten.
    """
    values = [np.log1p(np.maximum(pairs, 10)) for both in found.values() for pairs in both]
    rows = np.concatenate(values)
    labels = np.concatenate([np.full(len(v), 1.0 - number % 2) for number, v in enumerate(values)])
    counts = np.concatenate([np.full(len(v), 1 / len(v)) for v in values])

    def loss(line: Array) -> float:
        odds = line[0] + line[1] * rows
        return float((counts * np.logaddexp(0, np.where(labels == 1, -odds, odds))).sum())

    a, b = minimize(loss, [0.0, 0.0]).x
    print(f"log likelihood ratio of same to different: {a:.2f} + {b:.2f} log(1 + max(inliers, 10))")
    reached = np.round(np.expm1(rows))
    for low, high in zip((0, *BOUNDS[1:]), BOUNDS[1:], strict=False):
        inside = (reached >= low) & (reached < high)
        same, other = (counts[inside & (labels == label)].sum() for label in (1, 0))
        measured = f"{np.log(same / other):6.2f}" if same and other else "   all of one kind"
        fitted = a + b * np.log1p(max(10, (low + high - 1) / 2))
        print(f"  {low:3} to {high - 1:3}: measured {measured}, fitted {fitted:6.2f}")


def print_heading(sets: list[PairSet], yaw_deg: float) -> None:
    """The error of the rotation found, beside that of taking the place's for the query's."""
    rows: list[tuple[int, float, float]] = []  # inliers, degrees without correction, with it (NaN: none told)
    for one in sets:
        for query, place, truth in zip(one.queries, one.places, one.turned or [], strict=True):
            found = compare(extract(query, one.k), extract(place, one.k))
            rows.append((found.inliers, float(np.degrees(truth.magnitude())), degrees_off(found, truth)))
    print(f"\nrotation, town at noon, dusk, night and in snow, 1.5 m aside, turned by up to {yaw_deg:g} degrees")
    print("inliers    pairs  told   uncorrected 50 %  95 %   corrected 50 %  95 %  most (degrees, of those told)")
    count, without, corrected = np.array(rows).T
    for low, high in zip((0, *BOUNDS, 40, 60), (*BOUNDS, *[10_000] * 3), strict=True):
        inside = (count >= low) & (count < high)
        told = inside & np.isfinite(corrected)
        if told.any():
            numbers = (*np.quantile(without[told], [0.5, 0.95]), *np.quantile(corrected[told], [0.5, 0.95, 1.0]))
            print(f"{low:4} to {high - 1:4}{inside.sum():6}{told.sum():6}", *(f"{number:10.1f}" for number in numbers))


def degrees_off(found: Verification, truth: Rotation) -> float:
    return float("nan") if found.rotation is None else float(np.degrees((truth.inv() * found.rotation).magnitude()))


def other_detectors() -> dict[str, Detector]:
    """Detectors of OpenCV; a binary descriptor as +-1, so that products count equal bits."""

    def detector(made: cv2.Feature2D) -> Detector:
        def features(rgb: Picture, k: Array | None) -> Features:
            points, rows = made.detectAndCompute(cv2.cvtColor(shrink(rgb), cv2.COLOR_RGB2GRAY), None)  # type: ignore[call-overload]
            if rows is None:
                return Features(np.zeros((0, 2), np.float32), np.zeros((0, 1), np.float32), k)
            best = np.argsort([-point.response for point in points])[:600]
            numbers = np.sqrt(rows) if rows.dtype == np.float32 else np.unpackbits(rows, axis=1) * 2.0 - 1
            numbers = numbers[best] / np.linalg.norm(numbers[best], axis=1, keepdims=True)
            return Features(np.array([points[n].pt for n in best], np.float32), numbers.astype(np.float32), k)

        return features

    return {
        "ORB": detector(cv2.ORB.create(600, 1.2, 6, fastThreshold=7)),
        "BRISK": detector(cv2.BRISK.create(20, 2)),
        "AKAZE": detector(cv2.AKAZE.create(threshold=2e-4, nOctaves=3)),
        "SIFT": detector(cv2.SIFT.create(400, contrastThreshold=0.01)),
    }


def print_time(sets: list[PairSet]) -> None:
    """Milliseconds of one core for an image against a place with both intrinsics, beside SIFT on one picture."""
    k = np.array([[190.0, 0, 160], [0, 190, 120], [0, 0, 1]])
    whole, fixed = [], []
    for one in sets:
        for query, place in list(zip(one.queries, one.places, strict=False))[:12]:
            jpeg = encode_picture(place)
            began = time.process_time()
            compare(extract(query, k), extract(decode_compressed(np.frombuffer(jpeg, np.uint8)), k))
            whole.append(1e3 * (time.process_time() - began))
            grey = cv2.cvtColor(shrink(query), cv2.COLOR_RGB2GRAY)
            began = time.process_time()
            cv2.SIFT.create(400, contrastThreshold=0.01).detectAndCompute(grey, None)  # type: ignore[call-overload]
            fixed.append(1e3 * (time.process_time() - began))
    middle, rare = np.quantile(whole, [0.5, 0.99])
    print(f"\na comparison takes {middle:.0f} ms of one core (99 %: {rare:.0f} ms), {middle / np.median(fixed):.2f} of "
          f"SIFT.detectAndCompute on one picture ({np.median(fixed):.0f} ms)")  # fmt: skip


if __name__ == "__main__":
    main()
