"""The tours that loop closure is measured on: towns that nothing was fitted on, five by day, five with another light
on the second lap."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from d2vpr_ros.sim.drive import record_drive
from d2vpr_ros.sim.routes import tour
from d2vpr_ros.sim.town import build_town


@dataclass(frozen=True)
class Tour:
    """A drive at noon.

    Attributes:
        seed: of the town, the way and the noise.
        metres: of one lap, about.
        laps: a little more than one: the end is the beginning.
        later: condition of the second half; empty: the same light.
    """

    seed: int
    metres: float
    laps: float
    later: str = ""

    @property
    def name(self) -> str:
        return f"{self.seed} noon{', then ' + self.later if self.later else ''}"


TOURS = (
    *(Tour(seed, 800.0, 1.15) for seed in range(560, 565)),
    *(Tour(565 + number, 400.0, 2.0, later) for number, later in enumerate(("dusk", "rain", "night", "dusk", "rain"))),
)


def record(one: Tour, folder: Path) -> Path:
    """The bag of a tour, recorded if it is not in the folder."""
    bag = folder / f"tour_{one.seed}"
    if not bag.exists():
        partial = folder / f"tour_{one.seed}.partial"
        way = tour(build_town(one.seed), one.metres, one.seed)
        record_drive(partial, one.seed, laps=one.laps, way=way, later=one.later or None, sensor_seed=one.seed)
        partial.rename(bag)
    return bag


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the bags are kept, 0.2 GB each")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for one in tqdm(TOURS):
        record(one, args.folder)


if __name__ == "__main__":
    main()
