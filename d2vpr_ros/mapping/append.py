"""Add a recorded drive to a map: built in a file of its own first, then joined, so the map has all of it or none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from d2vpr_ros.bags.stream import Drive
from d2vpr_ros.describe import Extractor
from d2vpr_ros.errors import UserError
from d2vpr_ros.mapping.build import BuildOptions
from d2vpr_ros.mapping.counts import BuildCounts
from d2vpr_ros.mapping.frames import Frames, check_frames, find_transform
from d2vpr_ros.mapping.header import Session
from d2vpr_ros.mapping.join import Joined, join_places
from d2vpr_ros.mapping.place_map import PlaceMap, check_model, read_map
from d2vpr_ros.mapping.recording import build_map, header_of, session_of
from d2vpr_ros.mapping.store import open_writable


@dataclass(frozen=True, eq=False)
class Appended:
    """Attributes:
    built: what the drive gave; None if it was built before and only waited to be joined.
    joined: what came into the map.
    frames: in words, how the frames were joined.
    """

    built: BuildCounts | None
    joined: Joined
    frames: str


def beside(path: Path, session: Session) -> Path:
    """Where the places of a drive wait until they are joined to the map at `path`."""
    return path.with_name(f"{path.stem}.append-{session.source[:8]}{path.suffix}")


def append_drive(
    place_map: PlaceMap,
    drive: Drive,
    extractor: Extractor,
    options: BuildOptions,
    frames: Frames,
    on_image: Callable[[], object] = lambda: None,
) -> Appended:
    """Add a drive to a map, in place.

    An interrupted call leaves the map as it was, and what it has built so far in the file `beside` it; the same call
    goes on with that. The file is removed once the map has its places.

    Args:
        frames: how the drive's frame and the map's lie to each other.

    Raises:
        UserError: another model or projection; the map has this drive; the frames cannot be joined; nothing became a
            place; the map cannot be written.
    """
    check_model(place_map, extractor.identity)
    check_frames(
        place_map.header, header_of(drive, extractor, options), f"{place_map.path} and {drive.bag.path}", frames
    )
    session = session_of(drive, options)
    waiting = beside(place_map.path, session)
    for held in place_map.session_table.values():
        if held.source == session.source:
            waiting.unlink(missing_ok=True)  # of a run that was stopped when it had joined it
            raise UserError(_held(place_map, held))
    built = None
    if not _is_built(waiting, session):
        built = build_map(waiting, drive, extractor, options, on_image)
    other = read_map(waiting)
    try:
        transform, how = find_transform(place_map, other, frames)
    except UserError as error:
        raise UserError(
            f"{error}; what was built is kept: join it with `d2vpr map merge {place_map.path} {waiting} -o NEW`, or "
            "remove it"
        ) from None
    with open_writable(place_map.path) as writer:
        joined = join_places(writer, other, transform)
    waiting.unlink()
    return Appended(built, joined, how)


def _is_built(waiting: Path, session: Session) -> bool:
    """Whether an earlier run built the drive to its end, and was stopped or refused later."""
    if not waiting.exists():
        return False
    try:
        return any(held.source == session.source and held.complete for held in read_map(waiting).session_table.values())
    except UserError:  # begun, but without a place yet; or whatever else it is, `build_map` says it
        return False


def _held(place_map: PlaceMap, session: Session) -> str:
    if session.complete:
        return f"map {place_map.path} already holds all of {session.name}"
    return (
        f"map {place_map.path} holds a part of {session.name}, from an interrupted build; run that build again to "
        "complete it"
    )
