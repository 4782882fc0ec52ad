"""What the README says of simulated towns, from nothing: ten drives over two maps, being carried, and off the map.

    python -m models.bench.town --folder FOLDER
    python -m models.bench.town --folder FOLDER --footage FOOTAGE      # real pictures off the map, too

Maps are the towns of seeds 0 and 1 at noon; drives go through the same town, 1.5 m aside, in five conditions; off the
map are the towns of seeds 2 and 3 and the footage. Everything is done by the commands a user has (`d2vpr sim drive`,
`map build`, `evaluate`), and FOLDER keeps what is recorded, 400 MB: it is not recorded again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from d2vpr_ros.cli.main import main as d2vpr
from d2vpr_ros.mapping import read_map

MAPS, ELSEWHERE = (0, 1), (2, 3)
CONDITIONS = ("dusk", "night", "snow", "rain", "overcast")
ASIDE_M, RATE_HZ = 1.5, 2.5
KIDNAPPINGS = 50
FOOTAGE = ("campus_loop_ros", "sevenscenes_tsdf", "ie_tower", "grief_stromovka_pairs", "opensfm_lund")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--footage", type=Path)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    elsewhere = [drive(args.folder, seed, "noon") for seed in ELSEWHERE]
    if args.footage:
        elsewhere += [from_images(args.folder, args.footage / name) for name in FOOTAGE]
    for seed in MAPS:
        place_map = args.folder / f"{seed}.d2map"
        build_map(drive(args.folder, seed, "noon"), place_map)
        queries = [drive(args.folder, seed, condition, ASIDE_M) for condition in CONDITIONS]
        print(f"\nseed {seed}: on the map, then carried away on each drive")
        command("evaluate", place_map, *queries, "--no-gps", "--kidnap", KIDNAPPINGS)
        print(f"\nseed {seed}: off the map")
        command("evaluate", place_map, *elsewhere, "--no-gps", "--off-map")


def drive(
    folder: Path,
    seed: int,
    condition: str,
    aside_m: float = 0.0,
    rate_hz: float = RATE_HZ,
    route: int = 0,
    duration_s: float | None = None,
) -> Path:
    """A drive through a town, recorded if it is not there."""
    bag = folder / f"{seed}_{condition}_{aside_m:g}{'' if rate_hz == RATE_HZ else f'_{rate_hz:g}Hz'}"
    bag = bag.with_name(bag.name + (f"_loop{route}" if route else "") + (f"_{duration_s:g}s" if duration_s else ""))
    if not is_whole(bag):
        asked = ("--condition", condition, "--lateral-offset", aside_m, "--rate", rate_hz, "--compressed")
        part = () if duration_s is None else ("--duration", duration_s)
        command("sim", "drive", "-o", bag, "--seed", seed, "--route", route, *asked, *part)
    return bag


def from_images(folder: Path, footage: Path) -> Path:
    """The pictures of a folder as a drive."""
    bag = folder / footage.name
    if not is_whole(bag):
        command("bag", "from-images", footage / "images", footage / "poses.csv", "-o", bag)
    return bag


def is_whole(bag: Path) -> bool:
    """Whether a bag is there and was closed: one that was interrupted is not."""
    return (bag / "metadata.yaml").is_file()


def build_map(bag: Path, place_map: Path, *options: object) -> None:
    """The map of a bag, unless it is there; one whose building was interrupted goes on."""
    if not place_map.exists() or not all(session.complete for session in read_map(place_map).session_table.values()):
        command("map", "build", bag, "-o", place_map, *options)


def command(*words: object) -> None:
    """Do what a user would type."""
    status = d2vpr([str(word) for word in words])
    if status:
        sys.exit(status)


if __name__ == "__main__":
    main()
