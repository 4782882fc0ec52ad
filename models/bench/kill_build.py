"""Kill `d2vpr map build` with SIGKILL at random moments and see that nothing it had reported is lost.

    python -m models.bench.kill_build              # 50 times, on a drive through the simulated town

After each kill the map is opened on a copy, for reading and for writing, and has to hold every place that was reported
as stored. Then the same command runs again on what the kill left. Each map that gets to its end has to equal one that
was built in one go: the same places, poses and pictures, descriptors but for rounding.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from d2vpr_ros.mapping import PlaceMap, read_map
from d2vpr_ros.mapping.store import open_writable
from d2vpr_ros.sim.drive import record_drive

COMMAND = [sys.executable, "-m", "d2vpr_ros.cli.main", "map", "build"]
ROUNDING = 2e-3  # of a descriptor's number: float16, and batches of other sizes


@dataclass
class Tally:
    """Attributes:
    reported: ids of the places reported as stored, of the map in hand.
    kills, before_a_place: how many, and how many of them before the run had stored anything.
    places: checked after the kills.
    maps: that got to their end.
    """

    reported: set[int] = field(default_factory=set)
    kills: int = 0
    before_a_place: int = 0
    places: int = 0
    maps: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="(50)")
    parser.add_argument("--bag", type=Path, help="a recording with poses instead of the simulated drive")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (1)")
    args = parser.parse_args()
    draw = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bag = args.bag or folder / "drive"
        if args.bag is None:
            record_drive(bag, 7, "noon", duration_s=30.0, compressed=True)
        began = time.monotonic()
        subprocess.run([*COMMAND, str(bag), "-o", str(folder / "whole.d2map")], check=True)
        start_s = (time.monotonic() - began) / 2  # about; the other half it stores places
        whole, tally = read_map(folder / "whole.d2map"), Tally()
        killed = folder / "killed.d2map"
        while tally.kills < args.kills:
            if run_and_kill(bag, killed, draw, start_s, len(whole), tally):
                check_after_kill(killed, folder / "copy", tally)
            else:
                finish(killed, whole, tally)
            print(f"\r{tally.kills} kills, {tally.maps} maps to their end", end="", flush=True)
        # The last kill may have come between the end of the build and that of the process.
        if not (tally.reported and is_complete(killed)):
            subprocess.run([*COMMAND, str(bag), "-o", str(killed)], check=True, stdout=subprocess.DEVNULL)
        finish(killed, whole, tally)
    print(
        f"\r{tally.kills} kills, {tally.before_a_place} of them before a run had stored a place; "
        f"{tally.places} times a reported place was looked for, 0 missing; "
        f"{tally.maps} maps built on to their end, all equal to the one built in one go ({len(whole)} places)"
    )


def run_and_kill(bag: Path, path: Path, draw: random.Random, start_s: float, places: int, tally: Tally) -> bool:
    """Run the command until it is killed at a moment drawn at random; whether it was, before its end."""
    process = subprocess.Popen([*COMMAND, str(bag), "-o", str(path), "--report-stored"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    stored: list[int] = []
    if draw.random() < 0.2:  # while it starts, creates the map, or goes through what is there already
        time.sleep(draw.uniform(0.0, start_s))
    else:
        wanted = draw.randint(1, max(2, places // 8))
        for line in process.stdout:
            stored += number_in(line)
            if len(stored) >= wanted:
                break
        time.sleep(draw.expovariate(200.0))
    process.kill()
    stored += [number for line in process.stdout.read().splitlines(keepends=True) for number in number_in(line)]
    tally.reported.update(stored)
    if process.wait() != -signal.SIGKILL:
        return False
    tally.kills += 1
    tally.before_a_place += not stored
    return True


def is_complete(path: Path) -> bool:
    return all(session.complete for session in read_map(path).session_table.values())


def number_in(line: bytes) -> list[int]:
    """The place that a line reports; a line cut off by the kill reports none."""
    words = line.split()
    return [int(words[1])] if line.endswith(b"\n") and words[:1] == [b"stored"] else []


def check_after_kill(path: Path, folder: Path, tally: Tally) -> None:
    """Open a copy of what the kill left."""
    if not tally.reported:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for part in path.parent.glob(path.name + "*"):
        shutil.copy(part, folder)
    found = set(read_map(folder / path.name).ids.tolist())
    with open_writable(folder / path.name):
        pass
    recovered = set(read_map(folder / path.name).ids.tolist())
    lost = tally.reported - (found & recovered)
    if lost:
        raise SystemExit(f"\nafter kill {tally.kills} {len(lost)} reported places are lost: {sorted(lost)}")
    tally.places += len(tally.reported)


def finish(path: Path, whole: PlaceMap, tally: Tally) -> None:
    """A map at its end: compare it, and begin another."""
    built = read_map(path)
    poses = [np.hstack([found.positions, found.quaternions]) for found in (built, whole)]
    same = (
        np.array_equal(built.stamps_ns, whole.stamps_ns)
        and np.array_equal(poses[0], poses[1])
        and np.abs(built.descriptors - whole.descriptors).max() < ROUNDING
        and all(built.picture(row) == whole.picture(row) for row in range(len(whole)))
        and is_complete(path)
    )
    if not same:
        raise SystemExit(f"\nafter {tally.kills} kills {path} is another map: {len(built)} places, not {len(whole)}")
    tally.maps += 1
    tally.reported.clear()
    for part in path.parent.glob(path.name + "*"):
        part.unlink()


if __name__ == "__main__":
    main()
