"""A map to look at: one page with its places on a plan, and the picture of the place one points at."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from d2vpr_ros.evaluation.page import write_page
from d2vpr_ros.evaluation.plot import widest_axes
from d2vpr_ros.mapping.database import connect
from d2vpr_ros.mapping.loop_table import BELIEVED, read_closures, read_odometry
from d2vpr_ros.mapping.place_map import PlaceMap
from d2vpr_ros.mapping.summary import extent, facts, summarise_sessions

PICTURE_MB = 24.0
"""Megabytes of pictures in a page: some 1500 of 320 x 240; a phone still opens it."""

_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True)
class ViewSummary:
    """What went into a page: places, pictures of those the map has, and its bytes."""

    places: int
    embedded: int
    pictures: int
    size: int


def write_view(place_map: PlaceMap, path: Path, picture_mb: float = PICTURE_MB) -> ViewSummary:
    """Write the page.

    Args:
        picture_mb: megabytes of JPEG to embed at most; where the map has more, every so many places' are left out.

    Raises:
        OSError: the file cannot be written.
        UserError: what loop closure left in the map cannot be read.
    """
    sizes = place_map.picture_sizes()
    rows = thin(sizes, round(picture_mb * 1e6))
    pictures = {
        int(row): base64.b64encode(jpeg).decode() for row in rows if (jpeg := place_map.picture(int(row))) is not None
    }
    stored = int(np.count_nonzero(sizes))
    write_page(
        path,
        "view",
        place_map.path.name,
        ["plan.js", "paint.js", "view.js"],
        data=_data(place_map),
        pictures=pictures,
        stored=stored,
        extent=extent(place_map),
        geo_tagged=place_map.header.geo_tagged,
        facts=facts(place_map),
        sessions=summarise_sessions(place_map),
    )
    return ViewSummary(len(place_map), len(pictures), stored, path.stat().st_size)


def thin(sizes: npt.NDArray[np.int64], limit: int) -> npt.NDArray[np.int64]:
    """The rows, evenly spread, of as many pictures as fit: (N,) bytes each, 0 for none, `limit` bytes together."""
    rows = np.flatnonzero(sizes)
    count = len(rows)
    while count and sizes[chosen := rows[_spread(len(rows), count)]].sum() > limit:
        # Pictures differ in size: go down in proportion, and at least by one.
        count = min(count - 1, int(count * limit / int(sizes[chosen].sum())))
    return rows[_spread(len(rows), count)]


def _spread(length: int, count: int) -> npt.NDArray[np.int64]:
    """`count` different numbers below `length`, evenly spread."""
    return np.arange(count) * length // max(count, 1)


def _data(place_map: PlaceMap) -> dict[str, object]:
    """The places as columns, which take a third of what objects would: 13 MB for 100 000 places."""
    header = place_map.header
    number_of = {key: number for number, key in enumerate(sorted(place_map.session_table))}
    names = list(dict.fromkeys(camera.name for camera in place_map.camera_table.values()))
    name_of = {key: names.index(camera.name) for key, camera in place_map.camera_table.items()}
    headings = (header.heading_deg(place_map.camera_pose(row)) for row in range(len(place_map)))
    return {
        "frame": header.frame,
        "metric": header.metric,
        "compass": header.origin is not None,
        "axes": (0, 1) if header.origin else widest_axes(place_map.positions),
        "spacing": round(place_map.spacing_m, 3),
        "sessions": [place_map.session_table[key].name for key in number_of],
        "cameras": names,
        "loops": _loops(place_map),
        "place": {
            "id": place_map.ids.tolist(),
            "session": [number_of[int(key)] for key in place_map.sessions],
            "camera": [name_of[int(key)] for key in place_map.cameras],
            # Two numbers: JavaScript's have 53 bits, and a stamp in nanoseconds takes 61.
            "seconds": (place_map.stamps_ns // _NANOSECONDS).tolist(),
            "nanoseconds": (place_map.stamps_ns % _NANOSECONDS).tolist(),
            "position": place_map.positions.round(3).tolist(),
            "quaternion": place_map.quaternions.round(5).tolist(),
            "heading": [None if heading is None else round(heading, 1) for heading in headings],
            "geo": [_known(row) for row in place_map.geo.tolist()] if header.geo_tagged else [],
        },
    }


def _loops(place_map: PlaceMap) -> dict[str, object] | None:
    """Closures as pairs of rows and whether the pose graph believed them, and where each place was by odometry alone;
    None in a map on which no loops were closed."""
    with connect(place_map.path) as connection:
        closures = read_closures(connection, place_map.path)
        measured = read_odometry(connection, place_map.path)
    if not closures:
        return None
    row_of = {number: row for row, number in enumerate(place_map.ids.tolist())}
    before: list[list[float] | None] = [None] * len(place_map)
    for session in np.unique(place_map.sessions):
        rows = [row for row in np.flatnonzero(place_map.sessions == session) if int(place_map.ids[row]) in measured]
        poses = [measured[int(place_map.ids[row])].pose for row in rows]
        for row, pose in zip(rows, poses, strict=True):  # from where the session begins in the map
            moved = place_map.camera_pose(int(rows[0])) @ poses[0].inverse() @ pose
            before[row] = moved.position.round(3).tolist()
    pairs = [(row_of[one.old], row_of[one.new], one.weight >= BELIEVED) for one in closures]
    return {"closures": pairs, "before": before}


def _known(geo: list[float]) -> list[float | None]:
    latitude, longitude, altitude = (value if np.isfinite(value) else None for value in geo)
    return [
        None if latitude is None else round(latitude, 8),  # a millimetre
        None if longitude is None else round(longitude, 8),
        None if altitude is None else round(altitude, 3),
    ]
