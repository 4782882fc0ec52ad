"""A recorded drive as a session of a map: what the map says about it, and how it is told from others."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from d2vpr_ros.bags.stream import Drive
from d2vpr_ros.describe import Extractor
from d2vpr_ros.errors import UserError
from d2vpr_ros.mapping.build import BuildOptions, CameraOf
from d2vpr_ros.mapping.counts import UNREADABLE, BuildCounts
from d2vpr_ros.mapping.header import Camera, MapHeader, Session
from d2vpr_ros.mapping.place_map import read_map
from d2vpr_ros.mapping.session import build_session, open_session, source_of
from d2vpr_ros.mapping.store import MapWriter
from d2vpr_ros.mapping.summary import stated_sigma_m

log = logging.getLogger(__name__)

_UNCERTAIN_M = 5.0  # an answer further from the truth counts as wrong (`d2vpr evaluate --radius`)


def header_of(drive: Drive, extractor: Extractor, options: BuildOptions) -> MapHeader:
    """The header of a map that begins with this drive."""
    metric = drive.poses is not None
    spacing = options.rule.spacing_m if metric else 1.0
    return MapHeader(
        extractor.identity,
        extractor.width,
        drive.frame_id,
        spacing,
        drive.origin,
        drive.geo_tagged,
        metric,
        image_range=drive.image_range,
    )


def session_of(drive: Drive, options: BuildOptions) -> Session:
    """The drive as a session: named like its bag; its source stands for the recording and all that places depend on.

    The recording is told by its name, times and counts: its images are not read, a bag may be of 100 GB.
    """
    bag = drive.bag
    poses: object = None
    if drive.pose_source in bag.topics:
        poses = asdict(bag.topics[drive.pose_source])
    elif drive.pose_source:
        poses = hashlib.sha256(Path(drive.pose_source).read_bytes()).hexdigest()
    name = bag.path.resolve().name
    facts: dict[str, object] = {
        "recording": [name, bag.start_ns, bag.end_ns],
        "cameras": [
            [camera.name, asdict(bag.topics[camera.topic]), camera.mount.numbers, camera.on_body.numbers]
            for camera in drive.cameras.values()
        ],
        "poses": [poses, drive.frame_id, drive.max_gap_s, drive.geo_tagged],
        "options": [asdict(options.rule), options.pictures, options.keep_all],
    }
    if drive.image_range:
        facts["image_range"] = list(drive.image_range)
    return Session(name, source_of(facts), complete=False)


def cameras_of(drive: Drive) -> CameraOf:
    """The drive's cameras, for pictures of any size."""

    def camera(name: str, width: int, height: int) -> Camera:
        known = drive.cameras[name]
        calibration = known.calibration
        k = None if calibration is None else calibration.k_for(width, height)
        if calibration is None or k is None:
            return Camera(name, width, height, known.mount)
        return Camera(name, width, height, known.mount, k, calibration.distortion_model, calibration.d)

    return camera


def add_drive(
    writer: MapWriter,
    session: int,
    drive: Drive,
    extractor: Extractor,
    options: BuildOptions,
    on_image: Callable[[], object] = lambda: None,
    on_stored: Callable[[int], object] = lambda place: None,
) -> BuildCounts:
    """Store a drive's places in a session that is begun, and mark it as complete (`build_session`)."""
    counts = build_session(writer, session, drive.frames, extractor, cameras_of(drive), options, on_image, on_stored)
    counts.leave_out("before the first or after the last pose", drive.outside)
    counts.leave_out(f"in a gap of the poses over {drive.max_gap_s:g} s", drive.in_gaps)
    counts.leave_out(UNREADABLE, drive.unreadable)
    return counts


def build_map(
    path: Path,
    drive: Drive,
    extractor: Extractor,
    options: BuildOptions,
    on_image: Callable[[], object] = lambda: None,
    on_stored: Callable[[int], object] = lambda place: None,
) -> BuildCounts:
    """Build a map from a drive, or go on where an interrupted run of the same stopped.

    Raises:
        UserError: as `open_session` and `build_session`; or no image became a place.
    """
    session = session_of(drive, options)
    with open_session(path, header_of(drive, extractor, options), session) as (writer, number):
        counts = add_drive(writer, number, drive, extractor, options, on_image, on_stored)
    if not counts.places and not counts.earlier:
        raise UserError(f"no map was written to {path}: {session.name} gives {counts}")
    sigma_m = stated_sigma_m(read_map(path)) if drive.origin is not None else None
    if sigma_m is not None and sigma_m > _UNCERTAIN_M:
        log.warning(
            "%s: the fixes on %s are exact to %.1f m only (stated standard deviation): answers cannot be better, and "
            "there are few where neighbouring places are shifted against each other; better take the poses of SLAM or "
            "odometry (--pose-topic) and only latitude and longitude from GPS (--geo-topic %s)",
            session.name,
            drive.pose_source,
            sigma_m,
            drive.pose_source,
        )
    return counts
