"""What a map holds, in words: for `map info`, and for the page of `map view`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from d2vpr_ros.describe import ModelIdentity
from d2vpr_ros.mapping.database import connect
from d2vpr_ros.mapping.header import Session
from d2vpr_ros.mapping.landmark_table import has_landmarks
from d2vpr_ros.mapping.loop_table import has_table
from d2vpr_ros.mapping.place_map import PlaceMap
from d2vpr_ros.mapping.store import iso


@dataclass(frozen=True)
class SessionSummary:
    """One session of a map: its key in the map, what is stored of it, and what its places span.

    `when` is the time from the first place to the last, UTC; empty without places.
    """

    key: int
    session: Session
    places: int
    cameras: tuple[str, ...]
    when: str


def summarise_sessions(place_map: PlaceMap) -> list[SessionSummary]:
    """Every session in the order it was added, those without places too."""
    summaries = []
    for key, session in sorted(place_map.session_table.items()):
        rows = place_map.sessions == key
        stamps = place_map.stamps_ns[rows]
        names = (place_map.camera_table[int(camera)].name for camera in np.unique(place_map.cameras[rows]))
        when = _span(int(stamps.min()), int(stamps.max())) if len(stamps) else ""
        summaries.append(SessionSummary(key, session, len(stamps), tuple(names), when))
    return summaries


def facts(place_map: PlaceMap) -> dict[str, str]:
    """What there is to say about a map as a whole, name by name."""
    header = place_map.header
    sizes = place_map.picture_sizes()
    pictures = int(np.count_nonzero(sizes))
    cameras = dict.fromkeys(
        f"{camera.name} {camera.width}x{camera.height}" for camera in place_map.camera_table.values()
    )
    return {
        "places": str(len(place_map)),
        "spacing": f"{place_map.spacing_m:.2f} m (median)" if header.metric else "by time, no metres",
        "extent": extent(place_map),
        **_stated(place_map),
        "frame": header.frame,
        "geo-tagged": _geography(place_map),
        "cameras": ", ".join(cameras),
        "pictures": f"{pictures} of {len(place_map)} places, {megabytes(int(sizes.sum()))}" if pictures else "none",
        **({"16-bit images": "{} is black, {} white".format(*header.image_range)} if header.image_range else {}),
        **_landmarks(place_map),
        **_loops(place_map),
        "descriptor": f"{header.descriptor_width} numbers",
        "model": f"{header.model.architecture} {header.model.weights_sha256[:12]}",
        "projection": _projection(header.model),
        "calibrated": ", ".join(way.replace("_", " ") for way in header.calibrations) or "as every map",
        "file": megabytes(place_map.path.stat().st_size),
    }


def stated_sigma_m(place_map: PlaceMap) -> float | None:
    """Deviation of the places' positions, by the covariances that came with their poses: the median, each along its
    worst horizontal direction, metres. None where the poses came without."""
    stated = place_map.covariances[:, :2, :2]
    stated = stated[np.isfinite(stated).all(axis=(1, 2))].astype(np.float64)
    return float(np.sqrt(np.median(np.linalg.eigvalsh(stated)[:, -1]).clip(0.0))) if len(stated) else None


def _stated(place_map: PlaceMap) -> dict[str, str]:
    sigma_m = stated_sigma_m(place_map)
    return {} if sigma_m is None else {"poses": f"exact to {sigma_m:.2f} m (stated standard deviation, median)"}


def _landmarks(place_map: PlaceMap) -> dict[str, str]:
    with connect(place_map.path) as connection:
        if not has_landmarks(connection):
            return {}
        query = "SELECT count(*), total(length(points)) FROM landmarks WHERE length(points) > 0"
        places, size = connection.execute(query).fetchone()
    return {"landmarks": f"{places} of {len(place_map)} places, {megabytes(int(size))}"}


def _loops(place_map: PlaceMap) -> dict[str, str]:
    with connect(place_map.path) as connection:
        if not has_table(connection, "closures"):
            return {}
        closures, revisits = connection.execute("SELECT count(*), count(DISTINCT run) FROM closures").fetchone()
    return {"loops closed": f"{closures} closures at {revisits} revisits"}


def extent(place_map: PlaceMap) -> str:
    """How far the places reach along each axis of the map frame."""
    if not place_map.header.metric:
        return f"{len(place_map)} frames, no metres"
    return " x ".join(f"{metres:.1f}" for metres in np.ptp(place_map.positions, axis=0)) + " m"


def megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _geography(place_map: PlaceMap) -> str:
    if not place_map.header.geo_tagged:
        return "no"
    tagged = int(np.isfinite(place_map.geo[:, :2]).all(axis=1).sum())
    origin = place_map.header.origin
    at = f", frame at {origin.latitude:.7f}, {origin.longitude:.7f}" if origin else ", frame not tied to the earth"
    return f"{tagged} of {len(place_map)} places{at}"


def _span(first_ns: int, last_ns: int) -> str:
    """Two times in UTC, to the second; the day of the second only if it is another."""
    first, last = (iso(stamp)[:19].replace("T", " ") for stamp in (first_ns, last_ns))
    return f"{first} to {last[11:] if last[:10] == first[:10] else last} UTC"


def _projection(model: ModelIdentity) -> str:
    if not model.projection:
        return "none"
    return model.projection + (f", fitted on {model.projection_fitted_on}" if model.projection_fitted_on else "")
