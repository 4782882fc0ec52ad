"""Where the demo's two drives come from: a simulated town, or a folder of real images split in two."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from d2vpr_ros.bags.from_images import bag_from_images
from d2vpr_ros.bags.trajectory import PoseOf
from d2vpr_ros.errors import UserError
from d2vpr_ros.sim.drive import record_drive
from d2vpr_ros.sim.town import seed_purpose

LATERAL_OFFSET_M = 1.5
"""How far beside the map's track the town is driven again."""


@dataclass(frozen=True, eq=False)
class Drives:
    """What is mapped and what is asked: two bags, or one bag split by image number.

    Attributes:
        map_numbers, query_numbers: images of each bag to use; None is all of them.
        facts: (name, value) rows for the report.
    """

    map_bag: Path
    query_bag: Path
    map_numbers: range | None
    query_numbers: range | None
    facts: tuple[tuple[str, str], ...]


def record_town(seed: int, out: Path) -> Drives:
    """Record the two drives of a town: by noon along the street's middle, at dusk a lane's width beside it."""
    if seed_purpose(seed) != "evaluation":
        raise UserError(
            f"--seed {seed} is for {seed_purpose(seed)}; the demo uses a town that is not for training, 0 to 99"
        )
    record_drive(out / "map_drive", seed, "noon", show_progress=True)
    record_drive(out / "query_drive", seed, "dusk", lateral_offset_m=LATERAL_OFFSET_M, show_progress=True)
    facts = (("map", f"town {seed} at noon"), ("queries", f"the same town at dusk, {LATERAL_OFFSET_M:g} m to the side"))
    return Drives(out / "map_drive", out / "query_drive", None, None, facts)


def split_footage(footage: Path, split: str, pose_of: PoseOf, out: Path) -> Drives:
    """Turn a folder of images with poses.csv into a bag and say which images are the map and which the queries.

    Raises:
        UserError: the folder or the split is not what is expected.
    """
    summary = bag_from_images(footage, footage / "poses.csv", out / "drive", pose_of=pose_of)
    for note in summary.notes:
        print(f"      {note}")
    map_numbers, query_numbers = split_numbers(split, summary.images)
    facts = (("footage", footage.name), ("map", f"{split}: {len(map_numbers)} of {summary.images} images"))
    return Drives(out / "drive", out / "drive", map_numbers, query_numbers, facts)


def split_numbers(split: str, count: int) -> tuple[range, range]:
    """The image numbers that are the map and those that are queries: `even`, or `first:SHARE`."""
    if split == "even":
        return range(0, count, 2), range(1, count, 2)
    kind, _, share = split.partition(":")
    try:
        first = round(float(share) * count)
    except ValueError:
        first = 0
    if kind != "first" or not 0 < first < count:
        raise UserError(f"--map-split is '{split}'; expected 'even' or 'first:SHARE' with a share such as 0.8")
    return range(first), range(first, count)
