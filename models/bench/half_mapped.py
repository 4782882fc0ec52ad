"""Does a localized robot fall silent when it drives out of the map? Towns of which half a loop is mapped.

    python -m models.bench.half_mapped --folder FOLDER
    python -m models.bench.half_mapped --folder FOLDER --seeds 63 --conditions overcast --no-odometry

A map is the first 35 s of a loop at noon. Drives go around the whole loop, and around another loop that shares some of
its streets and leaves it at a corner, 0.8 m aside. An answer is wrong if it is over 5 m off, and late if the nearest
place is over 3 m away. Everything is done by the commands a user has; FOLDER keeps what is recorded, 30 MB a town.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path

from models.bench.town import build_map, command, drive

SEEDS = tuple(range(60, 70))
CONDITIONS = ("overcast", "dusk", "night", "snow")
LOOPS = (0, 1)
MAPPED_S, ASIDE_M = 35.0, 0.8
WRONG_M, LATE_M = 5.0, 3.0


@dataclass(frozen=True)
class Counts:
    """Images of drives.

    Attributes:
        mapped: with a place within LATE_M; answered: of those.
        outside: the others; late: of those, answered.
        wrong: answers over WRONG_M off; worst_m: how far, at most.
    """

    mapped: int = 0
    answered: int = 0
    outside: int = 0
    late: int = 0
    wrong: int = 0
    worst_m: float = 0.0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.mapped + other.mapped,
            self.answered + other.answered,
            self.outside + other.outside,
            self.late + other.late,
            self.wrong + other.wrong,
            max(self.worst_m, other.worst_m),
        )

    def line(self, name: str) -> str:
        """A row of the table."""
        return (
            f"| {name} | {self.answered} of {self.mapped} | {self.late} of {self.outside} | {self.wrong} | "
            f"{self.worst_m:.1f} m |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, metavar="SEED", help="of the towns")
    parser.add_argument("--conditions", nargs="+", default=CONDITIONS, metavar="NAME")
    parser.add_argument("--no-odometry", action="store_true")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    options = ("--no-odometry", "--top-speed", 8) if args.no_odometry else ()
    rows: dict[str, Counts] = {}
    for seed in args.seeds:
        place_map = args.folder / f"{seed}_half.d2map"
        build_map(drive(args.folder, seed, "noon", duration_s=MAPPED_S), place_map)
        for loop in LOOPS:
            for condition in args.conditions:
                bag = drive(args.folder, seed, condition, ASIDE_M, route=loop)
                found = evaluated(place_map, bag, *options)
                print(f"{place_map.name}, {bag.name}: {found}", flush=True)
                for name in (f"loop {loop}, {condition}", "all"):
                    rows[name] = rows.get(name, Counts()) + found
    print("\n| drives | answered on the map | answered outside | wrong | most |\n|---|---:|---:|---:|---:|")
    print("\n".join(counts.line(name) for name, counts in sorted(rows.items(), key=lambda row: row[0] == "all")))


def evaluated(place_map: Path, bag: Path, *options: object) -> Counts:
    """What `d2vpr evaluate` counts of one drive."""
    per_image = place_map.with_suffix(".csv")
    command("evaluate", place_map, bag, "--no-gps", "--radius", LATE_M, "--csv", per_image, *options)
    with per_image.open(encoding="utf-8", newline="") as file:
        return counted(list(csv.DictReader(file)))


def counted(images: list[dict[str, str]]) -> Counts:
    """Of the lines that `d2vpr evaluate --radius 3 --csv` writes."""
    mapped = [image for image in images if image["answerable"] == "1"]
    off = [float(image["off"]) for image in images if image["accepted"] == "1"]
    answered = sum(image["accepted"] == "1" for image in mapped)
    return Counts(
        len(mapped),
        answered,
        len(images) - len(mapped),
        len(off) - answered,
        sum(one > WRONG_M for one in off),
        max(off, default=0.0),
    )


if __name__ == "__main__":
    main()
