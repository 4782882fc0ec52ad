"""Building a session from a recording: in a new map, or on with what an earlier run left unfinished."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from d2vpr_ros.describe import Extractor
from d2vpr_ros.errors import UserError
from d2vpr_ros.geometry import Pose
from d2vpr_ros.images.deep import WHOLE_RANGE
from d2vpr_ros.images.frame import PosedFrame
from d2vpr_ros.mapping.build import BuildOptions, CameraOf, MapBuilder
from d2vpr_ros.mapping.counts import BuildCounts
from d2vpr_ros.mapping.database import connect
from d2vpr_ros.mapping.header import MapHeader, Session
from d2vpr_ros.mapping.place_map import read_header
from d2vpr_ros.mapping.store import MapWriter, create_map, is_blank, open_writable

Frames = Callable[[Callable[[str, Pose, int], bool]], Iterable[PosedFrame]]


def source_of(facts: Mapping[str, object]) -> str:
    """Tells a recording and the options it is built with apart from others: a hash of JSON-like facts about them."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@contextmanager
def open_session(path: Path, header: MapHeader, session: Session) -> Iterator[tuple[MapWriter, int]]:
    """A map to write, and the id of the session that a recording's places go into.

    The map is made anew, or is there already with this session (told by `Session.source`) unfinished.

    Raises:
        UserError: the map is there and holds the whole recording, or another one, or is of another model; it cannot
            be written.
    """
    if not path.exists() or is_blank(path):
        with create_map(path, header) as writer:
            yield writer, writer.begin_session(session)
        return
    with connect(path) as reading:  # looked at first: what is refused stays as it is, to the byte
        number = _unfinished(path, MapWriter(reading, read_header(path, reading)), header, session)
    with open_writable(path) as writer:
        yield writer, writer.begin_session(session) if number is None else number


def _unfinished(path: Path, existing: MapWriter, header: MapHeader, session: Session) -> int | None:
    """The session to go on with; None if the build was killed before it had begun one."""
    append = f"add a recording to it with: d2vpr map append {path} BAG"
    if not existing.has_sessions():
        return None
    found = existing.find_session(session.source)
    if found is None:
        raise UserError(
            f"map {path} exists already and is no interrupted build of {session.name} with these options; choose "
            f"another name, or {append}"
        )
    if found[1].complete:
        raise UserError(f"map {path} already holds all of {session.name}; {append}")
    differences = existing.header.model.differences(header.model)
    if differences:
        raise UserError(
            f"map {path} was started with another model ({differences}); use the same weights, or choose another name"
        )
    return found[0]


def build_session(
    writer: MapWriter,
    session: int,
    frames: Frames,
    extractor: Extractor,
    camera: CameraOf,
    options: BuildOptions,
    on_image: Callable[[], object] = lambda: None,
    on_stored: Callable[[int], object] = lambda place: None,
) -> BuildCounts:
    """Store the places of a recording in a session that is begun, and mark it as complete.

    Args:
        frames: gives the recording's frames in order, the same at every call, without those that it is told to leave
            out: `Drive.frames`.
        camera, options, on_stored: as for `MapBuilder`.
        on_image: called for every image that has a pose.

    Raises:
        UserError: from `frames`; or the recording is not the one that an interrupted run had begun with.
    """
    with MapBuilder(writer, extractor, session, camera, options, on_stored) as builder:

        def keep(name: str, pose: Pose, stamp_ns: int) -> bool:
            on_image()
            return builder.keep(name, pose, stamp_ns)

        for posed in frames(keep):
            builder.add(posed)
    for name, stamp_ns in builder.unmatched().items():
        raise UserError(
            f"the recording has no image of {name} at {stamp_ns * 1e-9:.3f} s, the last one of the interrupted build; "
            "the recording has changed: build another map"
        )
    writer.finish_session(session)
    return builder.counts


@contextmanager
def live_session(
    path: Path,
    header: MapHeader,
    append: bool,
    extractor: Extractor,
    camera: CameraOf,
    options: BuildOptions,
    on_stored: Callable[[int], object] = lambda place: None,
) -> Iterator[MapBuilder]:
    """A builder for frames that come while the robot drives: into a new map, or as a new session of one.

    Args:
        on_stored: as for `MapBuilder`.

    Raises:
        UserError: the map is there and `append` is false, or is of another model or frame; it cannot be written.
    """
    exists = path.exists() and not is_blank(path)
    if exists and not append:
        raise UserError(f"map {path} exists already; choose another name, or add to it: --ros-args -p append:=true")
    if exists:
        with connect(path) as reading:
            _check_same(path, read_header(path, reading), header)
    with open_writable(path) if exists else create_map(path, header) as writer:
        session = writer.begin_session(Session(path.stem, complete=False))
        with MapBuilder(writer, extractor, session, camera, options, on_stored) as builder:
            yield builder
        writer.finish_session(session)


def _check_same(path: Path, existing: MapHeader, header: MapHeader) -> None:
    differences = existing.model.differences(header.model)
    if differences:
        raise UserError(f"map {path} was made by another model than the one in use ({differences}); use those weights")
    if existing.image_range != header.image_range:
        raise UserError(
            f"map {path} has the image range {existing.image_range or WHOLE_RANGE}, the new images have "
            f"{header.image_range or WHOLE_RANGE}; set the parameter image_range to that of the map"
        )
    if (existing.frame, existing.metric) != (header.frame, header.metric):
        found = existing.frame if existing.metric else "a sequence without metres"
        raise UserError(
            f"map {path} is in the frame {found}, the poses are in {header.frame}; use poses in its frame, or build "
            "another map"
        )
